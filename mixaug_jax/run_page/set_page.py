"""What the page of a run with label sets shows of its predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration, set_views
from mixaug_jax.run_page import numbers
from mixaug_jax.runs import Predictions, Run
from mixaug_jax.training import average_precision, set_metrics
from mixaug_jax.training import thresholds as thresholds_lib
from mixaug_jax.training.set_measured import SetMeasured, Thresholds


def content(
  run: Run,
  split: str,
  shown: Predictions,
  names: Sequence[str],
  training: Sequence[int] | None,
) -> dict[str, Any]:
  """Returns the numbers and the sentences of the page.

  Args:
    run: the run.
    split: of the page.
    shown: the predictions on it.
    names: the class names, as readers see them.
    training: the number of training images of each class, if it is known.
  """
  thresholds = run.result.thresholds
  assert thresholds is not None  # `Run.has_label_sets`.
  measures = set_views.measures(
    shown.logits, shown.labels, run.likelihood, thresholds.array()
  )
  undefined = int(calibration.undefined(shown.logits).sum())
  warnings = []
  if undefined:
    warnings.append(
      f"The logits of {undefined:,} of {len(shown.labels):,} images are not "
      "numbers. Such an image ranks its labels last and is given none."
    )
  if count := int(measures["classes_left_out"]):
    warnings.append(
      f"The mean average precision leaves out {count:,} of {len(names):,} "
      f"classes, of which {split} has no image."
    )
  return {
    "headline": _headline(measures, split, len(shown.labels)),
    "set_warnings": warnings,
    "undefined": undefined,
    "evaluations": _evaluations(run, split),
    "labels": float(shown.labels.sum() / len(shown.labels)),
    "unlabelled": int((shown.labels.sum(1) == 0).sum()),
    "classes": by_class(shown, names, thresholds, training),
    "default": len(thresholds.default),
  }


def by_class(
  shown: Predictions,
  names: Sequence[str],
  thresholds: Thresholds,
  training: Sequence[int] | None,
) -> list[dict[str, Any]]:
  """Returns a row for each class, the lowest average precision first.

  Args:
    shown: the predictions on the split of the page.
    names: the class names, as readers see them.
    thresholds: of the run.
    training: the number of training images of each class, if it is known.

  Returns:
    Dicts with `name`; `count`, the examples of the class; `training`;
    `average_precision`, None without examples; `threshold`, and `default`,
    whether it was not chosen; `precision`, None if the class is never
    predicted; `recall` and `f1`, None without examples. Classes without
    examples come last.
  """
  truth = shown.labels > 0
  chosen = thresholds_lib.predicted(shown.logits, thresholds.array())
  hits = (chosen & truth).sum(0)
  each = average_precision.per_class(shown.logits, shown.labels)
  f1 = set_metrics.f1_per_class(chosen, truth)
  counts = truth.sum(0)
  share = lambda part, of: float(part / of) if of else None
  ids = list(thresholds.by_class)
  return [
    {
      "name": names[i],
      "count": int(counts[i]),
      "training": None if training is None else training[i],
      "average_precision": numbers.known(float(each[i])),
      "threshold": thresholds.by_class[ids[i]],
      "default": ids[i] in thresholds.default,
      "precision": share(hits[i], chosen[:, i].sum()),
      "recall": share(hits[i], counts[i]),
      "f1": float(f1[i]) if counts[i] else None,
    }
    for i in np.lexsort((-counts, each))  # nan comes last.
  ]


def _headline(measures: dict[str, float], split: str, images: int) -> str:
  """Returns the figures of the page in two sentences."""
  figure = lambda name: f"{100 * measures[name]:.1f} %"
  on = "of validation, which are these images, " * (split == "validation")
  return (
    f"{split.capitalize()} mean average precision "
    f"{figure('mean_average_precision')} on {images:,} images. At the "
    f"thresholds {on or 'of validation '}micro-F1 is {figure('micro_f1')}, "
    f"macro-F1 {figure('macro_f1')}, and {figure('exact_match')} of the images "
    "have exactly their labels. Another seed may give other figures."
  )


def _evaluations(run: Run, split: str) -> list[dict[str, Any]]:
  """Returns a row for each evaluation that the run keeps."""
  result = run.result
  rows: list[tuple[str, int, Any]] = []
  if result.test:
    rows.append((f"{split}, chosen weights", result.chosen_step, result.test))
  for name, label in (("last", "last"), ("best", "best"), ("ema", "EMA")):
    if evaluation := getattr(result.validation, name):
      rows.append((f"validation, {label}", evaluation.step, evaluation))
  found = []
  for name, step, x in rows:
    assert isinstance(x, SetMeasured)
    found.append({"name": name, "step": step, "measured": x})
  return found
