"""Figures of the numbers of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mixaug_jax.pages import drawing
from mixaug_jax.pages.words import number


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
  line = axes.axvline(
    100 * goal, color=drawing.GREY, linewidth=1, linestyle="--"
  )
  drawing.hint(line, f"goal: {100 * goal:g} points")
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
  """Draws a bar for each class: points gained or lost, in the given order.

  A name stands above its bar, where a long one and one in a script that this
  machine has no font for have room.
  """
  with matplotlib.rc_context(drawing.STYLE):
    height = 0.7 + 0.36 * len(names)
    figure = Figure((drawing.WIDTH, height), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    paint = [colour if value >= 0 else drawing.GREY for value in points]
    bars = axes.barh(places, points, color=paint, height=0.36)
    for bar, place, name, value in zip(
      bars, places, names, points, strict=True
    ):
      drawing.hint(bar, f"{name}: {number(value, '+')} points")
      axes.text(
        0,
        place + 0.22,
        drawing.short(name, 40),
        transform=axes.get_yaxis_transform(),
        va="bottom",
      )
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(names) - 0.2)
    axes.axvline(0, color=drawing.GREY, linewidth=1)
    axes.set_title(title, loc="left", wrap=True)
  return figure


def _intervals(
  values: Mapping[str, Mapping[str, Any]], paint: Mapping[str, str], label: str
) -> Figure:
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure(
      (drawing.WIDTH, 0.9 + 0.34 * len(values)), layout="constrained"
    )
    axes = figure.subplots()
    for place, (name, value) in enumerate(reversed([*values.items()])):
      mean = 100 * value["mean"]
      text = f"{name}: {number(mean)}"
      if value["low"] is not None:
        ends = [100 * value["low"], 100 * value["high"]]
        text += f" ({number(ends[0])} to {number(ends[1])})"
        (band,) = axes.plot(
          ends,
          [place, place],
          color=paint[name],
          linewidth=5,
          alpha=0.35,
          solid_capstyle="round",
        )
        drawing.hint(band, text)
      for each in value["each"]:
        (dot,) = axes.plot(
          100 * each,
          place,
          "o",
          color=paint[name],
          markersize=4,
          alpha=0.7,
          markeredgewidth=0,
        )
        drawing.hint(dot, f"{name}, one seed: {number(100 * each)}")
      (stroke,) = axes.plot(
        mean,
        place,
        "|",
        color=paint[name],
        markersize=16,
        markeredgewidth=2.5,
      )
      drawing.hint(stroke, text)
    axes.set_yticks(
      range(len(values)),
      [drawing.short(name, 20) for name in reversed([*values])],
    )
    axes.set_ylim(-0.6, len(values) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
  return figure
