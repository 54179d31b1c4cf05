"""What lies in a folder: image files, other folders, and what is left out.

Hidden files and folders and those that systems and tools leave behind are left
out at any depth. Links to folders are followed.
"""

import errno
import os
import re
from collections.abc import Mapping, Sequence

from mixaug_jax.errors import UserError
from mixaug_jax.names import printable

# The suffixes of the formats that the decoder reads, in lower case.
SUFFIXES = (
  *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp"),
  *(".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
)

# In lower case. Names that begin with a dot are left out as well.
_SYSTEM = {
  *("__macosx", "__pycache__", "lost+found", "network trash folder"),
  *("temporary items", "icon\r"),  # Of macOS.
  *("$recycle.bin", "system volume information", "recycler"),  # Of Windows.
  *("thumbs.db", "ehthumbs.db", "desktop.ini"),
  # Of network storage (Synology, QNAP).
  *("@eadir", "#recycle", "#snapshot", "@recycle", "@__thumb", "@tmp"),
}
_USUAL_SUFFIX = re.compile(r"\.(?!\d+$)[a-z0-9]{1,8}")


class Tree:
  """Lists image files, and collects what is left out.

  Args:
    base: the folder that names are relative to.

  Attributes:
    left_out: as in `Source`. The names of folders end with a slash.
  """

  def __init__(self, base: str | os.PathLike):
    self._prefix = os.path.join(base, "")
    self.left_out: dict[str, list[str]] = {}

  def name(self, path: str) -> str:
    """Returns a path below the base, relative to it and printable."""
    return printable(path.removeprefix(self._prefix).replace(os.sep, "/"))

  def leave_out(self, reason: str, path: str) -> None:
    slash = "/" if os.path.isdir(path) else ""
    self.left_out.setdefault(reason, []).append(self.name(path) + slash)

  def entries(
    self, folder: str | os.PathLike[str]
  ) -> list[tuple[str, tuple[int, int] | None]]:
    """Lists the folders and image files in a folder, in the order of names.

    Returns:
      The path of each. A folder has a device and an inode, a file has None.

    Raises:
      UserError: no permission.
    """
    kept, around = [], None
    try:
      os.stat(os.path.join(folder, os.curdir))  # Needs the right to enter.
      with os.scandir(folder) as listing:
        found = sorted(listing, key=lambda entry: entry.name)
      for entry in found:
        reason, identity = _reason(entry), None
        if reason is None and entry.is_dir():
          identity = _identity(entry.path)
          around = _around(folder) if around is None else around
          if identity in around:
            reason = "links back to a folder around them"
        if reason is None:
          kept.append((entry.path, identity))
        else:
          self.leave_out(reason, entry.path)
    except OSError as error:
      raise UserError(
        f"cannot read {printable(str(error.filename))}: {error.strerror}; "
        "change its permissions, or remove it"
      ) from None
    return kept

  def images(self, folder: str | os.PathLike[str]) -> list[str]:
    """Lists the image files below a folder, in the order of their parts.

    Raises:
      UserError: no permission.
    """
    images, read = [], set()
    stack = self.entries(folder)[::-1]
    while stack:
      path, identity = stack.pop()
      if identity is None:
        images.append(path)
      elif identity in read:
        self.leave_out("folders that are linked twice", path)
      else:
        read.add(identity)
        stack += self.entries(path)[::-1]
    return images


def no_image(folder: str | os.PathLike) -> str:
  """Returns the sentence about a folder without images."""
  tree = Tree(folder)
  tree.images(folder)
  other = f", only {counts(tree.left_out)}" if tree.left_out else ""
  return (
    f"there is no image in {printable(str(folder))}{other}; add some "
    f"({', '.join(SUFFIXES)}) or remove the folder"
  )


def counts(left_out: Mapping[str, Sequence[str]]) -> str:
  """Returns the number of names for each reason, as part of a sentence."""
  return ", ".join(f"{len(some):,} {why}" for why, some in left_out.items())


def _reason(entry: os.DirEntry) -> str | None:
  """Returns why an entry is left out; None for a folder or an image file."""
  name = entry.name.lower()
  if name.startswith(".") or name in _SYSTEM:
    kind = "folders" if entry.is_dir(follow_symlinks=False) else "files"
    return f"hidden or system {kind}"
  try:
    if entry.is_dir():
      return None
    if not entry.is_file():
      there = os.path.exists(entry.path)
      return "pipes, sockets and devices" if there else "broken links"
  except OSError as error:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
      return "broken links"
    raise
  suffix = os.path.splitext(name)[1]
  if suffix in SUFFIXES:
    return None
  if _USUAL_SUFFIX.fullmatch(suffix):
    return f"files with the suffix {suffix}"
  return "files without a suffix"


def _identity(path: str) -> tuple[int, int]:
  status = os.stat(path)
  return status.st_dev, status.st_ino


def _around(folder: str | os.PathLike) -> set[tuple[int, int]]:
  """Identifies a folder and those around it, by its path and without links."""
  around = set()
  for path in (os.path.abspath(folder), os.path.realpath(folder)):
    while path not in ("", os.path.dirname(path)):
      around.add(_identity(path))
      path = os.path.dirname(path)
  return around
