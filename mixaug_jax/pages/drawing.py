"""The style of figures, and their forms: PNG files and elements of a page.

Two of their colours stand for the text and the lines of the page. `svg`
replaces them, so that a figure follows a light or a dark page; `png` writes a
figure on white.
"""

import contextlib
import io
import itertools
import pathlib
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from mixaug_jax import files
from mixaug_jax.analysis import fonts

TEXT, LINES = "#010101", "#c9c9c8"
# The colours of Okabe and Ito, which the colour-blind can distinguish. The
# baseline is grey.
GREY = "#8a8a8a"
COLOURS = (
  *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
  *("#7b5fd0", "#a05a2c"),
)
STYLE: dict[Any, Any] = {  # Of matplotlib.RcParams.
  "font.size": 9,
  "font.family": "sans-serif",
  "svg.fonttype": "none",
  "text.parse_math": False,  # A class may be called $1.
  "text.color": TEXT,
  "axes.labelcolor": TEXT,
  "axes.edgecolor": LINES,
  "axes.facecolor": "none",
  "axes.titlesize": 9,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": LINES,
  "grid.linewidth": 0.5,
  "xtick.color": TEXT,
  "ytick.color": TEXT,
  "legend.frameon": False,
}
# Inches. The page shows a figure at least at this size, which fits a phone.
WIDTH = 3.7
_ENLARGED = 1.35  # At most, by the page.
# Five, so that more arms than colours differ in colour or dash.
_DASHES = ("--", "-", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_HINT = "hint: "


def colours(arms: Sequence[str], baseline: str) -> dict[str, str]:
  """Returns the colour of each arm, the same in every figure."""
  others = [name for name in arms if name != baseline]
  painted = {
    name: COLOURS[number % len(COLOURS)] for number, name in enumerate(others)
  }
  return {baseline: GREY, **painted}


def dashes(arms: Iterable[str]) -> dict[str, Any]:
  """Returns the line style of each arm, for those who cannot see colours."""
  return dict(zip(arms, itertools.cycle(_DASHES), strict=False))


def hint(artist: Artist, text: str) -> None:
  """Shows a text while the pointer is over a part of an SVG."""
  artist.set_gid(_HINT + text)


def short(name: str, most: int = 28) -> str:
  """Returns a name, or its beginning if it is wider than `most` letters."""
  for place in range(len(name)):
    if _width(name[: place + 1]) > most:
      return f"{name[: place - 1]}…"
  return name


def _width(name: str) -> int:
  """Returns the width of a name in letters."""
  return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in name)


def legend(figure: Figure, names: Iterable[str]) -> None:
  """Adds a legend below a figure, which grows by its height.

  Args:
    figure: of the width WIDTH.
    names: the labels in it, as `short` returns them.
  """
  widths = [_width(name) for name in names]
  columns = max(1, min(3, 40 // (6 + max(widths, default=0))))
  rows = -(-len(widths) // columns)
  figure.set_figheight(figure.get_figheight() + 0.19 * rows)
  figure.legend(loc="outside lower center", ncols=columns)


def element(
  figure: Figure,
  name: str,
  description: str,
  folder: pathlib.Path | None = None,
) -> Markup:
  """Returns a figure as an element of a page.

  Args:
    figure: a figure in STYLE.
    name: a name that is unique on the page.
    description: plain text for readers who cannot see the figure.
    folder: where to write it as a PNG file too, if anywhere.
  """
  if folder is not None:
    png(figure, folder / f"{name}.png")
  return Markup(svg(figure, name, description))


def png(figure: Figure, path: pathlib.Path, dpi: int = 200) -> None:
  """Writes a figure as a PNG file, on white."""
  with files.replacing(path) as part, _in_fonts(figure):
    figure.savefig(part, dpi=dpi, facecolor="white")


def svg(figure: Figure, name: str, description: str) -> str:
  """Returns a figure as an SVG element in the text colour of its page.

  Args:
    figure: a figure in STYLE.
    name: a name that is unique on the page.
    description: plain text for readers who cannot see the figure.
  """
  buffer = io.StringIO()
  settings = {**STYLE, "svg.hashsalt": name}
  with matplotlib.rc_context(settings), _in_fonts(figure):
    figure.savefig(
      buffer,
      format="svg",
      transparent=True,
      metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
  text = buffer.getvalue()
  text = text[text.index("<svg") :]
  width = float(next(re.finditer(r'width="([\d.]+)pt"', text))[1])
  text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
  # A style or a name would apply to the whole page.
  text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r"<[^>]*>", _of_page, text)
  label, most = escape(description), _ENLARGED * width
  return text.replace(
    "<svg",
    f'<svg role="img" aria-label="{label}" style="max-width:{most:.0f}pt"',
    1,
  )


def _of_page(tag: re.Match[str]) -> str:
  """Returns a tag of an SVG with the hints and the colours of a page."""
  if hinted := re.fullmatch(rf"""<g id=(["']){_HINT}(.*)\1>""", tag[0], re.S):
    return f"<g><title>{hinted[2]}</title>"
  text = re.sub(r'\bid="(?![mp][0-9a-f]{10})[^"]*"', "", tag[0])
  return text.replace(TEXT, "currentColor").replace(LINES, "var(--lines)")


@contextlib.contextmanager
def _in_fonts(figure: Figure) -> Iterator[None]:
  """Sets the texts of a figure in fonts that have their characters.

  A PNG file shows a box for a character that no font has; a page shows it if
  the browser has one.
  """
  texts = figure.findobj(Text)
  names = fonts.families("".join(text.get_text() for text in texts))
  for text in texts:
    text.set_fontfamily([*names, "sans-serif"])
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"Glyph .* missing from")
    yield
