"""Where images come from: random access to bytes or arrays, and labels.

A source is anything with the attributes and methods of `Source`;
docs/data.md shows how to write one in a page.
"""

import hashlib
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

import numpy as np

from mixaug_jax.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")


class Item(TypedDict):
  """One example: an encoded image, or uint8 `[H, W, 3]`; its class; a name."""

  image: bytes | np.ndarray
  label: int
  id: str


class Source(Protocol):
  """Random access to the examples of one split.

  Attributes:
    class_names: of every class id.
    labels: int32 `[N]`, known without decoding an image.
    ids: a name for each example that says where it came from.
  """

  class_names: tuple[str, ...]
  labels: np.ndarray
  ids: Sequence[str]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Item: ...

  def fingerprint(self) -> str:
    """A text that changes when an image, a label or their order does."""


class Digits:
  """scikit-learn's 8x8 digits, real ones, as greyscale RGB.

  1,000 of the 1,797 are the test set, always the same; the others are for
  training and validation.
  """

  class_names = tuple("0123456789")

  def __init__(self, split: str):
    images, labels = _digits()
    order = np.random.default_rng(0).permutation(len(labels))
    rows = order[:1000] if split == "test" else order[1000:]
    images = np.round(images[rows] * (255 / 16)).astype(np.uint8)
    self._images = np.repeat(images[..., None], 3, axis=-1)
    self.labels = labels[rows].astype(np.int32)
    self.ids = [f"digits/{row:04}" for row in rows]

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Item:
    return {
      "image": self._images[index],
      "label": int(self.labels[index]),
      "id": self.ids[index],
    }

  def fingerprint(self) -> str:
    return hashlib.sha256(self._images.tobytes()).hexdigest()


def _digits() -> tuple[np.ndarray, np.ndarray]:
  """What `sklearn.datasets.load_digits` returns, from the file that it reads.

  Importing scikit-learn takes as long as importing JAX.

  Returns:
    Images, of 0.0 to 16.0, `[1797, 8, 8]`, and classes `[1797]`.
  """
  package = importlib.util.find_spec("sklearn")
  (root,) = package.submodule_search_locations
  path = pathlib.Path(root, "datasets", "data", "digits.csv.gz")
  rows = np.loadtxt(path, delimiter=",")
  return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]


class Folder:
  """A folder of images, `CLASS/FILE`, in the order of their names.

  Args:
    root: the folder of one split.
    class_names: the classes that there may be; None takes the sub-folders.

  Raises:
    UserError: no folder, no images, or a class that is not in `class_names`.
  """

  def __init__(
    self, root: pathlib.Path, class_names: tuple[str, ...] | None = None
  ):
    if not root.is_dir():
      raise UserError(
        f"there is no folder {root}; config.data.dir must hold "
        "train/<class>/<image>"
      )
    found = tuple(sorted(x.name for x in root.iterdir() if x.is_dir()))
    self.class_names = found if class_names is None else class_names
    if unknown := set(found) - set(self.class_names):
      raise UserError(
        f"{root} has a class that train has not: {min(unknown)}; the classes "
        "of all splits must be those of train"
      )
    self._root = root
    self._files: list[pathlib.Path] = []
    labels = []
    for label, name in enumerate(self.class_names):
      folder = root / name
      files = sorted(
        path
        for path in (folder.rglob("*") if folder.is_dir() else ())
        if path.suffix.lower() in EXTENSIONS and path.is_file()
      )
      if not files and class_names is None:
        raise UserError(
          f"there is no image in {folder}; a class needs some "
          f"({', '.join(EXTENSIONS)}), or remove the folder"
        )
      self._files += files
      labels += [label] * len(files)
    if not self._files:
      raise UserError(f"there is no image in {root}/<class>")
    self.labels = np.array(labels, np.int32)
    self.ids = [str(path.relative_to(root.parent)) for path in self._files]

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> Item:
    return {
      "image": self._files[index].read_bytes(),
      "label": int(self.labels[index]),
      "id": self.ids[index],
    }

  def fingerprint(self) -> str:
    digest = hashlib.sha256(str(self._root.absolute()).encode())
    for path in self._files:
      stat = path.stat()
      digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Subset:
  """Some examples of a source, with classes renumbered if need be.

  Args:
    source: whose examples.
    rows: which of them, int `[M]`.
    classes: the ids of the classes that are left, in their new order; None
      leaves them alone.
  """

  def __init__(
    self,
    source: Source,
    rows: np.ndarray,
    classes: Sequence[int] | None = None,
  ):
    self._source, self._rows = source, np.asarray(rows)
    self.labels = source.labels[self._rows]
    self.class_names = source.class_names
    if classes is not None:
      renumbered = np.full(len(source.class_names), -1, np.int32)
      renumbered[list(classes)] = np.arange(len(classes))
      self.labels = renumbered[self.labels]
      self.class_names = tuple(source.class_names[c] for c in classes)
    self.ids = [source.ids[row] for row in self._rows]

  @property
  def boxes(self) -> np.ndarray | None:
    """Bounding boxes, where the source has them; see `Tfds.boxes`."""
    boxes = getattr(self._source, "boxes", None)
    return None if boxes is None else boxes[self._rows]

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> Item:
    item: Any = self._source[int(self._rows[index])]
    return {**item, "label": int(self.labels[index])}

  def fingerprint(self) -> str:
    digest = hashlib.sha256(self._source.fingerprint().encode())
    digest.update(self._rows.astype(np.int64).tobytes())
    return digest.hexdigest()
