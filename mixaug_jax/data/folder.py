"""A folder of image files as a data source."""

import os
import pathlib
import re

from mixaug_jax.data import class_names as class_names_lib
from mixaug_jax.data import packed, split_names, tree
from mixaug_jax.data.labelled_files import LabelledFiles
from mixaug_jax.errors import UserError
from mixaug_jax.names import local_path, printable

_OUTSIDE = "images outside of a class folder"
_ADVICE = (
  "; move its images into a folder for each class, or list them in a CSV file "
  "(config.data.name=csv)"
)


class Folder(LabelledFiles):
  """A folder of images, `CLASS/FILE`, in the order of their names.

  Folders below a class folder belong to the class.

  Args:
    root: the folder of one split.
    class_names: the classes that may occur; None takes the class folders.
    base: the folder that ids are relative to; None: the one around `root`.

  Raises:
    UserError: no images, no permission, or a class that is not in
      `class_names`.
  """

  @classmethod
  def splits(
    cls, directory: str | None, test: bool = True
  ) -> dict[str, "Folder"]:
    """Opens the splits of a folder, under their usual names.

    Args:
      directory: the folder.
      test: whether to read the split test.

    Returns:
      `train` and, where they exist, `validation` and `test`. A folder without
      splits, `DIR/<class>/*`, is `all`.

    Raises:
      UserError: no directory, or a mistake in one of the folders.
    """
    if directory is None:
      raise UserError(
        "config.data.dir must name the folder that contains "
        "train/<class>/<image> or <class>/<image>"
      )
    root = local_path("config.data.dir", directory)
    shown = printable(str(root))
    if not os.path.isdir(root):
      raise UserError(
        f"there is no folder {shown} that can be read; config.data.dir must "
        "contain train/<class>/<image> or <class>/<image>"
      )
    if packed.is_packed(root):
      raise UserError(
        f"{shown} is a packed data set; set config.data.name=packed"
      )
    here = tree.Tree(root)
    entries = here.entries(root)
    folders = {os.path.basename(p): p for p, inode in entries if inode}
    roles = split_names.by_role(folders, shown)
    if not folders:
      raise UserError(
        f"{shown} contains neither train/<class>/<image> nor <class>/<image>"
        f"{_ADVICE if entries else ''}"
      )
    if not roles:
      _refuse_splits(shown, folders)
      return {"all": cls(root, base=root)}
    if "train" not in roles:
      raise UserError(
        f"{shown} has {' and '.join(roles.values())}, but no train; add "
        "train/<class>/<image>, or rename a folder that is a class"
      )
    train = cls(pathlib.Path(folders[roles["train"]]))
    sources: dict[str, Folder] = {"train": train}
    for role, name in list(roles.items())[1:]:
      if role == "test" and not test:
        continue
      path = folders[name]
      content = tree.Tree(path).entries(path)
      if content and not any(inode for _, inode in content):
        for image, _ in content:
          here.leave_out(f"images of {name}/ without a class", image)
      else:
        sources[role] = cls(pathlib.Path(path), train.class_names)
    for path, inode in entries:
      if inode is None:
        here.leave_out(_OUTSIDE, path)
      elif os.path.basename(path) not in roles.values():
        here.leave_out("folders that are no split", path)
    for reason, names in here.left_out.items():
      train.left_out[reason] = [*names, *train.left_out.get(reason, ())]
    return sources

  def __init__(
    self,
    root: pathlib.Path,
    class_names: tuple[str, ...] | None = None,
    base: pathlib.Path | None = None,
  ):
    base = root.parent if base is None else base
    found = tree.Tree(base)
    folders: dict[str, list[str]] = {}
    for path, inode in found.entries(root):
      if inode is None:
        found.leave_out(_OUTSIDE, path)
      else:
        name = class_names_lib.canonical(os.path.basename(path))
        folders.setdefault(name, []).append(path)
    shown = printable(str(root))
    if not folders and _OUTSIDE in found.left_out:
      raise UserError(f"{shown} has no folders for the classes{_ADVICE}")
    if class_names is None:
      _refuse_nested(root, folders)
    known = sorted(folders) if class_names is None else class_names
    if unknown := set(folders) - set(known):
      raise UserError(
        f"{shown} has a class that train does not have: {min(unknown)}; all "
        "splits must have the classes of train (config.data.test=false leaves "
        "test unread)"
      )
    files, labels = [], []
    for label, name in enumerate(known):
      images = [
        image for path in folders.get(name, ()) for image in found.images(path)
      ]
      if not images and class_names is None:
        raise UserError(tree.no_image(folders[name][0]))
      files += images
      labels += [label] * len(images)
    if not files:
      raise UserError(f"there is no image in {shown}/<class>")
    ids = [found.name(file) for file in files]
    super().__init__(base, files, ids, labels, tuple(known), found.left_out)


def _refuse_splits(shown: str, folders: dict[str, str]) -> None:
  """Raises UserError if what would be classes looks like splits."""
  roles = {name: _role_in(name) for name in folders}
  named = [name for name, role in roles.items() if role]
  if len(set(roles.values()) - {None}) > 1:
    raise UserError(
      f"{shown} has the folders {printable(', '.join(sorted(named)))}, which "
      f"look like splits; name them {', '.join(split_names.NAMES)}"
    )
  for name, path in folders.items():
    below = [os.path.basename(p) for p, _ in tree.Tree(path).entries(path)]
    inside = split_names.by_role(below, printable(path))
    if len(inside) > 1:
      raise UserError(
        f"{printable(path)} has {' and '.join(inside.values())}, which look "
        f"like splits; move them up, as in train/{printable(name)}"
      )


def _role_in(name: str) -> str | None:
  """Returns the split that a word of a name stands for, as in `test_set`."""
  words = re.findall(r"[a-z]+", name.lower())
  for role, usual in split_names.NAMES.items():
    if set(usual) & set(words):
      return role
  return None


def _refuse_nested(root: pathlib.Path, folders: dict[str, list[str]]) -> None:
  """Raises UserError if the only class folder holds folders: train/train/*."""
  if len(folders) > 1:
    return
  for name, (path, *_) in folders.items():
    below = any(inode for _, inode in tree.Tree(path).entries(path))
    if below or name == root.name:
      raise UserError(
        f"{printable(str(root))} contains only the folder {name}; move its "
        f"content up one level, or set config.data.dir={printable(path)}"
      )
