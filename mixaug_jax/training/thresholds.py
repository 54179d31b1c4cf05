"""Thresholds on probabilities, by which an image has a label or not."""

import numpy as np
from scipy import special

from mixaug_jax.data.label_sets import FEWEST
from mixaug_jax.training import metrics
from mixaug_jax.training.set_measured import Thresholds

DEFAULT = 0.5


def probabilities(logits: np.ndarray) -> np.ndarray:
  """Returns the probability of each label, float64 `[N, C]`."""
  return special.expit(np.asarray(logits, np.float64))


def predicted(logits: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """Returns which labels are predicted, bool `[N, C]`.

  A row with a logit that is not finite predicts no label.

  Args:
    logits: float `[N, C]`.
    thresholds: by class id, `[C]`.
  """
  finite = metrics.finite_rows(logits)[:, None]
  return (probabilities(logits) >= thresholds) & finite


def choose(
  logits: np.ndarray, labels: np.ndarray, class_names: list[str]
) -> Thresholds:
  """Chooses the threshold of each class that has the highest F1.

  It lies in the middle between two probabilities that occur. Of equal F1, the
  highest threshold is taken. Rows with a logit that is not finite are left out.

  Args:
    logits: on validation, float `[N, C]`.
    labels: 0 or 1, `[N, C]`.
    class_names: by class id.
  """
  finite = metrics.finite_rows(logits)
  shares, labels = probabilities(logits[finite]), labels[finite]
  by_class, default = {}, []
  for number, name in enumerate(class_names):
    if labels[:, number].sum(dtype=np.int64) < FEWEST:
      by_class[name] = DEFAULT
      default.append(name)
    else:
      by_class[name] = _best(shares[:, number], labels[:, number])
  return Thresholds(by_class, default)


def _best(shares: np.ndarray, labels: np.ndarray) -> float:
  """Returns the threshold of the highest F1, for one class, `[N]`."""
  order = np.argsort(-shares, kind="stable")
  ranked = shares[order]
  last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
  hits = np.cumsum(labels[order], dtype=np.int64)[last]
  # Of `last + 1` predictions, and of all positives.
  f1 = 2 * hits / (last + 1 + labels.sum(dtype=np.int64))
  cut = last[int(np.argmax(f1))]
  low = ranked[cut + 1] if cut + 1 < len(ranked) else 0.0
  middle = (ranked[cut] + low) / 2
  # No number may lie between the two.
  return float(middle if middle > low else ranked[cut])
