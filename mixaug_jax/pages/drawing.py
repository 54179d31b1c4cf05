"""The style of figures, and their forms: PNG files and elements of a page.

Two of their colours stand for the text and the lines of the page. `svg`
replaces them, so that a figure follows a light or a dark page; `png` writes a
figure on white.
"""

import io
import pathlib
import re
from collections.abc import Sequence

import matplotlib
from markupsafe import escape
from matplotlib.figure import Figure

from mixaug_jax import files

TEXT, LINES = "#010101", "#c9c9c8"
# The colours of Okabe and Ito, which the colour-blind can distinguish. The
# baseline is grey.
GREY = "#8a8a8a"
COLOURS = (
  *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
  *("#7b5fd0", "#a05a2c"),
)
STYLE = {
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
WIDTH = 5.2  # Inches; near the size at which the page shows it.


def colours(arms: Sequence[str], baseline: str) -> dict[str, str]:
  """Returns the colour of each arm, the same in every figure."""
  others = [name for name in arms if name != baseline]
  painted = {
    name: COLOURS[number % len(COLOURS)] for number, name in enumerate(others)
  }
  return {baseline: GREY, **painted}


def png(figure: Figure, path: pathlib.Path, dpi: int = 200) -> None:
  """Writes a figure as a PNG file, on white."""
  with files.replacing(path) as part:
    figure.savefig(part, dpi=dpi, facecolor="white")


def svg(figure: Figure, name: str, description: str) -> str:
  """Returns a figure as an SVG element in the text colour of its page.

  Args:
    figure: a figure in STYLE.
    name: a name that is unique on the page.
    description: plain text for readers who cannot see the figure.
  """
  buffer = io.StringIO()
  with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
    figure.savefig(
      buffer,
      format="svg",
      transparent=True,
      metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
  text = buffer.getvalue()
  text = text[text.index("<svg") :]
  width = float(re.search(r'width="([\d.]+)pt"', text)[1])
  text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
  # A style or a name would apply to the whole page.
  text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r'\bid="(?!m|p[0-9a-f]{10})[^"]*"', "", text)
  text = text.replace(TEXT, "currentColor").replace(LINES, "var(--lines)")
  label = escape(description)
  return text.replace(
    "<svg",
    f'<svg role="img" aria-label="{label}" style="max-width:{width:.0f}pt"',
    1,
  )
