"""Accuracy on mixed and on clean batches.

One rule holds in every function: a row with a logit that is not finite is never
right, and a label that is no class is never right.
"""

from types import ModuleType
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.training.losses import Loss

# Of JAX or of NumPy; the results are of the same kind.
Array = TypeVar("Array", jax.Array, np.ndarray)


def finite_rows(logits: Array) -> Array:
  """Returns which rows hold finite numbers only, `[B, C]` to bool `[B]`."""
  return _numpy_of(logits).isfinite(logits).all(-1)


def is_class(labels: Array, classes: int) -> Array:
  """Returns which labels are one of `classes` class ids, bool `[B]`."""
  return (labels >= 0) & (labels < classes)


def mixed_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the label mass on the predicted class.

  On an unmixed batch this is the usual accuracy. On a mixed one it is at most
  the largest label of each image.

  Args:
    logits: float `[B, C]`.
    labels: probabilities, float `[B, C]`.

  Returns:
    float `[B]` in [0, 1].
  """
  predicted = jnp.argmax(logits, axis=-1)
  mass = jnp.take_along_axis(labels, predicted[:, None], axis=-1)[:, 0]
  return jnp.where(finite_rows(logits), mass, 0)


def in_top(logits: Array, labels: Array, k: int) -> Array:
  """Tests for each example whether its class is among the `k` largest logits.

  Args:
    logits: float `[B, C]`.
    labels: class ids, int `[B]`.
    k: if it exceeds C, every class is among them.

  Returns:
    bool `[B]`. Ties go to the lower class id, as in `argmax`, so that constant
    logits do not count for every class.
  """
  xnp, classes = _numpy_of(logits, labels), logits.shape[-1]
  valid = is_class(labels, classes)
  own = xnp.where(valid, labels, 0)[:, None]
  true = xnp.take_along_axis(logits, own, axis=-1)
  ahead = (logits > true) | ((logits == true) & (xnp.arange(classes) < own))
  return valid & finite_rows(logits) & (ahead.sum(-1) < k)


def evaluation_sums(
  logits: jax.Array, labels: jax.Array, mask: jax.Array, loss: Loss
) -> dict[str, jax.Array]:
  """Adds up loss and accuracy over a padded batch.

  Args:
    logits: float32 `[B, C]`.
    labels: class ids, int `[B]`.
    mask: float32 `[B]`, 1 for an example and 0 for padding.
    loss: a function of logits and soft labels. The labels are one-hot here, and
      are not smoothed.

  Returns:
    float32 scalars: the sums `loss`, `accuracy` and `top5_accuracy`, and the
    number of examples `count`. The loss is nan if the label of an example is
    no class. By class, float32 `[C]`: the sum `class_accuracy`, and the number
    `class_count`.
  """
  one_hot = jax.nn.one_hot(labels, logits.shape[-1])
  masked = lambda values: jnp.sum(jnp.where(mask > 0, values, 0.0))
  return {
    "loss": masked(
      jnp.where(
        is_class(labels, logits.shape[-1]), loss(logits, one_hot), jnp.nan
      )
    ),
    "accuracy": masked(in_top(logits, labels, 1)),
    "top5_accuracy": masked(in_top(logits, labels, 5)),
    "count": jnp.sum(mask),
    **_class_sums(logits, labels, mask),
  }


def _class_sums(
  logits: jax.Array, labels: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
  """Returns the sums of `evaluation_sums` by class, `[C]`."""
  labels = jnp.asarray(labels)
  classes = jnp.arange(logits.shape[-1], dtype=labels.dtype)
  own = (labels[:, None] == classes) & (mask > 0)[:, None]
  right = own & in_top(logits, labels, 1)[:, None]
  count = lambda found: jnp.sum(found, axis=0, dtype=jnp.float32)
  return {"class_accuracy": count(right), "class_count": count(own)}


def _numpy_of(*arrays: Array) -> ModuleType:
  """Returns jax.numpy if one of the arrays is JAX's, or numpy."""
  return jnp if any(isinstance(x, jax.Array) for x in arrays) else np
