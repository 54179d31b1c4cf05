"""Accuracy, cross-entropy and calibration of predictions.

Logits are float `[N, C]` and labels int `[N]` throughout. A row of logits with
a NaN predicts nothing: it is wrong in every accuracy, and no loss, calibration
error or temperature is known of predictions with such a row (they are nan).
"""

import numpy as np
from scipy import optimize

from mixaug_jax.analysis.likelihood import SOFTMAX, Likelihood

_MAX_TEMPERATURE = 100.0


def cross_entropy(
  logits: np.ndarray, labels: np.ndarray, likelihood: Likelihood = SOFTMAX
) -> float:
  """Returns the mean negative log-likelihood, in nats."""
  return float(likelihood.cross_entropy(logits, labels).mean())


def undefined(logits: np.ndarray) -> np.ndarray:
  """Returns which rows hold a NaN, bool `[N]`."""
  return np.isnan(logits).any(-1)


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns which labels have the largest logit, bool `[N]`."""
  return (logits.argmax(-1) == labels) & ~undefined(logits)


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
  """Returns the share of labels that are among the `k` largest logits.

  Of equal logits the one with the lower class id counts as larger, as in
  `argmax`.
  """
  true = np.take_along_axis(logits, labels[:, None], axis=-1)
  lower = np.arange(logits.shape[-1]) < labels[:, None]
  ahead = (logits > true) | ((logits == true) & lower)
  return float(((ahead.sum(-1) < k) & ~undefined(logits)).mean())


def per_class_accuracy(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """Returns the accuracy on each true class, `[classes]`.

  It is nan for a class without examples.
  """
  right = np.bincount(labels[correct(logits, labels)], minlength=classes)
  total = np.bincount(labels, minlength=classes)
  return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def confusions(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """Returns the confusion matrix, int `[classes, classes]`.

  Rows are true classes and columns are predicted classes. Examples whose
  logits hold a NaN are left out.
  """
  counts = np.zeros((classes, classes), np.int64)
  some = ~undefined(logits)
  np.add.at(counts, (labels[some], logits[some].argmax(-1)), 1)
  return counts


def reliability(
  logits: np.ndarray,
  labels: np.ndarray,
  bins: int = 15,
  temperature: float = 1.0,
  likelihood: Likelihood = SOFTMAX,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Returns confidence and accuracy in bins of confidence of equal width.

  The confidence of a prediction is the probability of the predicted class.

  Args:
    logits: they are divided by `temperature`.
    labels: the true classes.
    bins: the number of bins over (0, 1]; each includes its upper edge.
    temperature: above 0.
    likelihood: the meaning of the logits.

  Returns:
    The edges, `[bins + 1]`; the mean confidence, the accuracy and the number
    of examples, `[bins]`. The means are nan in an empty bin. An example whose
    confidence is not a number is in no bin.
  """
  probabilities = likelihood.probabilities(
    np.asarray(logits, np.float64) / temperature
  )
  known = ~undefined(probabilities)
  probabilities = probabilities[known]
  confidence = probabilities.max(-1)
  right = probabilities.argmax(-1) == labels[known]
  edges = np.linspace(0, 1, bins + 1)
  place = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
  total = lambda values: np.bincount(place, values, minlength=bins)
  count = total(np.ones(len(right)))
  with np.errstate(invalid="ignore"):
    means = total(confidence) / count, total(right.astype(float)) / count
  return edges, *means, count.astype(int)


def expected_calibration_error(
  logits: np.ndarray,
  labels: np.ndarray,
  bins: int = 15,
  temperature: float = 1.0,
  likelihood: Likelihood = SOFTMAX,
) -> float:
  """Returns the expected calibration error, in [0, 1], or nan.

  `sum_b n_b / N |accuracy_b - confidence_b|` over the bins of `reliability`,
  which has the same arguments (Guo et al., 2017, arXiv:1706.04599).
  """
  _, confidence, accuracy, count = reliability(
    logits, labels, bins, temperature, likelihood
  )
  if count.sum() < len(labels):
    return np.nan
  some = count > 0
  distance = np.abs(accuracy[some] - confidence[some])
  return float((count[some] * distance).sum() / len(labels))


def fit_temperature(
  logits: np.ndarray, labels: np.ndarray, likelihood: Likelihood = SOFTMAX
) -> float:
  """Returns the temperature that minimises the cross-entropy.

  This is the temperature scaling of Guo et al. (2017, arXiv:1706.04599).

  Returns:
    A value between 0.01 and 100. It is at one end if all predictions are
    correct, and at the other if they are no better than chance. It is nan if
    a logit is.

  Raises:
    ValueError: no examples.
  """
  if not len(labels):
    raise ValueError("a temperature cannot be fitted on no examples")
  if undefined(logits).any():
    return np.nan
  logits = np.asarray(logits, np.float64)
  bound = np.log(_MAX_TEMPERATURE)
  found = optimize.minimize_scalar(
    lambda log: cross_entropy(logits / np.exp(log), labels, likelihood),
    bounds=(-bound, bound),
    method="bounded",
    options={"xatol": 1e-6},
  )
  return float(np.exp(found.x))
