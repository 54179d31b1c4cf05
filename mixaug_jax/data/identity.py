"""What the splits of a run are: class names, counts, hashes of ids and pixels.

A run stores it as `data.json`. A resumed run, an evaluation and a comparison
compare it with the data that they find.
"""

import dataclasses
import hashlib
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import PIL

from mixaug_jax.data import ids as ids_lib
from mixaug_jax.data import label_sets
from mixaug_jax.data.class_names import composed

_CHUNK = 4096  # Examples that are described at a time.


@dataclasses.dataclass(frozen=True)
class SplitIdentity:
  """What a split is.

  Attributes:
    examples: their number.
    per_class: their number by class id.
    ids: a hash of the ids and labels, in order.
    pixels: a hash of the decoded images, in order.
  """

  examples: int
  per_class: list[int]
  ids: str
  pixels: str

  @classmethod
  def of(
    cls,
    ids: Sequence[str],
    labels: np.ndarray,
    hashes: np.ndarray,
    classes: int,
  ) -> "SplitIdentity":
    """Describes a split.

    Args:
      ids: the name of each example.
      labels: class ids, int32 `[N]`, or label sets, uint8 `[N, C]`.
      hashes: of the pixels, uint64 `[N]`.
      classes: their number.
    """
    names = hashlib.sha256()
    for part in ids_lib.joined(ids):
      names.update(composed(part).encode())
    names.update(np.asarray(labels, "<i4").tobytes())
    return cls(
      examples=len(ids),
      per_class=label_sets.counts(labels, classes),
      ids=names.hexdigest(),
      pixels=hashlib.sha256(np.asarray(hashes, "<u8").tobytes()).hexdigest(),
    )


@dataclasses.dataclass(frozen=True)
class Identity:
  """What the data of a run are, the content of `data.json`.

  Attributes:
    class_names: by class id.
    splits: by name.
    drawn_from: a hash of all examples of train and validation together, from
      which the seed draws.
    left_out: by split and reason, how many files or examples were left out.
    in_two_splits: by two splits, how many images of the second one are also in
      the first one.
    under_two_labels: how many images have a copy with another label.
    pillow: the version of Pillow, which decoded the images.
  """

  class_names: list[str]
  splits: dict[str, SplitIdentity]
  drawn_from: str
  left_out: dict[str, dict[str, int]]
  in_two_splits: dict[str, int]
  under_two_labels: int
  pillow: str = PIL.__version__

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def changes(
  there: Identity, here: Identity, splits: Iterable[str] | None = None
) -> list[str]:
  """Returns what differs between two identities, as a sentence each.

  Pixels that another version of Pillow decoded may differ in the last bits, so
  they are compared only between equal versions.

  Args:
    there: the data that a run was trained on.
    here: the data that is found now.
    splits: the splits to compare; None compares all.
  """
  lines = []
  if there.class_names != here.class_names:
    return [_class_changes(there.class_names, here.class_names)]
  if splits is None:
    splits = {**there.splits, **here.splits}
  for name in splits:
    before, now = there.splits.get(name), here.splits.get(name)
    if before is None or now is None:
      if before is not now:
        lines.append(f"there is {'no' if now is None else 'a new'} {name} now")
    elif before.per_class != now.per_class:
      lines.append(_count_changes(name, there.class_names, before, now))
    elif before.ids != now.ids:
      lines.append(f"other images, or another order, are in {name}")
    elif before.pixels != now.pixels and there.pillow == here.pillow:
      lines.append(f"images of {name} have other pixels")
  return lines


def draws_from(
  parts: Iterable[tuple[Sequence[str], np.ndarray, np.ndarray]],
) -> str:
  """Returns `Identity.drawn_from`.

  Args:
    parts: ids, labels as in `SplitIdentity.of` and hashes of pixels `[N]` of
      train and validation.
  """
  digest = hashlib.sha256()
  lines = heapq.merge(*(_sorted_lines(*part) for part in parts))
  between = ""
  while some := "\n".join(itertools.islice(lines, _CHUNK)):
    digest.update(f"{between}{some}".encode())
    between = "\n"
  return digest.hexdigest()


def _sorted_lines(
  ids: Sequence[str], labels: np.ndarray, hashes: np.ndarray
) -> Iterable[str]:
  """Describes each example of a part by a line, in the order of the lines."""
  if isinstance(ids, ids_lib.StoredIds):
    # Their sorted order is stored, so that the lines need not be in memory.
    # An id is unique, so labels and hashes do not decide the order.
    order = ids.in_order()
    return _lines(ids.of(order), labels, hashes, order)
  return sorted(_lines(ids, labels, hashes, np.arange(len(ids))))


def _lines(
  ids: Iterable[str],
  labels: np.ndarray,
  hashes: np.ndarray,
  rows: np.ndarray,
) -> Iterator[str]:
  """Yields a line for each id, whose label and hash stand in `rows`."""
  names = iter(ids)
  for first in range(0, len(rows), _CHUNK):
    some = rows[first : first + _CHUNK]
    for name, label, pixels in zip(
      itertools.islice(names, len(some)),
      labels[some].tolist(),
      hashes[some].tolist(),
      strict=True,
    ):
      yield f"{composed(name)}\0{label}\0{pixels}"


def changes_of_seed(there: Identity, here: Identity) -> list[str]:
  """Returns what differs apart from what the seed draws, as `changes` does.

  A test split that only one of them read is no difference.
  """
  both = there.splits.keys() & here.splits.keys()
  lines = changes(there, here, both & {"test"})
  if there.drawn_from != here.drawn_from and there.pillow == here.pillow:
    lines.append("the images of train and validation differ")
  return lines


def _class_changes(before: Sequence[str], now: Sequence[str]) -> str:
  gone = [name for name in before if name not in now]
  new = [name for name in now if name not in before]
  parts = [
    f"the class {some[0]} is {what}"
    if len(some) == 1
    else f"the classes {', '.join(some[:5])} are {what}"
    for some, what in ((gone, "gone"), (new, "new"))
    if some
  ]
  return " and ".join(parts) or "the classes have another order"


def _count_changes(
  name: str,
  class_names: Sequence[str],
  before: SplitIdentity,
  now: SplitIdentity,
) -> str:
  changed = [
    f"{class_name} {new} instead of {old}"
    for class_name, old, new in zip(
      class_names, before.per_class, now.per_class, strict=True
    )
    if old != new
  ]
  more = f" and {len(changed) - 3} classes more" if len(changed) > 3 else ""
  total = (
    f"{now.examples:,} images instead of {before.examples:,}"
    if now.examples != before.examples
    else "images of other classes"
  )
  return f"{name} has {total} ({', '.join(changed[:3])}{more})"
