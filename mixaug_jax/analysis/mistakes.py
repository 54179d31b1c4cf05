"""The mistakes of a classifier: the most confident ones, the most frequent."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration
from mixaug_jax.analysis.likelihood import Likelihood


def most_confident(
  logits: np.ndarray, labels: np.ndarray, likelihood: Likelihood, most: int
) -> np.ndarray:
  """Returns the wrong predictions of the highest confidence.

  The confidence of a prediction is the probability of the predicted class.

  Args:
    logits: float `[N, C]`; a row that is not finite predicts nothing.
    labels: class ids, int `[N]`.
    likelihood: the meaning of the logits.
    most: the largest number of predictions to return.

  Returns:
    Positions, int `[at most `most`]`, the most confident first; of equals, the
    earlier one.
  """
  wrong = ~calibration.correct(logits, labels) & ~calibration.undefined(logits)
  positions = np.flatnonzero(wrong)
  confidence = likelihood.probabilities(
    logits[positions].astype(np.float64)
  ).max(-1)
  return positions[np.argsort(-confidence, kind="stable")[:most]]


def most_confused(
  counts: np.ndarray, names: Sequence[str], most: int
) -> list[dict[str, Any]]:
  """Returns the pairs of a true and a wrong class that occur most often.

  Args:
    counts: as `calibration.confusions` returns them, int `[C, C]`.
    names: the class names, by class id.
    most: the largest number of pairs to return.

  Returns:
    Dicts with the names `true` and `predicted`, `count` and `of`, the number
    of examples of the true class.
  """
  wrong = counts.copy()
  np.fill_diagonal(wrong, 0)
  order = np.argsort(-wrong, axis=None, kind="stable")[:most]
  pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
  return [
    {
      "true": names[true],
      "predicted": names[predicted],
      "count": int(wrong[true, predicted]),
      "of": int(counts[true].sum()),
    }
    for true, predicted in pairs
    if wrong[true, predicted]
  ]
