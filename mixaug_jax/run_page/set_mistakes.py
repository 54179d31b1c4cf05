"""The labels that a run with label sets gets wrong with the most confidence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration
from mixaug_jax.data import label_sets
from mixaug_jax.runs import Predictions
from mixaug_jax.training import thresholds as thresholds_lib


def worst(
  shown: Predictions, thresholds: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns images with a wrong label, and which label it is.

  The confidence of a label that is predicted wrongly is its probability; of one
  that is missed, the rest to 1. An image counts with its most confident
  mistake.

  Args:
    shown: the predictions.
    thresholds: by class id, `[C]`.
    most: the largest number of images to return.

  Returns:
    Positions and class ids, int `[at most `most`]`, the most confident first.
  """
  chosen = thresholds_lib.predicted(shown.logits, thresholds)
  wrong = chosen != (shown.labels > 0)
  wrong[calibration.undefined(shown.logits)] = False
  shares = thresholds_lib.probabilities(shown.logits)
  confidence = np.where(wrong, np.where(chosen, shares, 1 - shares), -1)
  order = np.argsort(-confidence.max(-1), kind="stable")
  positions = order[: min(most, int(wrong.any(-1).sum()))]
  return positions, confidence[positions].argmax(-1)


def some_right(
  shown: Predictions, thresholds: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns images whose label set is right, at random, and a label of each.

  Args:
    shown: the predictions.
    thresholds: by class id, `[C]`.
    most: the largest number of images to return.

  Returns:
    Positions of images that have a label, and the class id of the most likely
    label, int `[at most `most`]`.
  """
  chosen = thresholds_lib.predicted(shown.logits, thresholds)
  truth = shown.labels > 0
  right = np.flatnonzero((chosen == truth).all(-1) & truth.any(-1))
  positions = np.random.default_rng(0).permutation(right)[:most]
  likely = np.where(truth[positions], shown.logits[positions], -np.inf)
  return positions, likely.argmax(-1)


def described(
  shown: Predictions,
  names: Sequence[str],
  thresholds: np.ndarray,
  positions: np.ndarray,
  classes: np.ndarray,
) -> list[dict[str, Any]]:
  """Returns the captions of images.

  Args:
    shown: the predictions.
    names: the class names.
    thresholds: by class id, `[C]`.
    positions: of the images, `[K]`.
    classes: of each image, the label that the caption is about, `[K]`.
  """
  logits, labels = shown.logits[positions], shown.labels[positions]
  chosen = thresholds_lib.predicted(logits, thresholds)
  shares = thresholds_lib.probabilities(logits)
  truth = label_sets.in_words(labels, names)
  predicted = label_sets.in_words(chosen, names)
  return [
    {
      "picture": None,
      "true": truth[row],
      "predicted": predicted[row],
      "right": bool((chosen[row] == (labels[row] > 0)).all()),
      "label": names[number],
      "confidence": float(shares[row, number]),
      "threshold": float(thresholds[number]),
      "id": str(shown.ids[positions[row]]),
    }
    for row, number in enumerate(classes)
  ]
