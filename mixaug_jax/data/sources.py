"""The contract of a data source: random access to images and their labels.

A source is any object with the attributes and methods of `Source`. docs/data.md
shows a complete one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np

from mixaug_jax.data import ids as ids_lib
from mixaug_jax.data.label_sets import are_sets, of_item
from mixaug_jax.errors import UserError

if TYPE_CHECKING:
  from mixaug_jax.data.decode import Settings
  from mixaug_jax.data.decoding import Rows


class DamagedData(UserError):  # noqa: N818
  """The data set itself is damaged, and not one image of it."""


class Item(TypedDict):
  """One example: an encoded image or an array; its class or labels; a name.

  An array is `[H, W]`, `[H, W, 1]` or `[H, W, 3]`, of uint8 or of floats in
  [0, 1].
  """

  image: bytes | np.ndarray
  label: int | np.ndarray
  id: str


class Source(Protocol):
  """Random access to the examples of one split.

  Attributes:
    class_names: the name of every class id.
    labels: int32 `[N]`, known without decoding an image. Of a `CsvSource` with
      label sets: uint8 `[N, C]`.
    ids: a name for each example that identifies its origin, printable and
      unique in the split.

  A source may also have `left_out`, a dictionary. Its keys are reasons, as
  nouns in the plural such as `hidden files`; its values list the names of what
  was found and is not read for this reason.

  One whose images were decoded before may have `described(square, rows)`, as
  in `packed.Packed`.
  """

  @property
  def class_names(self) -> tuple[str, ...]: ...

  @property
  def labels(self) -> np.ndarray: ...

  @property
  def ids(self) -> Sequence[str]: ...

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Item: ...

  def fingerprint(self) -> str:
    """A text that changes when an image, a label or their order changes."""
    ...


class Opener(Protocol):
  """An object that opens a data set, such as a class with this classmethod."""

  def splits(self, directory: str | None) -> Mapping[str, Source]:
    """Opens the splits of the data set, without decoding an image.

    Args:
      directory: `config.data.dir`; None where the data set needs none.

    Returns:
      `train` and, where they exist, `validation` and `test`; or only `all`, a
      source without splits, which is divided by the seed and the fractions of
      the config. All have the same class names.

    Raises:
      UserError: a mistake of the user, such as a missing directory.
    """
    ...


def described(
  source: Source, square: "Settings", rows: np.ndarray
) -> "Rows | None":
  """Returns what a source knows of its squares, as in `packed.Packed`."""
  known = getattr(source, "described", None)
  return None if known is None else known(square, rows)


class Subset:
  """Some examples of a source, with class ids of their own.

  Args:
    source: the source of the examples.
    rows: the rows of the examples in it, int `[M]`.
    labels: their class ids, int32 `[M]`, or their label sets, uint8 `[M, C]`.
    class_names: by these class ids.
  """

  def __init__(
    self,
    source: Source,
    rows: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
  ):
    self._source, self._rows = source, np.asarray(rows)
    self.labels = labels if are_sets(labels) else np.asarray(labels, np.int32)
    self.class_names = tuple(class_names)
    self.ids = ids_lib.take(source.ids, self._rows)

  @property
  def boxes(self) -> np.ndarray | None:
    """Bounding boxes as in `Tfds.boxes`; None if the source has none."""
    boxes = getattr(self._source, "boxes", None)
    return None if boxes is None else boxes[self._rows]

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> Item:
    item = self._source[int(self._rows[index])]
    return {**item, "label": of_item(self.labels[index])}

  def described(self, square: "Settings", rows: np.ndarray) -> "Rows | None":
    """As in `packed.Packed`."""
    return described(self._source, square, self._rows[rows])

  def fingerprint(self) -> str:
    digest = hashlib.sha256(self._source.fingerprint().encode())
    digest.update(self._rows.astype(np.int64).tobytes())
    return digest.hexdigest()
