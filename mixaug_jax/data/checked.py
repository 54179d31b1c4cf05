"""Checks what a data source gives, which may be a user's own code."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixaug_jax.data import class_names as class_names_lib
from mixaug_jax.data import label_sets
from mixaug_jax.data.csv_source import CsvSource
from mixaug_jax.data.decode import Settings
from mixaug_jax.data.decoding import Rows
from mixaug_jax.data.ids import StoredIds
from mixaug_jax.data.sources import Item, described
from mixaug_jax.errors import UserError, first_line
from mixaug_jax.names import printable

ROLES = ("train", "validation", "test")


class Checked:
  """A source whose attributes are what `Source` describes.

  Args:
    split: the name of the split, for messages.
    source: what the user's code gives. Labels may be any sequence of integers,
      and ids of anything that makes a text.

  Raises:
    UserError: an attribute is missing or wrong.
  """

  def __init__(self, split: str, source: Any):
    self._source = source
    try:
      self._length = len(source)
      labels = np.asarray(source.labels)
      self._sets = isinstance(source, CsvSource) and label_sets.are_sets(labels)
      self.ids: Sequence[str] = (
        source.ids  # Unique and printable.
        if isinstance(source.ids, StoredIds)
        else [_shown(str(name)) for name in source.ids]
      )
      self.class_names = tuple(source.class_names)
      self._fingerprint = source.fingerprint()
      self.left_out = {
        _shown(reason): [_shown(str(name)) for name in names]
        for reason, names in getattr(source, "left_out", {}).items()
        if len(names)
      }
    except Exception as error:  # The user's own code may raise anything.
      raise UserError(
        f"the source of {split} is not one that docs/data.md describes: "
        f"{type(error).__name__}: {first_line(error)}"
      ) from error
    if why := self._mistake(labels):
      raise UserError(f"the source of {split} {why}")
    self.class_names = tuple(map(_shown, self.class_names))
    sets = label_sets.are_sets(labels)
    self.labels = labels.astype(np.uint8 if sets else np.int32)

  def _mistake(self, labels: np.ndarray) -> str:
    """Returns what is wrong with the attributes, or an empty text."""
    if not self._sets and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
      return (
        f"has labels of the type {labels.dtype} and the shape "
        f"{list(labels.shape)}; they must be integers [N]"
      )
    if not self._length == len(self.ids) == len(labels):
      return (
        f"has {self._length} examples, {len(labels)} labels and "
        f"{len(self.ids)} ids; it must have as many of each"
      )
    if not isinstance(self.ids, StoredIds) and (twice := _repeated(self.ids)):
      return f"has the id {twice} twice; every example needs an id of its own"
    if not isinstance(self._fingerprint, str):
      return f"has the fingerprint {self._fingerprint!r}, which is not a text"
    if not all(isinstance(name, str) for name in self.class_names):
      return f"has class names that are no texts: {self.class_names[:5]}"
    composed = [class_names_lib.composed(name) for name in self.class_names]
    if twice := _repeated(composed):
      return f"has two classes of the name {twice}; give each its own"
    return "" if self.class_names else "has no class"

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> Item:
    return self._source[index]

  def fingerprint(self) -> str:
    return self._fingerprint

  def described(self, square: Settings, rows: np.ndarray) -> Rows | None:
    """As in `packed.Packed`."""
    return described(self._source, square, rows)

  @property
  def boxes(self) -> np.ndarray | None:
    """Bounding boxes as in `Tfds.boxes`; None if the source has none."""
    return getattr(self._source, "boxes", None)


def sources(found: Any, for_training: bool = True) -> dict[str, Checked]:
  """Checks the splits of a data set.

  Args:
    found: what `Opener.splits` returned.
    for_training: whether there must be `train` or `all`.

  Raises:
    UserError: they are not `train` with `validation` and `test`, or `all`; or
      one of them is not a source.
  """
  if not isinstance(found, Mapping):
    raise UserError(
      "the data set must give a dict of splits, such as {'train': ...}, not "
      f"{type(found).__name__}"
    )
  names = list(found)
  if unknown := [name for name in names if name not in (*ROLES, "all")]:
    raise UserError(
      f"the data set has the split {unknown[0]!r}; the names of splits are "
      f"{', '.join(ROLES)}, or only all"
    )
  if "all" in names and len(names) > 1:
    raise UserError(
      f"the data set has the splits {', '.join(names)}; all stands alone"
    )
  if for_training and not {"train", "all"} & set(names):
    raise UserError(
      f"the data set has no split train, but {', '.join(names) or 'none'}"
    )
  checked = {
    name: source if isinstance(source, Checked) else Checked(name, source)
    for name, source in found.items()
  }
  first, *others = checked.items()
  for name, source in others:
    if source.class_names != first[1].class_names:
      raise UserError(
        f"the source of {name} has other class names than {first[0]}; all "
        "splits must have the same"
      )
  return checked


def _shown(name: str) -> str:
  """Returns a name as it is, or escaped if it cannot be printed."""
  return name if name.isprintable() else printable(name)


def _repeated(names: Sequence[str]) -> str | None:
  """Returns a name that occurs twice, or None."""
  seen: set[str] = set()
  for name in names:
    if name in seen:
      return name
    seen.add(name)
  return None
