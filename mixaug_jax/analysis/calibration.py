"""Accuracy, cross-entropy and calibration of predictions.

Logits are float `[N, C]` and labels int `[N]` throughout. A row with a logit
that is not finite predicts nothing: it is wrong in every accuracy, and a
calibration error or a temperature of predictions with such a row is a
ValueError. A label that is no class is wrong in every accuracy.
"""

import numpy as np
from scipy import optimize

from mixaug_jax.analysis.likelihood import SOFTMAX, Likelihood
from mixaug_jax.training import metrics

_MAX_TEMPERATURE = 100.0


def cross_entropy(
  logits: np.ndarray, labels: np.ndarray, likelihood: Likelihood = SOFTMAX
) -> float:
  """Returns the mean negative log-likelihood, in nats."""
  return float(likelihood.cross_entropy(logits, labels).mean())


def undefined(logits: np.ndarray) -> np.ndarray:
  """Returns which rows hold a logit that is not finite, bool `[N]`."""
  return ~metrics.finite_rows(logits)


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns which labels have the largest logit, bool `[N]`."""
  return metrics.in_top(logits, labels, 1)


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
  """Returns the share of labels that are among the `k` largest logits.

  Of equal logits the one with the lower class id counts as larger, as in
  `argmax`.
  """
  return float(metrics.in_top(logits, labels, k).mean())


def per_class_accuracy(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """Returns the accuracy on each true class, `[classes]`.

  It is nan for a class without examples.
  """
  valid = metrics.is_class(labels, classes)
  right = labels[valid & correct(logits, labels)]
  right = np.bincount(right, minlength=classes)
  total = np.bincount(labels[valid], minlength=classes)
  return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def balanced_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
  """Returns the mean of the accuracies of the classes that have examples.

  It is the mean recall. Unlike the accuracy, it does not depend on how many
  examples a class has.
  """
  each = per_class_accuracy(logits, labels, logits.shape[-1])
  some = each[~np.isnan(each)]
  return float(some.mean()) if len(some) else float("nan")


def confusions(
  logits: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """Returns the confusion matrix, int `[classes, classes]`.

  Rows are true classes and columns are predicted classes. Examples whose
  logits are not finite or whose label is no class are left out.
  """
  counts = np.zeros((classes, classes), np.int64)
  some = ~undefined(logits) & metrics.is_class(labels, classes)
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
    of examples, `[bins]`. The means are nan in an empty bin.

  Raises:
    ValueError: a logit is not finite.
  """
  predicted, confidence, place = _binned(logits, bins, temperature, likelihood)
  right = predicted == labels
  total = lambda values: np.bincount(place, values, minlength=bins)
  count = total(np.ones(len(right)))
  with np.errstate(invalid="ignore"):
    means = total(confidence) / count, total(right.astype(float)) / count
  return np.linspace(0, 1, bins + 1), *means, count.astype(int)


def _binned(
  logits: np.ndarray, bins: int, temperature: float, likelihood: Likelihood
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns predicted class, confidence and bin of each example, `[N]`."""
  _check(logits)
  probabilities = likelihood.probabilities(
    np.asarray(logits, np.float64) / temperature
  )
  confidence = probabilities.max(-1)
  edges = np.linspace(0, 1, bins + 1)
  place = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
  return probabilities.argmax(-1), confidence, place


def expected_calibration_error(
  logits: np.ndarray,
  labels: np.ndarray,
  bins: int = 15,
  temperature: float = 1.0,
  likelihood: Likelihood = SOFTMAX,
) -> float:
  """Returns the expected calibration error, in [0, 1].

  `sum_b n_b / N |accuracy_b - confidence_b|` over the bins of `reliability`,
  which has the same arguments and errors (Guo et al., 2017, arXiv:1706.04599).
  """
  _, confidence, accuracy, count = reliability(
    logits, labels, bins, temperature, likelihood
  )
  some = count > 0
  distance = np.abs(accuracy[some] - confidence[some])
  return float((count[some] * distance).sum() / len(labels))


def calibration_error_by_chance(
  logits: np.ndarray,
  bins: int = 15,
  temperature: float = 1.0,
  likelihood: Likelihood = SOFTMAX,
  draws: int = 100,
) -> float:
  """Returns the calibration error of perfect confidences, by chance.

  The expected calibration error is a sum of absolute values, so the noise of
  few examples raises it. This is its mean over simulated labels that are right
  with a probability equal to the confidence (Broecker and Smith, 2007,
  doi:10.1175/WAF993.1, draw a reliability diagram in this way).

  Args:
    logits: as for `expected_calibration_error`, which has the other arguments
      and errors too.
    draws: the number of simulations, from a fixed seed.
  """
  _, confidence, place = _binned(logits, bins, temperature, likelihood)
  rng = np.random.default_rng(0)
  total = 0.0
  for _ in range(draws):
    excess = (rng.random(len(confidence)) < confidence) - confidence
    total += np.abs(np.bincount(place, excess, minlength=bins)).sum()
  return float(total / draws / len(confidence))


def fit_temperature(
  logits: np.ndarray, labels: np.ndarray, likelihood: Likelihood = SOFTMAX
) -> float:
  """Returns the temperature that minimises the cross-entropy.

  This is the temperature scaling of Guo et al. (2017, arXiv:1706.04599).

  Returns:
    A value between 0.01 and 100. It is at one end if all predictions are
    correct, and at the other if they are no better than chance.

  Raises:
    ValueError: no examples, a logit is not finite, or a label is no class.
  """
  if not len(labels):
    raise ValueError("a temperature cannot be fitted on no examples")
  _check(logits)
  if bad := int((~metrics.is_class(labels, logits.shape[-1])).sum()):
    raise ValueError(f"{bad:,} of {len(labels):,} labels are no class")
  logits = np.asarray(logits, np.float64)
  bound = np.log(_MAX_TEMPERATURE)
  found = optimize.minimize_scalar(
    lambda log: cross_entropy(logits / np.exp(log), labels, likelihood),
    bounds=(-bound, bound),
    method="bounded",
    options={"xatol": 1e-6},
  )
  return float(np.exp(found.x))


def measures(
  logits: np.ndarray,
  labels: np.ndarray,
  likelihood: Likelihood,
  validation: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, float | None]:
  """Returns accuracy, loss and calibration of predictions.

  Args:
    logits: of the predictions to measure.
    labels: their true classes.
    likelihood: the meaning of the logits.
    validation: logits and labels to fit the temperature on.

  Returns:
    `accuracy`, `balanced_accuracy`, which is nan if no label is a class,
    `top5_accuracy`, `loss`, `calibration_error` before and
    `calibration_error_scaled` after scaling by `temperature`, both None
    without validation, and `calibration_error_by_chance`. The figures of
    calibration are nan if a logit that they are measured on is not finite.
  """

  unmeasured = undefined(logits).any()

  def error(temperature):
    if unmeasured or np.isnan(temperature):
      return np.nan
    return expected_calibration_error(
      logits, labels, temperature=temperature, likelihood=likelihood
    )

  temperature = None
  if validation is not None:
    unknown = undefined(validation[0]).any()
    temperature = (
      np.nan if unknown else fit_temperature(*validation, likelihood)
    )
  return {
    "accuracy": top_k_accuracy(logits, labels, 1),
    "balanced_accuracy": balanced_accuracy(logits, labels),
    "top5_accuracy": top_k_accuracy(logits, labels, 5),
    "loss": likelihood.loss(logits, labels),
    "calibration_error": error(1.0),
    "calibration_error_by_chance": (
      np.nan
      if unmeasured
      else calibration_error_by_chance(logits, likelihood=likelihood)
    ),
    "temperature": temperature,
    "calibration_error_scaled": (
      None if temperature is None else error(temperature)
    ),
  }


def _check(logits: np.ndarray) -> None:
  """Raises ValueError if a logit is not finite."""
  if bad := int(undefined(logits).sum()):
    raise ValueError(
      f"the logits of {bad:,} of {len(logits):,} examples are not finite"
    )
