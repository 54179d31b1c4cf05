"""Classical classifiers, which a network has to beat."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import optimize, special
from scipy.spatial import distance

NEIGHBOURS = (1, 3, 5, 9, 15, 25)
PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
Metric = Literal["euclidean", "cosine"]
_BLOCK = 1000  # Examples that are held in float64 at a time.
# A standard deviation below this share of the mean is a rounding error.
_CONSTANT = 1e-6


def nearest_neighbours(
  train: tuple[np.ndarray, np.ndarray],
  validation: tuple[np.ndarray, np.ndarray],
  test: np.ndarray,
  counts: Sequence[int] = NEIGHBOURS,
  metric: Metric = "euclidean",
) -> np.ndarray:
  """Predicts the most frequent class of the nearest training examples.

  The number of neighbours has the highest accuracy on validation; of equal
  ones, the smallest is taken. Of equally frequent classes, the one with the
  nearest example wins.

  Args:
    train: features `[N, D]` and class ids `[N]`.
    validation: the same for other examples.
    test: features `[T, D]`.
    counts: the numbers of neighbours to choose from.
    metric: `euclidean`, or `cosine`, which is usual for the features of a
      network (Wu et al., 2018, arXiv:1805.01978).

  Returns:
    Class ids, `[T]`.
  """
  counts = sorted({min(count, len(train[0])) for count in counts})
  near = _nearest(*train, validation[0], counts[-1], metric)
  right = [np.mean(_vote(near, count) == validation[1]) for count in counts]
  chosen = counts[int(np.argmax(right))]
  return _vote(_nearest(*train, test, chosen, metric), chosen)


def _nearest(
  features: np.ndarray,
  labels: np.ndarray,
  queries: np.ndarray,
  count: int,
  metric: Metric,
) -> np.ndarray:
  """Returns the classes of the nearest examples, in order, `[Q, count]`."""
  found = []
  for first in range(0, len(queries), _BLOCK):
    apart = distance.cdist(queries[first : first + _BLOCK], features, metric)
    found.append(labels[np.argsort(apart, axis=1, kind="stable")[:, :count]])
  return np.concatenate(found)


def _vote(nearest: np.ndarray, count: int) -> np.ndarray:
  """Returns the most frequent class of the first `count` ones, `[Q]`."""
  votes = np.zeros((len(nearest), nearest.max() + 1))
  rows = np.arange(len(nearest))
  for place in range(count):
    # The fraction only decides ties, for the class of the nearest example.
    votes[rows, nearest[:, place]] += 1 + 0.25 / 2**place
  return votes.argmax(1)


def logistic_regression(
  train: tuple[np.ndarray, np.ndarray],
  validation: tuple[np.ndarray, np.ndarray],
  test: np.ndarray,
  classes: int,
  penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
  """Predicts by a linear softmax classifier with an L2 penalty on its weights.

  It minimises `mean cross-entropy + penalty / 2 * sum(weights ** 2)`, on
  features of zero mean and unit variance in training. The penalty has the
  highest accuracy on validation; of equal ones, the strongest is taken.

  Args:
    train: features `[N, D]` and class ids `[N]`.
    validation: the same for other examples.
    test: features `[T, D]`.
    classes: their number.
    penalties: the penalties to choose from.

  Returns:
    Class ids, `[T]`.
  """
  mean, scale = (f(train[0], 0, np.float64) for f in (np.mean, np.std))
  scale = np.where(scale > _CONSTANT * np.abs(mean), scale, 1)
  scaled = (train[0] - mean) / scale
  # With a penalty, the weights of a class are a sum of the training examples.
  # Few examples span few dimensions, in which the same problem is faster.
  axes = np.linalg.qr(scaled.T)[0]
  inside = scaled @ axes
  weights = np.zeros((axes.shape[1] + 1, classes))
  best, chosen = -1.0, weights
  for penalty in sorted(penalties, reverse=True):
    # The solution for a stronger penalty is near that for a weaker one.
    weights = _fit(inside, train[1], penalty, weights)
    of_raw = np.append(axes @ weights[:-1] / scale[:, None], weights[-1:], 0)
    of_raw[-1] -= mean @ of_raw[:-1]
    right = float(np.mean(_predict(validation[0], of_raw) == validation[1]))
    if right > best:
      best, chosen = right, of_raw
  return _predict(test, chosen)


def _predict(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
  blocks = np.split(features, range(_BLOCK, len(features), _BLOCK))
  logits = (block @ weights[:-1] + weights[-1] for block in blocks)
  return np.concatenate([x.argmax(1) for x in logits])


def _fit(
  features: np.ndarray, labels: np.ndarray, penalty: float, start: np.ndarray
) -> np.ndarray:
  """Minimises the loss by a trust-region Newton method.

  Few Newton steps reach a gradient of 1e-6, also with weak penalties and with
  correlated features.

  Args:
    features: `[N, D]`.
    labels: class ids `[N]`.
    penalty: see `logistic_regression`.
    start: `[D + 1, classes]`, as the result.

  Returns:
    Weights `[D + 1, classes]`; the last row is the bias.
  """
  features = np.append(features, np.ones((len(features), 1)), axis=1)
  truth = np.eye(start.shape[1])[labels]
  penalties = np.full((len(start), 1), penalty)
  penalties[-1] = 0  # Of the bias.

  def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
    weights = flat.reshape(start.shape)
    logits = features @ weights
    value = np.mean(special.logsumexp(logits, axis=1) - logits[truth > 0])
    value += np.sum(penalties * weights**2) / 2
    error = (special.softmax(logits, axis=1) - truth) / len(labels)
    return float(value), (features.T @ error + penalties * weights).ravel()

  def curvature(flat: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Returns the Hessian times a direction."""
    direction = direction.reshape(start.shape)
    shares = special.softmax(features @ flat.reshape(start.shape), axis=1)
    change = shares * (features @ direction)
    change -= shares * change.sum(1, keepdims=True)
    product = features.T @ change / len(labels) + penalties * direction
    return product.ravel()

  found = optimize.minimize(
    loss,
    start.ravel(),
    jac=True,
    hessp=curvature,
    method="trust-ncg",
    options={"gtol": 1e-6, "maxiter": 200},
  )
  return found.x.reshape(start.shape)
