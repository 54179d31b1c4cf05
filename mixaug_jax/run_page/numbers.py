"""The numbers of one run: its accuracy, its classes, its calibration."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration, statistics
from mixaug_jax.analysis.likelihood import Likelihood
from mixaug_jax.runs import Predictions

_LEVEL = 0.95


def measure(
  shown: Predictions, validation: Predictions, likelihood: Likelihood
) -> dict[str, Any]:
  """Measures the predictions that a page shows.

  Args:
    shown: the predictions on the split of the page.
    validation: those on validation, to fit the temperature on.
    likelihood: the meaning of the logits.

  Returns:
    The measures of `calibration.measures`, with None where they are nan;
    `accuracy` is a dict of `mean`, `low` and `high`, whose ends are those of
    the interval for one seed of `statistics.accuracy`. Then `examples`,
    `undefined` (examples whose logits are not finite) and `most_frequent` (the
    accuracy of always predicting the most frequent class).
  """
  right = calibration.correct(shown.logits, shown.labels)
  interval = statistics.accuracy(right[None]).interval(_LEVEL, 0, 1)
  measures = calibration.measures(
    shown.logits,
    shown.labels,
    likelihood,
    (validation.logits, validation.labels),
  )
  return {
    **{name: known(value) for name, value in measures.items()},
    "accuracy": interval._asdict(),
    "examples": len(right),
    "undefined": int(calibration.undefined(shown.logits).sum()),
    "most_frequent": float(np.bincount(shown.labels).max() / len(right)),
  }


def by_class(
  shown: Predictions,
  names: Sequence[str],
  training: Sequence[int] | None,
  weights: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
  """Returns a row for each class, the lowest accuracy first.

  Args:
    shown: the predictions on the split of the page.
    names: the class names.
    training: the number of training images of each class, if it is known.
    weights: the weight of each class in the training loss, if it has some.

  Returns:
    Dicts with `name`; `count`, the examples of the class; `training`; `weight`;
    `accuracy`, None without examples; `taken_for`, the wrong class that is
    predicted most often, and `times`, how often; None and 0 if there is none.
    Classes without examples come last; of equal accuracies, the class with
    more examples comes first.
  """
  classes = len(names)
  accuracy = calibration.per_class_accuracy(shown.logits, shown.labels, classes)
  counts = np.bincount(shown.labels, minlength=classes)
  wrong = calibration.confusions(shown.logits, shown.labels, classes)
  np.fill_diagonal(wrong, 0)
  order = np.lexsort((-counts, accuracy))  # nan comes last.
  rows = []
  for i in order:
    other = int(wrong[i].argmax())
    times = int(wrong[i, other])
    rows.append(
      {
        "name": names[i],
        "count": int(counts[i]),
        "training": None if training is None else training[i],
        "weight": None if weights is None else weights[i],
        "accuracy": known(float(accuracy[i])),
        "taken_for": names[other] if times else None,
        "times": times,
      }
    )
  return rows


def known(value: float | None) -> float | None:
  """Returns a number, or None for nan."""
  return None if value is None or math.isnan(value) else float(value)
