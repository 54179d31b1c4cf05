"""Progress on a terminal: one bar, and lines above it."""

import sys
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

from mixaug_jax import names


class Bar(tqdm):
  """A progress bar on stderr where that is a terminal, and else nothing.

      with Bar(400, lambda: "12 min left") as bar:
        bar.update()

  tqdm estimates the rate and the time left from all the time that passes.
  `text` replaces both by what its owner knows.

  Args:
    total: the count at the end.
    text: returns the words right of the count; every redraw calls it.
    initial: the count at the beginning.
  """

  def __init__(self, total: int, text: Callable[[], str], initial: int = 0):
    self._text = text
    super().__init__(
      total=total,
      initial=initial,
      disable=None,  # Unless stderr is a terminal.
      leave=False,
      dynamic_ncols=True,
      bar_format="|{bar}| {n}/{total}  {text}",
    )

  @property
  def format_dict(self) -> dict[str, Any]:
    return {**super().format_dict, "text": self._text()}


def write(line: str, stream: TextIO | None = None) -> None:
  """Prints a line above the bars of this process, to stderr by default.

  Control characters are escaped, see `names.escaped`.
  """
  Bar.write(names.escaped(line), file=stream or sys.stderr)
