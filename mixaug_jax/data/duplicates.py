"""Images that stand in two splits or under two labels, by their pixels."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mixaug_jax.data.label_sets import are_sets

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Examples:
  """What is compared of a split.

  Attributes:
    ids: the name of each example.
    labels: class ids, int `[N]`, or label sets, uint8 `[N, C]`.
    hashes: of the pixels, uint64 `[N]`.
  """

  ids: Sequence[str]
  labels: np.ndarray
  hashes: np.ndarray


@dataclasses.dataclass(frozen=True)
class Duplicates:
  """Pairs of examples with equal pixels, by their ids.

  Attributes:
    across: by two splits, one pair for each example of the second split that
      the first one holds as well.
    labels: one pair for each example whose pixels an earlier one has under
      another label.
  """

  across: Mapping[tuple[str, str], Sequence[Pair]]
  labels: Sequence[Pair]

  def __bool__(self) -> bool:
    return bool(self.across or self.labels)

  def describe(self) -> list[str]:
    """Returns a sentence for each kind."""
    lines = [
      f"{len(pairs):,} {'image' if len(pairs) == 1 else 'images'} of {second} "
      f"{'is' if len(pairs) == 1 else 'are'} also in {first}; the first: "
      f"{pairs[0][1]}, there {pairs[0][0]}"
      for (first, second), pairs in self.across.items()
    ]
    if self.labels:
      count, (one, other) = len(self.labels), self.labels[0]
      has = "image has" if count == 1 else "images have"
      lines.append(
        f"{count:,} {has} a copy with another label; the first: {other}, a "
        f"copy of {one}"
      )
    return lines


def find(splits: Mapping[str, Examples]) -> Duplicates:
  """Compares the pixels of all examples of all splits."""
  ordered = np.sort(np.concatenate([x.hashes for x in splits.values()]))
  repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
  if not len(repeated):
    return Duplicates({}, [])
  # The rest looks at the few examples that have a copy.
  rows = {name: _among(x.hashes, repeated) for name, x in splits.items()}
  across = {}
  for first, second in itertools.combinations(splits, 2):
    ours, theirs = splits[first], splits[second]
    hashes, originals = np.unique(ours.hashes[rows[first]], return_index=True)
    pairs = [
      (ours.ids[int(rows[first][originals[place]])], theirs.ids[int(row)])
      for row, place in zip(
        rows[second],
        np.searchsorted(hashes, theirs.hashes[rows[second]]),
        strict=True,
      )
      if place < len(hashes) and hashes[place] == theirs.hashes[row]
    ]
    if pairs:
      across[first, second] = pairs
  every = [(x, int(row)) for name, x in splits.items() for row in rows[name]]
  labels = np.array([x.labels[row] for x, row in every])
  _, firsts, group = np.unique(
    np.array([x.hashes[row] for x, row in every]),
    return_index=True,
    return_inverse=True,
  )
  original = firsts[group]
  name = lambda place: every[place][0].ids[every[place][1]]
  other = labels != labels[original]
  differ = np.flatnonzero(other.any(-1) if are_sets(labels) else other)
  return Duplicates(
    across, [(name(original[place]), name(place)) for place in differ]
  )


def _among(hashes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """Returns the positions of hashes that are in `wanted`, which is sorted."""
  places = np.searchsorted(wanted, hashes).clip(max=len(wanted) - 1)
  return np.flatnonzero(wanted[places] == hashes)
