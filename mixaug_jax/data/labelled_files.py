"""A source of image files whose classes are known."""

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from mixaug_jax.data import regular_file
from mixaug_jax.data.label_sets import are_sets, of_item
from mixaug_jax.data.sources import Item


class LabelledFiles:
  """Image files and their classes; see `Source`.

  Args:
    root: the folder that `ids` are relative to.
    files: the path of each image. A file that is missing is an image that
      cannot be read.
    ids: as in `Source`.
    labels: likewise.
    class_names: likewise.
    left_out: likewise.

  Attributes:
    files: the path of each image.
  """

  def __init__(
    self,
    root: str | os.PathLike,
    files: Sequence[str],
    ids: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    class_names: tuple[str, ...],
    left_out: Mapping[str, Sequence[str]],
  ):
    self._root = os.path.abspath(root)
    self.files = files
    self.ids = ids
    labels = np.asarray(labels)
    self.labels = labels.astype(np.uint8 if are_sets(labels) else np.int32)
    self.class_names = class_names
    self.left_out = dict(left_out)

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> Item:
    return {
      "image": regular_file.read(self.files[index]),
      "label": of_item(self.labels[index]),
      "id": self.ids[index],
    }

  def fingerprint(self) -> str:
    """Hashes names, sizes and times of the files, labels and class names."""
    digest = hashlib.sha256(os.fsencode(self._root))
    for name in self.class_names:
      digest.update(f"\0{name}".encode())
    for file, name, label in zip(
      self.files, self.ids, self.labels, strict=True
    ):
      # The text of a long row leaves its middle out.
      text = label.tobytes().hex() if label.ndim else f"{label}"
      digest.update(f"\n{name}\0{text}\0{state(file)}".encode())
    return digest.hexdigest()


def state(file: str) -> str:
  """Returns a text that changes when a file does."""
  try:
    status, link = os.stat(file), os.lstat(file)
  except OSError:
    return "missing"
  # The change times differ after files or links were exchanged.
  return (
    f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0"
    f"{link.st_ctime_ns}"
  )
