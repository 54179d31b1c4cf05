"""PNG files that name the command that made them.

A command replaces only files that carry its name, so that it never writes over
a file of the user.
"""

import os
import pathlib
import stat

from PIL import Image, PngImagePlugin

from mixaug_jax import files
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable

_KEY = "Software"  # A keyword of the PNG specification, as is Comment.


def save(
  picture: Image.Image, path: pathlib.Path, command: str, comment: str = ""
) -> None:
  """Writes a picture with the name of the command.

  Args:
    picture: the picture.
    path: its place, which ends in `.png`.
    command: such as `predict`.
    comment: a text for the reader of the file.

  Raises:
    OSError: the file cannot be written.
  """
  mark = PngImagePlugin.PngInfo()
  mark.add_text(_KEY, _name(command))
  if comment:
    mark.add_itxt("Comment", comment)
  with files.replacing(path) as part:
    # Fast compression takes a tenth of the time for files that are a little
    # larger.
    picture.save(part, pnginfo=mark, compress_level=1)


def refuse_another(path: pathlib.Path, command: str) -> None:
  """Raises UserError if there is anything that `command` has not made."""
  what = printable(str(path))
  try:
    status = os.lstat(path)
  except FileNotFoundError:
    return
  except OSError as error:
    raise UserError(
      f"cannot write {what}: {error.strerror}; name another --output"
    ) from None
  if not stat.S_ISREG(status.st_mode) or not _made_by(path, command):
    raise UserError(
      f"{what} exists and was not made by {command}; remove it, or name "
      "another --output"
    )


def _made_by(path: pathlib.Path, command: str) -> bool:
  """Returns whether a file is a PNG with the name of the command."""
  try:
    with Image.open(path, formats=("PNG",)) as picture:
      return picture.info.get(_KEY) == _name(command)
  except Exception:  # A damaged PNG raises many types.
    return False


def _name(command: str) -> str:
  return f"mixaug_jax {command}"
