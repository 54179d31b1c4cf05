"""Accuracy, cross-entropy and calibration of predictions.

Logits are float `[N, C]` and labels int `[N]` throughout.
"""

import numpy as np
from scipy import optimize, special

_MAX_TEMPERATURE = 100.0


def softmax(logits: np.ndarray) -> np.ndarray:
  """Returns probabilities, float64 `[N, C]`."""
  return special.softmax(np.asarray(logits, np.float64), axis=-1)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
  """Returns the mean negative log-likelihood, in nats."""
  log = special.log_softmax(np.asarray(logits, np.float64), axis=-1)
  return float(-log[np.arange(len(labels)), labels].mean())


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
  """Returns the share of labels that are among the `k` largest logits.

  Of equal logits the one with the lower class id counts as larger, as in
  `argmax`.
  """
  true = np.take_along_axis(logits, labels[:, None], axis=-1)
  lower = np.arange(logits.shape[-1]) < labels[:, None]
  ahead = (logits > true) | ((logits == true) & lower)
  return float((ahead.sum(-1) < k).mean())


def per_class_accuracy(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """Returns the accuracy on each true class, `[classes]`.

  It is nan for a class without examples.
  """
  counts = confusions(logits, labels, classes)
  total = counts.sum(1)
  return np.where(total > 0, np.diag(counts) / np.maximum(total, 1), np.nan)


def confusions(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """Returns the confusion matrix, int `[classes, classes]`.

  Rows are true classes and columns are predicted classes.
  """
  counts = np.zeros((classes, classes), np.int64)
  np.add.at(counts, (labels, logits.argmax(-1)), 1)
  return counts


def reliability(
  logits: np.ndarray,
  labels: np.ndarray,
  bins: int = 15,
  temperature: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Returns confidence and accuracy in bins of confidence of equal width.

  Args:
    logits: they are divided by `temperature`.
    labels: the true classes.
    bins: the number of bins over (0, 1]; each includes its upper edge.
    temperature: above 0.

  Returns:
    The edges, `[bins + 1]`; the mean confidence, the accuracy and the number
    of examples, `[bins]`. The means are nan in an empty bin.
  """
  probabilities = softmax(np.asarray(logits, np.float64) / temperature)
  confidence = probabilities.max(-1)
  right = probabilities.argmax(-1) == labels
  edges = np.linspace(0, 1, bins + 1)
  place = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
  total = lambda values: np.bincount(place, values, minlength=bins)
  count = total(np.ones(len(labels)))
  with np.errstate(invalid="ignore"):
    means = total(confidence) / count, total(right.astype(float)) / count
  return edges, *means, count.astype(int)


def expected_calibration_error(
  logits: np.ndarray,
  labels: np.ndarray,
  bins: int = 15,
  temperature: float = 1.0,
) -> float:
  """Returns the expected calibration error, in [0, 1].

  `sum_b n_b / N |accuracy_b - confidence_b|` over the bins of `reliability`,
  which has the same arguments (Guo et al., 2017, arXiv:1706.04599).
  """
  _, confidence, accuracy, count = reliability(
    logits, labels, bins, temperature
  )
  some = count > 0
  distance = np.abs(accuracy[some] - confidence[some])
  return float((count[some] * distance).sum() / len(labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
  """Returns the temperature that minimises the cross-entropy.

  This is the temperature scaling of Guo et al. (2017, arXiv:1706.04599).

  Returns:
    A value between 0.01 and 100. It is at one end if all predictions are
    correct, and at the other if they are no better than chance.

  Raises:
    ValueError: no examples.
  """
  if not len(labels):
    raise ValueError("a temperature cannot be fitted on no examples")
  logits = np.asarray(logits, np.float64)
  bound = np.log(_MAX_TEMPERATURE)
  found = optimize.minimize_scalar(
    lambda log: cross_entropy(logits / np.exp(log), labels),
    bounds=(-bound, bound),
    method="bounded",
    options={"xatol": 1e-6},
  )
  return float(np.exp(found.x))
