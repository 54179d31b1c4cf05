"""Progress on a terminal or in a notebook: one bar, and lines above it."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from tqdm import tqdm, utils

from mixaug_jax import names
from mixaug_jax.durations import duration

_LEAST_BAR = 5  # Columns of the bar itself.
_NOTE_SECONDS = 30.0  # Between two notes where there is no bar.


class Bar(tqdm):
  """A progress bar where someone watches.

      with Bar(400, lambda: ["12 min left"]) as bar:
        bar.update()

  That is a terminal or a notebook. A notebook gets a bar of text as well, which
  needs no widgets and stays readable in a saved notebook.

  tqdm estimates the rate and the time left from all the time that passes.
  `text` replaces both by what its owner knows.

  Args:
    total: the count at the end.
    text: returns the words right of the count, in several lengths, the longest
      first; every redraw shows the first that fits. None: the time left, if all
      counts take the same time.
    initial: the count at the beginning.
    note: where there is no bar, this is printed with the count now and then,
      such as "decoded"; None prints nothing.
  """

  def __init__(
    self,
    total: int,
    text: Callable[[], Sequence[str]] | None = None,
    initial: int = 0,
    note: str | None = None,
  ):
    self._text = text or self._even_pace
    self._note = note
    self._begin = self._noted = time.monotonic()
    super().__init__(
      total=total,
      initial=initial,
      file=watched(),
      disable=not (watched().isatty() or in_notebook()),
      leave=False,
      bar_format="|{bar}| {n}/{total}  {text}",
    )

  @property
  def format_dict(self) -> dict[str, Any]:
    given = super().format_dict
    columns = _columns(self.fp) - 1  # The cursor takes one.
    rest = f"|{'':{_LEAST_BAR}}| {self.n}/{self.total}  "
    texts = self._text()
    fitting = (x for x in texts if utils.disp_len(x) <= columns - len(rest))
    return {**given, "ncols": columns, "text": next(fitting, texts[-1])}

  def update(self, n: float | None = 1) -> bool | None:
    """Counts on by `n`, and prints the note if it is time."""
    now = time.monotonic()
    if self.disable and self._note:
      self.n += n or 0
      if now - self._noted > _NOTE_SECONDS:
        self._noted = now
        write(f"{self._note} {self.n:,} of {self.total:,}")
    return super().update(n)

  def _even_pace(self) -> Sequence[str]:
    done = self.n - self.initial
    if not done:
      return [""]
    seconds = (time.monotonic() - self._begin) * (self.total - self.n) / done
    return [f"{duration(seconds)} left", duration(seconds)]


def in_notebook() -> bool:
  """Returns whether the output goes to a notebook."""
  return type(sys.stdout).__module__.startswith("ipykernel.")


def watched() -> TextIO:
  """Returns the stream of bars and the log.

  This is stderr, and in a notebook, which shows stderr as errors, stdout.
  """
  return sys.stdout if in_notebook() else sys.stderr


def write(line: str, stream: TextIO | None = None) -> None:
  """Prints a line above the bars of this process, to `watched` by default.

  Control characters are escaped, see `names.escaped`. On a terminal, a long
  line is broken at spaces.
  """
  stream = stream or watched()
  Bar.write(folded(names.escaped(line), stream), file=stream)


def folded(text: str, stream: TextIO) -> str:
  """Breaks the lines of a text at spaces, so that they fit a terminal.

  Args:
    text: lines, which are returned as they are for other streams.
    stream: where they are printed.
  """
  if not stream.isatty():
    return text
  return "\n".join(
    joined(line.split(" "), stream, " ") for line in text.split("\n")
  )


def joined(fields: Sequence[str], stream: TextIO, between: str = "  ") -> str:
  """Joins fields to a line, or to several where a terminal is narrow."""
  width = _columns(stream) if stream.isatty() else sys.maxsize
  lines = [fields[0]]
  for field in fields[1:]:
    longer = f"{lines[-1]}{between}{field}"
    if utils.disp_len(longer.rstrip()) <= width:
      lines[-1] = longer
    else:
      lines.append(f"  {field}")
  return "\n".join(line.rstrip() for line in lines)


def _columns(stream: TextIO) -> int:
  """Returns the width of a terminal: COLUMNS, its own, or 80."""
  text = os.environ.get("COLUMNS", "")
  if text.isdecimal() and int(text):
    return int(text)
  try:
    return os.get_terminal_size(stream.fileno()).columns or 80
  except (OSError, ValueError):
    return 80
