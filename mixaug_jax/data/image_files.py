"""Image files that a user names, one by one or by their folders."""

import pathlib
from collections.abc import Sequence

from mixaug_jax.data.folder import EXTENSIONS
from mixaug_jax.errors import UserError


def find(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """Returns the files among `paths`, and the images below the folders.

  Raises:
    UserError: a folder without an image.
  """
  files = []
  for path in paths:
    if not path.is_dir():
      files.append(path)
      continue
    found = [
      file
      for file in sorted(path.rglob("*"))
      if file.suffix.lower() in EXTENSIONS and file.is_file()
    ]
    if not found:
      raise UserError(f"there is no image in {path} ({', '.join(EXTENSIONS)})")
    files += found
  return files
