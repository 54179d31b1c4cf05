"""What predictions of label sets are worth: mean average precision and F1."""

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.training import average_precision, metrics
from mixaug_jax.training import thresholds as thresholds_lib
from mixaug_jax.training.losses import Loss


def loss_sums(
  logits: jax.Array, labels: jax.Array, mask: jax.Array, loss: Loss
) -> dict[str, jax.Array]:
  """Adds up the loss over a padded batch.

  Args:
    logits: float32 `[B, C]`.
    labels: 0 or 1, `[B, C]`; not smoothed.
    mask: float32 `[B]`, 1 for an example and 0 for padding.
    loss: a function of logits and soft labels.

  Returns:
    float32 scalars: the sum `loss` and the number of examples `count`.
  """
  each = loss(logits, labels.astype(jnp.float32))
  return {
    "loss": jnp.sum(jnp.where(mask > 0, each, 0.0)),
    "count": jnp.sum(mask),
  }


def ranking(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Returns what needs no threshold.

  Args:
    logits: float `[N, C]`.
    labels: 0 or 1, `[N, C]`.

  Returns:
    `mean_average_precision`, as `average_precision.mean` has it, and
    `classes_left_out`, the number of classes without a positive example.
  """
  found, left_out = average_precision.mean(logits, labels)
  return {"mean_average_precision": found, "classes_left_out": left_out}


def at_thresholds(
  logits: np.ndarray, labels: np.ndarray, thresholds: np.ndarray
) -> dict[str, float]:
  """Returns the figures of label sets that are predicted by thresholds.

  Args:
    logits: float `[N, C]`.
    labels: 0 or 1, `[N, C]`.
    thresholds: by class id, `[C]`.

  Returns:
    `micro_f1`, of all labels of all images together; `macro_f1`, the mean over
    the classes that have a positive example; `exact_match`, the share of images
    whose predicted label set is the true one. A row with a logit that is not
    finite predicts no label and is no exact match.
  """
  chosen = thresholds_lib.predicted(logits, thresholds)
  truth = labels > 0
  exact = (chosen == truth).all(-1) & metrics.finite_rows(logits)
  total = int(chosen.sum() + truth.sum())
  each = f1_per_class(chosen, truth)[truth.any(0)]
  return {
    "micro_f1": 2 * int((chosen & truth).sum()) / total if total else np.nan,
    "macro_f1": float(each.mean()) if len(each) else np.nan,
    "exact_match": float(exact.mean()),
  }


def f1_per_class(chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Returns the F1 of each class, `2 TP / (2 TP + FP + FN)`, float64 `[C]`.

  Args:
    chosen: which labels are predicted, bool `[N, C]`.
    truth: which labels are true, bool `[N, C]`.

  Returns:
    In [0, 1]; 0 for a class that is neither predicted nor true.
  """
  total = chosen.sum(0) + truth.sum(0)
  return 2 * (chosen & truth).sum(0) / np.maximum(total, 1)
