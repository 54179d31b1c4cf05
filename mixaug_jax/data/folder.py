"""A folder of image files as a data source."""

import hashlib
import pathlib

import numpy as np

from mixaug_jax.data.sources import Item
from mixaug_jax.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")


class Folder:
  """A folder of images, `CLASS/FILE`, in the order of their names.

  Args:
    root: the folder of one split.
    class_names: the classes that may occur; None takes the sub-folders.

  Raises:
    UserError: no folder, no images, or a class that is not in `class_names`.
  """

  @classmethod
  def splits(cls, directory: str | None) -> dict[str, "Folder"]:
    """Opens the folders `train/` and, where they exist, `validation/`, `test/`.

    Raises:
      UserError: no directory, or a mistake in one of the folders.
    """
    if directory is None:
      raise UserError(
        "config.data.dir must name the folder that contains "
        "train/<class>/<image>"
      )
    root = pathlib.Path(directory)
    train = cls(root / "train")
    others = {
      name: cls(root / name, train.class_names)
      for name in ("validation", "test")
      if (root / name).is_dir()
    }
    return {"train": train, **others}

  def __init__(
    self, root: pathlib.Path, class_names: tuple[str, ...] | None = None
  ):
    if not root.is_dir():
      raise UserError(
        f"there is no folder {root}; config.data.dir must contain "
        "train/<class>/<image>"
      )
    found = tuple(sorted(x.name for x in root.iterdir() if x.is_dir()))
    self.class_names = found if class_names is None else class_names
    if unknown := set(found) - set(self.class_names):
      raise UserError(
        f"{root} has a class that train does not have: {min(unknown)}; all "
        "splits must have the classes of train"
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
          f"there is no image in {folder}; add some "
          f"({', '.join(EXTENSIONS)}) or remove the folder"
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
