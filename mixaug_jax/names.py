"""Names and paths that come from a disk, a list or a command line."""

import contextlib
import os
import pathlib
import re

from mixaug_jax.errors import UserError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# C0 and C1 except tab and newline, and what changes the direction of a text.
_CONTROLS = re.compile(
  r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
  r"""Returns a name with backslash escapes for what cannot be printed.

  Control characters and bytes that are not UTF-8 are escaped, and with them the
  backslash itself, so that different names stay different. The locale plays no
  part.

      >>> printable("two\nlines")
      'two\\nlines'

  Args:
    text: a name as `os.listdir` returns it.
  """
  # Where the locale is not UTF-8, Python leaves each byte of UTF-8 apart.
  with contextlib.suppress(UnicodeEncodeError):
    encoded = text.encode("utf-8", "surrogateescape")
    text = encoded.decode("utf-8", "surrogateescape")
  return "".join(
    c
    if c.isprintable() and c != "\\"
    else c.encode("unicode_escape").decode("ascii")
    for c in text
  )


def escaped(text: str) -> str:
  r"""Returns a text whose control characters a terminal does not obey.

  Newline and tab stay. Others, and those that reverse the direction of a text,
  become backslash escapes.

      >>> escaped("\x1b[31mred\n")
      '\\x1b[31mred\n'
  """
  return _CONTROLS.sub(lambda c: ascii(c[0])[1:-1], text)


def local(text: str) -> pathlib.Path:
  """Converts text to a path on this machine; a leading `~` is the home folder.

  Raises:
    ValueError: the text is empty, holds a zero byte, or is an address, such
      as `gs://bucket/photos`.
  """
  if not text:
    # It comes from a shell variable that is not set, and would name the current
    # folder.
    raise ValueError("it is empty; name a path")
  if "\0" in text:
    raise ValueError("it holds a zero byte; remove it")
  if _ADDRESS.match(text):
    raise ValueError(
      f"{text} is an address; mount it, for example with gcsfuse, or copy the "
      "data, and name a local path"
    )
  return pathlib.Path(os.path.expanduser(text))


def local_path(key: str, text: str) -> pathlib.Path:
  """Converts the value of a key as `local` does.

  Raises:
    UserError: the value is no local path; the sentence names the key.
  """
  try:
    return local(text)
  except ValueError as error:
    raise UserError(f"{key}: {error}") from None
