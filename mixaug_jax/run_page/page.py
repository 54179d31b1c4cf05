"""Writes the page of one run: one file, report.html, that loads nothing."""

import datetime
import importlib.resources
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

import mixaug_jax
from mixaug_jax.analysis import calibration, mistakes
from mixaug_jax.data.class_names import readable
from mixaug_jax.pages import drawing, figures, measured, render
from mixaug_jax.pages import words as shared
from mixaug_jax.run_page import numbers, pictures, set_page, words
from mixaug_jax.runs import Predictions, Run
from mixaug_jax.training import trackers

_MATRIX = 20  # Classes; with more, the page lists the most confused pairs.
_PAIRS = 20
# The title of a figure, whether it is in per cent, and its lines: the split and
# the name of a metric by label.
_CURVES = (
  (
    "Loss",
    False,
    {"training": ("train", "loss"), "validation": ("validation", "loss")},
  ),
  (
    "Accuracy",
    True,
    {
      "training, soft labels": ("train", "mixed_accuracy"),
      "training, clean": ("train", "accuracy"),
      "validation": ("validation", "accuracy"),
      "validation, EMA": ("validation", "ema_accuracy"),
      "validation, balanced": ("validation", "balanced_accuracy"),
    },
  ),
  (
    "Mean average precision",
    True,
    {
      "validation": ("validation", "mean_average_precision"),
      "validation, EMA": ("validation", "ema_mean_average_precision"),
    },
  ),
  ("Learning rate", False, {"learning rate": ("train", "learning_rate")}),
)


def write(run: Run) -> str:
  """Writes report.html into the directory of a run, in place of an older one.

  The pictures need the data of the run, and the activation maps its weights
  too. The page gives the reason for what is missing. The trackers of the run
  get the page as well.

  Returns:
    The headline, the warnings, and the path of the page.

  Raises:
    UserError: the predictions or the metrics are damaged, or the page cannot be
      written.
  """
  content = _content(run)
  name = "sets.html" if run.has_label_sets else "report.html"
  template = importlib.resources.files(__package__) / name
  path = run.workdir / "report.html"
  render.write(path, template.read_text("utf-8"), **content)
  failures = trackers.attach(run.workdir, path, run.config.log.writers)
  warnings = [f"warning: {text}" for text in content["warnings"] + failures]
  return "\n".join([content["headline"], *warnings, f"{path} shows it all"])


def _content(run: Run) -> dict[str, Any]:
  """Returns what the template shows."""
  result = run.result
  split = "test" if result.test else "validation"
  validation = run.predictions("validation")
  shown = run.predictions(split) if result.test else validation
  names = readable(result.class_names)
  drawn_curves = _curves(run)
  if run.has_label_sets:
    return _content_of_sets(run, split, shown, names, drawn_curves)
  of_split = numbers.measure(shown, validation, run.likelihood)
  drawn = pictures.draw(run, split, shown, names)
  counts = calibration.confusions(shown.logits, shown.labels, len(names))
  return {
    **_shared(run, split),
    "headline": words.headline(of_split, split),
    "warnings": [
      *words.warnings(run, of_split, split),
      *drawn.pop("data_warnings"),
    ],
    "measures": of_split,
    "accuracies": _accuracies(run, of_split, split),
    # With five classes or fewer it is always 100 %.
    "top5": len(names) > 5,
    "curves": drawn_curves,
    "chosen_step": result.chosen_step,
    "classes": numbers.by_class(
      shown, names, _training_images(run), result.class_weights
    ),
    "weighted": result.class_weights is not None,
    "names": names,
    "matrix": _matrix(counts) if len(names) <= _MATRIX else None,
    "confused": mistakes.most_confused(counts, names, _PAIRS),
    "reliability": drawing.element(
      measured.reliability(
        split,
        drawing.COLOURS[0],
        shown.logits,
        shown.labels,
        run.likelihood,
      ),
      "reliability",
      "accuracy against confidence",
    ),
    "note": run.likelihood.note,
    **drawn,
  }


def _content_of_sets(
  run: Run,
  split: str,
  shown: Predictions,
  names: list[str],
  drawn_curves: list[Markup],
) -> dict[str, Any]:
  """Returns what the template of label sets shows."""
  drawn = pictures.draw(run, split, shown, names)
  content = set_page.content(run, split, shown, names, _training_images(run))
  return {
    **_shared(run, split),
    **content,
    "warnings": [
      *words.warnings(run, {"undefined": 0}, split),
      *content["set_warnings"],
      *drawn.pop("data_warnings"),
    ],
    "curves": drawn_curves,
    **drawn,
  }


def _shared(run: Run, split: str) -> dict[str, Any]:
  """Returns what the pages of all runs show."""
  return {
    "title": words.title(run),
    "setting": words.setting(run),
    "written": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    "version": mixaug_jax.__version__,
    "split": split,
    "set": shared.SETS[split],
    "loss": run.likelihood.loss_name,
    "chosen_step": run.result.chosen_step,
    "left_out": words.left_out(run),
    "command": words.command(run),
    "beyond": words.beyond_command(run),
  }


def _training_images(run: Run) -> list[int] | None:
  """Returns the number of training images of each class, if it is known."""
  if run.result.class_counts:
    return run.result.class_counts
  identity = run.identity
  if not identity or identity.class_names != run.result.class_names:
    return None
  train = identity.splits.get("train")
  return train.per_class if train else None


def _accuracies(
  run: Run, of_split: Mapping[str, Any], split: str
) -> list[dict[str, Any]]:
  """Returns a row for each evaluation that the run keeps."""
  evaluations = run.result.validation
  rows: list[tuple[str, Any, int | None]] = []
  if run.result.test:
    rows.append((f"{split}, chosen weights", run.result.test, None))
  for name, label in (("last", "last"), ("best", "best"), ("ema", "EMA")):
    if evaluation := getattr(evaluations, name):
      rows.append((f"validation, {label}", evaluation, evaluation.step))
  return [
    {
      "name": name,
      "step": run.result.chosen_step if step is None else step,
      "accuracy": of_split["accuracy"] if step is None else x.accuracy,
      "balanced_accuracy": of_split["balanced_accuracy"]
      if step is None
      else x.balanced_accuracy,
      "top5_accuracy": x.top5_accuracy,
      "loss": numbers.known(x.loss),
      "examples": x.examples,
    }
    for name, x, step in rows
  ]


def _curves(run: Run) -> list[Markup]:
  """Draws the metrics of a run by step; the chosen step is marked."""
  drawn = []
  for title, percent, lines in _CURVES:
    series = {
      label: [values]
      for label, of in lines.items()
      if (values := measured.series(run.rows, *of))[0]
      and (of[1] != "balanced_accuracy" or run.config.evaluate.best_by == of[1])
    }
    if not series:
      continue
    # No line is the baseline of a comparison, which is grey and dashed.
    paint = drawing.colours(["", *series], "")
    figure = figures.curves(series, paint, title, percent=percent)
    if title != "Learning rate":
      figure.axes[0].axvline(
        run.result.chosen_step, color=drawing.GREY, linestyle="--", linewidth=1
      )
    drawn.append(drawing.element(figure, title, f"{title} by step"))
  return drawn


def _matrix(counts: np.ndarray) -> list[list[tuple[int, float, float]]]:
  """Returns what the cells of the confusion matrix show.

  Args:
    counts: int `[C, C]`, rows are true classes.

  Returns:
    For each row and column: the count, its share of the true class, and the
    strength of the colour, the root of the share, which makes small shares
    visible.
  """
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  return [
    [(int(n), float(x), float(x**0.5)) for n, x in zip(*row, strict=True)]
    for row in zip(counts, shares, strict=True)
  ]
