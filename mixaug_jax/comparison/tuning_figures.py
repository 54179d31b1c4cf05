"""Figures of the numbers of a comparison's tuning."""

from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixaug_jax.pages import drawing, words
from mixaug_jax.pages.words import number

_BINS = 60  # Dots in the same part of the width are stacked.


def best_of_k(tuning: Mapping[str, Any], paint: Mapping[str, str]) -> Figure:
  """Draws the expected score of the best of k trials, an arm a line.

  The band extends from the lowest to the highest study, if there are several.

  Args:
    tuning: from `tuning_numbers.summarise`.
    paint: the colour of each arm.
  """
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure((drawing.WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    dashes = drawing.dashes(paint)
    for name, arm in tuning["arms"].items():
      values = {k: x and 100 * np.array(x) for k, x in arm["best_of_k"].items()}
      trials = np.arange(1, len(values["mean"]) + 1)
      axes.plot(
        trials,
        values["mean"],
        linestyle=dashes[name],
        color=paint[name],
        label=drawing.short(name),
        linewidth=1.5,
      )
      for k, value in zip(trials, values["mean"], strict=True):
        _dot(
          axes,
          int(k),
          value,
          paint[name],
          f"{name}, best of {k}: {value:.1f} %",
        )
      if values["low"] is not None:
        axes.fill_between(
          trials,
          values["low"],
          values["high"],
          color=paint[name],
          alpha=0.1,
          linewidth=0,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trials")
    figure_name = words.figure(tuning["best_by"])
    title = f"Validation {figure_name} of the best of k trials, %"
    axes.set_title(title, loc="left")
    drawing.legend(figure, map(drawing.short, tuning["arms"]))
  return figure


def gains(
  tuning: Mapping[str, Any], paint: Mapping[str, str], baseline: str
) -> Figure:
  """Draws the gain at every recipe, a dot each, and the means as strokes.

  A row is an arm over the baseline, or a pair of arms. The recipe as it is
  written is a ring.

  Args:
    tuning: from `tuning_numbers.summarise`.
    paint: the colour of each arm.
    baseline: the arm that the others are measured against.
  """
  rows = [
    (name, baseline, arm["gains"])
    for name, arm in tuning["arms"].items()
    if name != baseline
  ]
  rows += [
    (pair["arm"], pair["other"], pair["gains"]) for pair in tuning["pairs"]
  ]
  reach = max(abs(x) for *_, gain in rows for x in gain["each"]) or 0.01
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure(
      (drawing.WIDTH, 0.9 + 0.42 * len(rows)), layout="constrained"
    )
    axes = figure.subplots()
    axes.axvline(0, color=drawing.GREY, linewidth=1)
    for row, (name, other, gain) in enumerate(rows):
      label = f"{name} over {other}"
      offsets = _stacked(np.array(gain["each"]) * _BINS / reach)
      trials = tuning["arms"][name]["trials"]
      for trial, value, offset in zip(
        trials, gain["each"], offsets, strict=True
      ):
        text = f"{label}: {number(100 * value, '+')} points\n{_recipe(trial)}"
        ring = not trial["places"]
        _dot(axes, 100 * value, row + offset, paint[name], text, ring=ring)
      axes.plot(
        100 * gain["mean"],
        row,
        "|",
        color=paint[name],
        markersize=18,
        markeredgewidth=2.5,
      )
      axes.text(
        1.01,
        row,
        f"{gain['ahead']} of {len(gain['each'])}",
        transform=axes.get_yaxis_transform(),
        va="center",
      )
    axes.text(
      1.01, 1.0, "ahead", transform=axes.transAxes, va="bottom", ha="left"
    )
    labels = [
      drawing.short(name, 20)
      + ("" if other == baseline else f"\nover {drawing.short(other, 15)}")
      for name, other, _ in rows
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("points gained at the same recipe")
  return figure


def _recipe(trial: Mapping[str, Any]) -> str:
  """Returns the values of a trial, a line each."""
  values = [f"{key}={value}" for key, value in trial["values"].items()]
  written = [] if trial["places"] else ["the recipe as it is written"]
  step = trial["diverged"]
  ends = [] if step is None else [f"diverged at step {step:,}"]
  if (step := trial["stopped_early"]) is not None:
    ends.append(f"stopped early at step {step:,} of {trial['steps']:,}")
  return "\n".join([f"trial {trial['number']}", *written, *values, *ends])


def _dot(
  axes: Axes,
  x: float,
  y: float,
  colour: str,
  text: str,
  *,
  ring: bool = False,
) -> None:
  (dot,) = axes.plot(
    x,
    y,
    "o",
    color=colour,
    markersize=4,
    alpha=0.8,
    markerfacecolor="none" if ring else colour,
    markeredgewidth=1.2 if ring else 0,
  )
  drawing.hint(dot, text)


def _stacked(places: np.ndarray) -> Iterator[float]:
  """Yields the vertical offset of each dot, so that equal ones stay visible."""
  count: dict[int, int] = {}
  for place in np.round(places).astype(int):
    number = count[place] = count.get(place, -1) + 1
    yield 0.09 * ((number + 1) // 2) * (-1) ** number
