"""Figures that the pages of runs and of comparisons share."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixaug_jax.pages import drawing

_HINTED = 12  # Steps of a curve whose values show.


def curves(
  series: Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]],
  paint: Mapping[str, str],
  title: str,
  *,
  axis: str = "step",
  percent: bool = False,
) -> Figure:
  """Draws the mean over seeds for each arm, in a band from least to most.

  Args:
    series: the steps and values of each seed, by arm.
    paint: the colour of each arm; the baseline, which is dashed, comes first.
    title: the title of the figure.
    axis: the name of what `series` calls steps.
    percent: whether the values are fractions that are shown in per cent.
  """
  dashes = drawing.dashes(paint)
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure((drawing.WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    for name, seeds in series.items():
      common = sorted(set.intersection(*(set(steps) for steps, _ in seeds)))
      rows = [dict(zip(*seed, strict=True)) for seed in seeds]
      values = np.array([[row[step] for step in common] for row in rows])
      values = values * 100 if percent else values
      (line,) = axes.plot(
        common,
        values.mean(0),
        linestyle=dashes[name],
        color=paint[name],
        label=drawing.short(name),
        linewidth=1.5,
        marker="o" if len(common) == 1 else "",
      )
      drawing.hint(line, name)
      axes.fill_between(
        common,
        values.min(0),
        values.max(0),
        color=paint[name],
        alpha=0.15,
        linewidth=0,
      )
      _hint_values(axes, name, common, values, axis, percent)
    axes.set_xlabel(axis)
    axes.set_title(title + (", %" if percent else ""), loc="left")
    drawing.legend(figure, map(drawing.short, series))
  return figure


def _hint_values(
  axes: Axes,
  name: str,
  steps: Sequence[int],
  values: np.ndarray,
  axis: str,
  percent: bool,
) -> None:
  """Puts dots over a curve that cannot be seen and show its values.

  Args:
    axes: of the curve.
    name: of the curve.
    steps: `[T]`.
    values: by seed and step, `[S, T]`.
    axis: the name of the steps, with their unit after a comma.
    percent: the unit of the values.
  """
  label, _, unit = axis.partition(", ")
  some = np.linspace(0, len(steps) - 1, min(len(steps), _HINTED), dtype=int)
  for place in dict.fromkeys(some):
    mean = values[:, place].mean()
    text = f"{mean:.1f} %" if percent else f"{mean:.4g}"
    (dot,) = axes.plot(steps[place], mean, "o", markersize=9, alpha=0)
    dot.set_in_layout(False)  # Measuring it takes time.
    where = f"{label} {steps[place]:,} {unit}".strip()
    drawing.hint(dot, f"{name}, {where}: {text}")


def reliability(
  name: str,
  colour: str,
  confidence: np.ndarray,
  accuracy: np.ndarray,
  count: np.ndarray,
) -> Figure:
  """Draws accuracy against confidence; a dot's area is its examples."""
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure((2.3, 2.3), layout="constrained")
    axes = figure.subplots()
    axes.plot(
      [0, 100], [0, 100], color=drawing.GREY, linewidth=1, linestyle="--"
    )
    most = max(1, np.max(count))
    for x, y, examples in zip(confidence, accuracy, count, strict=True):
      if not examples:
        continue
      (dot,) = axes.plot(
        100 * x,
        100 * y,
        "o",
        markersize=max(2, 12 * np.sqrt(examples / most)),
        markeredgewidth=0,
        color=colour,
        alpha=0.8,
        clip_on=False,
      )
      drawing.hint(
        dot,
        f"confidence {100 * x:.1f} %, right {100 * y:.1f} %: "
        f"{examples:,} examples",
      )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("right, %")
    axes.set_title(drawing.short(name), loc="left")
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
        text = captions[row][column]
        axes.set_xlabel(
          "\n".join(drawing.short(x, 18) for x in text.split("\n")),
          color=inks[right[row][column]],
          labelpad=2,
        )
        if row == 0:
          axes.set_title(drawing.short(columns[column], 18), fontsize=8)
  return figure
