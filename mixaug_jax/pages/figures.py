"""Figures that the pages of runs and of comparisons share."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mixaug_jax.pages import drawing


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
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure((drawing.WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    for name, seeds in series.items():
      common = sorted(set.intersection(*(set(steps) for steps, _ in seeds)))
      rows = [dict(zip(*seed, strict=True)) for seed in seeds]
      values = np.array([[row[step] for step in common] for row in rows])
      values = values * 100 if percent else values
      axes.plot(
        common,
        values.mean(0),
        color=paint[name],
        label=name,
        linewidth=1.5,
        marker="o" if len(common) == 1 else "",
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
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure((2.6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(
      [0, 100], [0, 100], color=drawing.GREY, linewidth=1, linestyle="--"
    )
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
  inks = {True: "#1a7f37", False: "#c4320a", None: drawing.TEXT}
  rows, wide = len(pictures), len(columns)
  with matplotlib.rc_context({**drawing.STYLE, "font.size": 7}):
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
