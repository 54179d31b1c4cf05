"""Figures of the numbers of a comparison.

Two of their colours stand for the text and the lines of the page. `svg`
replaces them, so that a figure follows a light or a dark page; `png` writes a
figure on white.
"""

import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mixaug_jax import files

_TEXT, _LINES = "#010101", "#c9c9c8"
# The colours of Okabe and Ito, which the colour-blind can distinguish. The
# baseline is grey.
_GREY = "#8a8a8a"
_COLOURS = (
  *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
  *("#7b5fd0", "#a05a2c"),
)
_STYLE = {
  "font.size": 9,
  "font.family": "sans-serif",
  "svg.fonttype": "none",
  "text.parse_math": False,  # A class may be called $1.
  "text.color": _TEXT,
  "axes.labelcolor": _TEXT,
  "axes.edgecolor": _LINES,
  "axes.facecolor": "none",
  "axes.titlesize": 9,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": _LINES,
  "grid.linewidth": 0.5,
  "xtick.color": _TEXT,
  "ytick.color": _TEXT,
  "legend.frameon": False,
}
_WIDTH = 5.2  # Inches; near the size at which the page shows it.


def colours(arms: Sequence[str], baseline: str) -> dict[str, str]:
  """Returns the colour of each arm, the same in every figure."""
  others = [name for name in arms if name != baseline]
  painted = {
    name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(others)
  }
  return {baseline: _GREY, **painted}


def accuracy(
  arms: Mapping[str, Mapping[str, Any]], paint: Mapping[str, str], label: str
) -> Figure:
  """Draws the mean of each arm, its interval, and a dot for each seed."""
  values = {name: arm["accuracy"] for name, arm in arms.items()}
  return _intervals(values, paint, f"{label} accuracy, %")


def difference(
  arms: Mapping[str, Mapping[str, Any]],
  paint: Mapping[str, str],
  baseline: str,
  goal: float,
) -> Figure:
  """Draws the gain of each arm over the baseline, and the goal."""
  values = {
    name: arm["difference"]
    for name, arm in arms.items()
    if arm.get("difference")
  }
  figure = _intervals(values, paint, f"points over {baseline}")
  axes = figure.axes[0]
  axes.axvline(0, color=_GREY, linewidth=1)
  axes.axvline(100 * goal, color=_GREY, linewidth=1, linestyle="--")
  axes.text(
    100 * goal,
    1.01,
    "goal",
    color=_TEXT,
    transform=axes.get_xaxis_transform(),
    ha="center",
    va="bottom",
  )
  return figure


def curves(
  series: Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]],
  paint: Mapping[str, str],
  title: str,
  *,
  percent: bool = False,
) -> Figure:
  """Draws the mean over seeds for each arm, in a band from least to most.

  Args:
    series: the steps and values of each seed, by arm.
    paint: the colour of each arm.
    title: the title of the figure.
    percent: whether the values are fractions that are shown in per cent.
  """
  with matplotlib.rc_context(_STYLE):
    figure = Figure((_WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    for name, seeds in series.items():
      common = sorted(set.intersection(*(set(steps) for steps, _ in seeds)))
      rows = [dict(zip(*seed, strict=True)) for seed in seeds]
      values = np.array([[row[step] for step in common] for row in rows])
      values = values * 100 if percent else values
      axes.plot(
        common, values.mean(0), color=paint[name], label=name, linewidth=1.5
      )
      axes.fill_between(
        common,
        values.min(0),
        values.max(0),
        color=paint[name],
        alpha=0.15,
        linewidth=0,
      )
    axes.set_xlabel("step")
    axes.set_title(title + (", %" if percent else ""), loc="left")
    figure.legend(loc="outside lower center", ncols=3)
  return figure


def reliability(
  name: str,
  colour: str,
  confidence: np.ndarray,
  accuracy: np.ndarray,
  count: np.ndarray,
) -> Figure:
  """Draws accuracy against confidence; a dot's area is its examples."""
  with matplotlib.rc_context(_STYLE):
    figure = Figure((2.6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=_GREY, linewidth=1, linestyle="--")
    some = np.asarray(count) > 0
    area = 160 * np.asarray(count)[some] / max(1, np.max(count))
    axes.scatter(
      100 * np.asarray(confidence)[some],
      100 * np.asarray(accuracy)[some],
      s=np.maximum(area, 4),
      color=colour,
      alpha=0.8,
      clip_on=False,
    )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("right, %")
    axes.set_title(name, loc="left")
  return figure


def class_changes(
  names: Sequence[str], points: Sequence[float], colour: str, title: str
) -> Figure:
  """Draws a bar for each class: points gained or lost, in the given order."""
  with matplotlib.rc_context(_STYLE):
    height = 0.7 + 0.22 * len(names)
    figure = Figure((_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    paint = [colour if value >= 0 else _GREY for value in points]
    axes.barh(places, points, color=paint, height=0.7)
    axes.set_yticks(places, names)
    axes.axvline(0, color=_LINES, linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.set_title(title, loc="left")
  return figure


def picture_table(
  pictures: Sequence[Sequence[np.ndarray]],
  captions: Sequence[Sequence[str]],
  right: Sequence[Sequence[bool | None]],
  columns: Sequence[str],
) -> Figure:
  """Draws images in rows and columns, with a caption below each.

  Args:
    pictures: images uint8 `[H, W, 3]`, by row and column.
    captions: the text below each image.
    right: the colour of each caption: green if true, red if false, plain if
      None.
    columns: the headings.
  """
  inks = {True: "#1a7f37", False: "#c4320a", None: _TEXT}
  rows, wide = len(pictures), len(columns)
  with matplotlib.rc_context({**_STYLE, "font.size": 7}):
    figure = Figure((1.25 * wide, 1.5 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, wide, squeeze=False)
    for row in range(rows):
      for column in range(wide):
        axes = grid[row, column]
        axes.imshow(pictures[row][column], interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(
          captions[row][column], color=inks[right[row][column]], labelpad=2
        )
        if row == 0:
          axes.set_title(columns[column], fontsize=8)
  return figure


def _intervals(
  values: Mapping[str, Mapping[str, Any]], paint: Mapping[str, str], label: str
) -> Figure:
  with matplotlib.rc_context(_STYLE):
    figure = Figure((_WIDTH, 0.9 + 0.34 * len(values)), layout="constrained")
    axes = figure.subplots()
    for place, (name, value) in enumerate(reversed(values.items())):
      if value["low"] is not None:
        ends = [100 * value["low"], 100 * value["high"]]
        axes.plot(
          ends,
          [place, place],
          color=paint[name],
          linewidth=5,
          alpha=0.35,
          solid_capstyle="round",
        )
      each = 100 * np.array(value["each"])
      axes.plot(
        each,
        np.full(len(each), place),
        "o",
        color=paint[name],
        markersize=4,
        alpha=0.7,
        markeredgewidth=0,
      )
      axes.plot(
        100 * value["mean"],
        place,
        "|",
        color=paint[name],
        markersize=16,
        markeredgewidth=2.5,
      )
    axes.set_yticks(range(len(values)), list(reversed(values)))
    axes.set_ylim(-0.6, len(values) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
  return figure


def png(figure: Figure, path: pathlib.Path, dpi: int = 200) -> None:
  """Writes a figure as a PNG file, on white."""
  with files.replacing(path) as part:
    figure.savefig(part, dpi=dpi, facecolor="white")


def svg(figure: Figure, name: str, description: str) -> str:
  """Returns a figure as an SVG element in the text colour of its page.

  Args:
    figure: a figure of this module.
    name: a name that is unique on the page.
    description: plain text for readers who cannot see the figure.
  """
  buffer = io.StringIO()
  with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
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
  text = text.replace(_TEXT, "currentColor").replace(_LINES, "var(--lines)")
  from markupsafe import escape

  label = escape(description)
  return text.replace(
    "<svg",
    f'<svg role="img" aria-label="{label}" style="max-width:{width:.0f}pt"',
    1,
  )
