"""Accuracy, and whether a network knows how often it is right.

Logits are float `[N, C]` and labels int `[N]` throughout.
"""

import numpy as np
from scipy import optimize, special

_MAX_TEMPERATURE = 100.0


def softmax(logits: np.ndarray) -> np.ndarray:
  """Probabilities, float64 `[N, C]`."""
  return special.softmax(np.asarray(logits, np.float64), axis=-1)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
  """The mean negative log-likelihood, in nats."""
  log = special.log_softmax(np.asarray(logits, np.float64), axis=-1)
  return float(-log[np.arange(len(labels)), labels].mean())


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
  """The share of labels among the `k` largest logits.

  Ties go to the lower class id, as in `argmax`.
  """
  true = np.take_along_axis(logits, labels[:, None], axis=-1)
  lower = np.arange(logits.shape[-1]) < labels[:, None]
  ahead = (logits > true) | ((logits == true) & lower)
  return float((ahead.sum(-1) < k).mean())


def per_class_accuracy(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """The accuracy on each true class, `[classes]`; nan without examples."""
  counts = confusions(logits, labels, classes)
  total = counts.sum(1)
  return np.where(total > 0, np.diag(counts) / np.maximum(total, 1), np.nan)


def confusions(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """How often each true class (row) is taken for each (column), int."""
  counts = np.zeros((classes, classes), np.int64)
  np.add.at(counts, (labels, logits.argmax(-1)), 1)
  return counts


def reliability(
  logits: np.ndarray,
  labels: np.ndarray,
  bins: int = 15,
  temperature: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Confidence and accuracy in bins of confidence, all of the same width.

  Args:
    logits: divided by `temperature`.
    labels: true classes.
    bins: their number, over (0, 1]; each holds its upper edge.
    temperature: above 0.

  Returns:
    Edges `[bins + 1]`; mean confidence, accuracy and number of examples
    `[bins]`, the first two nan where a bin is empty.
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
  """The mean distance of confidence and accuracy over bins, in [0, 1].

  `sum_b n_b / N |accuracy_b - confidence_b|` (Guo et al., 2017,
  arXiv:1706.04599); arguments as of `reliability`.
  """
  _, confidence, accuracy, count = reliability(
    logits, labels, bins, temperature
  )
  some = count > 0
  distance = np.abs(accuracy[some] - confidence[some])
  return float((count[some] * distance).sum() / len(labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
  """The temperature that minimises the cross-entropy (Guo et al., 2017).

  Returns:
    Between 0.01 and 100; at an end where the data are all right, or no better
    than chance.

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
