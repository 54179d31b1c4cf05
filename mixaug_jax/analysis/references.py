"""Classical classifiers, which a network has to beat."""

from collections.abc import Sequence

import numpy as np
from scipy import optimize, special
from scipy.spatial import distance

NEIGHBOURS = (1, 3, 5, 9)
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
_BLOCK = 1000  # Examples whose distances are held at a time.


def nearest_neighbours(
  train: tuple[np.ndarray, np.ndarray],
  validation: tuple[np.ndarray, np.ndarray],
  test: np.ndarray,
  counts: Sequence[int] = NEIGHBOURS,
) -> np.ndarray:
  """Predicts the most frequent class of the nearest training examples.

  The number of neighbours has the highest accuracy on validation. The distance
  is Euclidean. Of equally frequent classes, the one with the nearest example
  wins.

  Args:
    train: features `[N, D]` and class ids `[N]`.
    validation: the same for other examples.
    test: features `[T, D]`.
    counts: the numbers of neighbours to choose from.

  Returns:
    Class ids, `[T]`.
  """
  counts = sorted({min(count, len(train[0])) for count in counts})
  right = [
    np.mean(_vote(*train, validation[0], count) == validation[1])
    for count in counts
  ]
  return _vote(*train, test, counts[int(np.argmax(right))])


def _vote(
  features: np.ndarray, labels: np.ndarray, queries: np.ndarray, count: int
) -> np.ndarray:
  classes = labels.max() + 1
  found = []
  for first in range(0, len(queries), _BLOCK):
    apart = distance.cdist(queries[first : first + _BLOCK], features)
    nearest = labels[np.argsort(apart, axis=1, kind="stable")[:, :count]]
    votes = np.zeros((len(nearest), classes))
    rows = np.arange(len(nearest))
    for place in range(count):
      # The fraction only decides ties, for the class of the nearest example.
      votes[rows, nearest[:, place]] += 1 + 0.25 / 2**place
    found.append(votes.argmax(1))
  return np.concatenate(found)


def logistic_regression(
  train: tuple[np.ndarray, np.ndarray],
  validation: tuple[np.ndarray, np.ndarray],
  test: np.ndarray,
  classes: int,
  penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
  """Predicts by a linear softmax classifier with an L2 penalty on its weights.

  It minimises `mean cross-entropy + penalty / 2 * sum(weights ** 2)`, on
  features of zero mean and unit variance. The penalty has the highest accuracy
  on validation.

  Args:
    train: features `[N, D]` and class ids `[N]`.
    validation: the same for other examples.
    test: features `[T, D]`.
    classes: their number.
    penalties: the penalties to choose from.

  Returns:
    Class ids, `[T]`.
  """
  mean, scale = train[0].mean(0), train[0].std(0)
  scale = np.where(scale > 0, scale, 1)
  scaled = lambda features: (features - mean) / scale
  best, chosen = -1.0, None
  weights = np.zeros((train[0].shape[1] + 1, classes))
  for penalty in sorted(penalties, reverse=True):
    # The solution for a stronger penalty is near that for a weaker one.
    weights = _fit(scaled(train[0]), train[1], penalty, weights)
    predicted = _logits(scaled(validation[0]), weights).argmax(1)
    right = float(np.mean(predicted == validation[1]))
    if right > best:
      best, chosen = right, weights
  return _logits(scaled(test), chosen).argmax(1)


def _logits(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
  return features @ weights[:-1] + weights[-1]


def _fit(
  features: np.ndarray, labels: np.ndarray, penalty: float, start: np.ndarray
) -> np.ndarray:
  """Returns weights `[D + 1, classes]`; the last row is the bias."""
  truth = np.eye(start.shape[1])[labels]

  def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
    weights = flat.reshape(start.shape)
    logits = _logits(features, weights)
    value = np.mean(special.logsumexp(logits, axis=1) - logits[truth > 0])
    error = (special.softmax(logits, axis=1) - truth) / len(labels)
    gradient = np.concatenate([features.T @ error, error.sum(0)[None]])
    gradient[:-1] += penalty * weights[:-1]
    value += penalty / 2 * np.sum(weights[:-1] ** 2)
    return float(value), gradient.ravel()

  found = optimize.minimize(
    loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200}
  )
  return found.x.reshape(start.shape)
