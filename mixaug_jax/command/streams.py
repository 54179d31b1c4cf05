"""Standard streams that never fail and never send a command to a terminal.

Letters that the encoding of a stream lacks are escaped, and signs of this
package's own texts become ASCII.

Most text that a command prints does not come from the command: a bar, a warning
or a log line of a library, the name of a class. So the streams themselves
handle what can go wrong. A stream that cannot be written is replaced by
/dev/null, for this whole process, and the error is kept for the command's end.
"""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from mixaug_jax import names

# What tqdm writes to move the cursor up a line.
_UP = "\x1b[A"
_ENCODING_ERRORS = "mixaug_jax"
_C = ("C", "POSIX")
# Signs in texts of this package and of tqdm, for encodings that lack them.
_IN_ASCII = {
  **dict.fromkeys("\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}", "-"),
  **dict.fromkeys(map(chr, range(0x2588, 0x2590)), "#"),  # Blocks of bars.
  "\N{DEGREE SIGN}": " deg",
  "\N{HORIZONTAL ELLIPSIS}": "...",
  "\N{MULTIPLICATION SIGN}": "x",
  "\N{PLUS-MINUS SIGN}": "+-",
  "\N{REPLACEMENT CHARACTER}": "?",
}


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
  """Handles letters that an encoding lacks."""
  if isinstance(error, UnicodeEncodeError):
    letter = error.object[error.start]
    if letter in _IN_ASCII:
      return _IN_ASCII[letter], error.start + 1
  return codecs.backslashreplace_errors(error)


codecs.register_error(_ENCODING_ERRORS, _replaced)


class Stream:
  """A text stream that escapes control characters and keeps its first error.

  All other attributes are those of the stream inside.

  Args:
    inner: the stream to write to.

  Attributes:
    error: the first OSError of the stream; None while it works.
  """

  def __init__(self, inner: TextIO):
    self._inner = inner
    self.error: OSError | None = None

  def __getattr__(self, name: str) -> Any:
    return getattr(self._inner, name)

  def write(self, text: str) -> int:
    """Writes text, in which newline and tab are the only control characters.

    What tqdm writes to move the cursor passes as well: a text of newlines and
    steps upwards, and a carriage return at the start of a text.
    """
    length, start = len(text), "\r" * text.startswith("\r")
    if text.replace(_UP, "").strip("\n"):
      text = start + names.escaped(text[len(start) :])
    with self._keeping_errors():
      self._inner.write(text)
    return length

  def writelines(self, lines: Iterable[str]) -> None:
    for line in lines:
      self.write(line)

  def flush(self) -> None:
    with self._keeping_errors():
      self._inner.flush()

  @contextlib.contextmanager
  def _keeping_errors(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      self.error = self.error or error
      # What the buffers hold goes there too, and the output of C libraries.
      null = os.open(os.devnull, os.O_WRONLY)
      os.dup2(null, self._inner.fileno())
      os.close(null)


def protect() -> None:
  """Puts a `Stream` in the place of stdout and stderr, once.

  Where a standard stream was closed, its descriptor is opened on /dev/null, so
  that no file of the run gets it and with it the messages of libraries.
  Printing to a stdout that was closed is an error, as it is for other commands.
  """
  while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
    os.set_inheritable(null, True)
  os.close(null)
  if sys.stdin is None:
    sys.stdin = open(os.devnull)  # noqa: SIM115
  if sys.stderr is None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
  if sys.stdout is None:
    sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
  for name in ("stdout", "stderr"):
    stream = getattr(sys, name)
    if not isinstance(stream, Stream):
      if hasattr(stream, "reconfigure"):
        # The locale may lack a letter; a path may hold bytes without meaning.
        stream.reconfigure(
          encoding="ascii" if _locale_is_c() else None, errors=_ENCODING_ERRORS
        )
      setattr(sys, name, Stream(stream))


def _locale_is_c() -> bool:
  """Returns whether the user chose ASCII, which Python turns into UTF-8.

  Where LANG is C, Python sets LC_CTYPE to a locale of UTF-8 as it starts
  (PEP 538). Where nothing is set at all, the terminal is most often UTF-8.
  """
  environment = os.environ
  if {"PYTHONIOENCODING", "PYTHONUTF8"} & environment.keys():
    return False
  chosen = [environment.get(x, "") for x in ("LC_ALL", "LC_CTYPE", "LANG")]
  if chosen[1] in ("C.UTF-8", "C.utf8", "UTF-8") and chosen[2] in _C:
    chosen[1] = ""
  return next(filter(None, chosen), "") in _C
