"""Draws the figures of a comparison: PNG files, and elements of its page."""

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mixaug_jax.comparison import figures, summary
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.pages import drawing, measured
from mixaug_jax.pages import figures as shared

_CLASSES = 12  # Bars in the figure of classes.
_SHARES = range(2, 101, 2)  # Per cent of training, where lengths differ.
_CURVES = (
  ("train", "loss", "Training loss", False),
  ("train", "mixed_accuracy", "Training accuracy, soft labels", True),
  ("train", "accuracy", "Training accuracy, clean", True),
  ("validation", "accuracy", "Validation accuracy", True),
)


def write(
  comparison: Comparison,
  numbers: Mapping[str, Any],
  class_names: Sequence[str],
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Draws the figures of the numbers.

  Args:
    comparison: the comparison.
    numbers: as `summary.summarise` returns them.
    class_names: by class id.
    folder: the folder of the PNG files.

  Returns:
    Elements of the page by name: `accuracy`, `difference`, `classes` (None if
    the best arm is the baseline), and lists of `curves` and of `reliability`.
  """
  arms, best = numbers["arms"], numbers["best"]
  baseline, split = comparison.baseline, comparison.split
  paint = drawing.colours(list(arms), baseline)
  axis = "step" if len(comparison.lengths) == 1 else "share of training, %"

  drawn = functools.partial(drawing.element, folder=folder)

  return {
    "accuracy": drawn(
      figures.accuracy(arms, paint, split),
      "accuracy",
      f"{split} accuracy of every arm",
    ),
    "difference": drawn(
      figures.difference(arms, paint, baseline, comparison.goal),
      "difference",
      f"gain of every arm over {baseline}",
    ),
    "curves": [
      drawn(
        shared.curves(series, paint, title, axis=axis, percent=percent),
        f"curve_{name}",
        f"{title} by {axis}",
      )
      for name, title, percent, series in _curves(comparison, arms)
    ],
    "reliability": [
      drawn(
        measured.reliability(
          name,
          paint[name],
          (run := next(iter(of_arm.values()))).compared.logits,
          run.compared.labels,
          run.run.likelihood,
        ),
        f"reliability_{number}",
        f"reliability of {name}",
      )
      for number, (name, of_arm) in enumerate(comparison.runs.items())
    ],
    "classes": None
    if best == baseline
    else drawn(
      _class_changes(class_names, numbers, paint[best]),
      "classes",
      f"accuracy by class, {best} over {baseline}",
    ),
  }


def _curves(
  comparison: Comparison, arms: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool, dict[str, list]]]:
  """Yields the name, the title, the unit and the series of each curve.

  Each kind of loss has a figure of its own, because their values differ.
  """
  losses = summary.losses(arms)
  for of, key, title, percent in _CURVES:
    series = _series(comparison, of, key)
    if key != "loss" or len(losses) == 1:
      parts = [(f"{of}_{key}", title, series)]
    else:
      parts = [
        (
          f"{of}_{key}_{number}",
          f"{title}, {loss}",
          {n: x for n, x in series.items() if arms[n]["loss_name"] == loss},
        )
        for number, loss in enumerate(losses)
      ]
    for name, title, some in parts:
      if some:
        yield name, title, percent, some


def _series(comparison: Comparison, of: str, key: str) -> dict[str, list]:
  """The steps and values of a metric, by arm and seed.

  Runs of different lengths are interpolated at the same shares of their
  training, in per cent, which take the place of the steps. A run that stopped
  early ends before 100 %.
  """
  shares = len(comparison.lengths) > 1
  series = {}
  for name, of_arm in comparison.runs.items():
    seeds = []
    for run in of_arm.values():
      steps, values = measured.series(run.rows, of, key)
      if shares and steps:
        planned = run.result.planned_steps
        places = 100 * np.array(steps) / planned
        end = 100 * run.result.steps / planned
        grid = [x for x in _SHARES if places[0] <= x <= end]
        steps, values = grid, np.interp(grid, places, values).tolist()
      seeds.append((steps, values))
    if all(len(steps) for steps, _ in seeds):
      series[name] = seeds
  return series


def _class_changes(
  class_names: Sequence[str], numbers: Mapping[str, Any], colour: str
) -> Figure:
  """The classes on which the best arm gains and loses most."""
  best, baseline = numbers["best"], numbers["baseline"]
  ours, theirs = (numbers["arms"][x]["per_class"] for x in (best, baseline))
  changes = [
    (100 * (a - b), name)
    for a, b, name in zip(ours, theirs, class_names, strict=True)
    if None not in (a, b)
  ]
  changes.sort(reverse=True)
  title = f"Points by class, {best} over {baseline}"
  if len(changes) > _CLASSES:
    half = _CLASSES // 2
    changes = changes[:half] + changes[-half:]
    title += f": the {half} highest and the {half} lowest"
  points, labels = zip(*changes, strict=True)
  return figures.class_changes(labels, points, colour, title)
