"""Average precision of each class, exact over all examples."""

import numpy as np


def per_class(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the average precision of each class, float64 `[C]`.

  With the distinct logits of a class as thresholds, from the largest one on,
  precision P and recall R, it is `sum_n (R_n - R_(n-1)) P_n`, as in
  `sklearn.metrics.average_precision_score`. Equal logits are one threshold, so
  that the order of the examples plays no part.

  Args:
    logits: float `[N, C]`. A row with a logit that is not finite ranks its
      labels last and the other classes first.
    labels: 0 or 1, `[N, C]`.

  Returns:
    In [0, 1]; nan for a class without a positive example.
  """
  scores = np.array(logits, np.float64)
  undefined = ~np.isfinite(scores).all(-1)
  scores[undefined] = np.where(labels[undefined] > 0, -np.inf, np.inf)
  return np.array(
    [_of_class(*of) for of in zip(scores.T, labels.T, strict=True)]
  )


def _of_class(scores: np.ndarray, labels: np.ndarray) -> float:
  """Returns the average precision of scores `[N]` and labels `[N]`."""
  positives = int(labels.sum(dtype=np.int64))
  if not positives:
    return np.nan
  order = np.argsort(-scores, kind="stable")
  ranked = scores[order]
  last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
  hits = np.cumsum(labels[order], dtype=np.int64)[last]
  gained = np.diff(hits, prepend=0) / positives
  return float(np.sum(gained * hits / (last + 1)))


def mean(logits: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
  """Returns the mean over the classes that have a positive example.

  Args:
    logits: as in `per_class`.
    labels: as in `per_class`.

  Returns:
    The mean average precision, nan if no class has a positive example, and the
    number of classes that are left out.
  """
  each = per_class(logits, labels)
  known = each[~np.isnan(each)]
  found = float(known.mean()) if len(known) else np.nan
  return found, len(each) - len(known)
