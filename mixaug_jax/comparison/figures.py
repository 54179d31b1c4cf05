"""Figures of the numbers of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mixaug_jax.pages import drawing


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
  axes.axvline(0, color=drawing.GREY, linewidth=1)
  axes.axvline(100 * goal, color=drawing.GREY, linewidth=1, linestyle="--")
  axes.text(
    100 * goal,
    1.01,
    "goal",
    color=drawing.TEXT,
    transform=axes.get_xaxis_transform(),
    ha="center",
    va="bottom",
  )
  return figure


def class_changes(
  names: Sequence[str], points: Sequence[float], colour: str, title: str
) -> Figure:
  """Draws a bar for each class: points gained or lost, in the given order."""
  with matplotlib.rc_context(drawing.STYLE):
    height = 0.7 + 0.22 * len(names)
    figure = Figure((drawing.WIDTH, height), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    paint = [colour if value >= 0 else drawing.GREY for value in points]
    axes.barh(places, points, color=paint, height=0.7)
    axes.set_yticks(places, names)
    axes.axvline(0, color=drawing.LINES, linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.set_title(title, loc="left")
  return figure


def _intervals(
  values: Mapping[str, Mapping[str, Any]], paint: Mapping[str, str], label: str
) -> Figure:
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure(
      (drawing.WIDTH, 0.9 + 0.34 * len(values)), layout="constrained"
    )
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
