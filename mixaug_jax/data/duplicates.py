"""Images that stand in two splits or under two labels, by their pixels."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Examples:
  """What is compared of a split.

  Attributes:
    ids: the name of each example.
    labels: class ids, int `[N]`.
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
  across = {}
  for first, second in itertools.combinations(splits, 2):
    ours, theirs = splits[first], splits[second]
    hashes, rows = np.unique(ours.hashes, return_index=True)
    places = np.searchsorted(hashes, theirs.hashes).clip(max=len(hashes) - 1)
    pairs = [
      (ours.ids[int(rows[places[row]])], theirs.ids[int(row)])
      for row in np.flatnonzero(hashes[places] == theirs.hashes)
    ]
    if pairs:
      across[first, second] = pairs
  every = list(splits.values())
  labels = np.concatenate([x.labels for x in every])
  _, firsts, group = np.unique(
    np.concatenate([x.hashes for x in every]),
    return_index=True,
    return_inverse=True,
  )
  original = firsts[group]
  differ = np.flatnonzero(labels != labels[original])
  firsts_of = np.cumsum([0, *(len(x.labels) for x in every)])

  def name(row: int) -> str:
    """The id of an example of all splits together."""
    number = int(np.searchsorted(firsts_of, row, "right")) - 1
    return every[number].ids[row - int(firsts_of[number])]

  return Duplicates(
    across, [(name(int(original[row])), name(int(row))) for row in differ]
  )
