"""Accuracy on mixed and on clean batches."""

import jax
import jax.numpy as jnp

from mixaug_jax.training.losses import Loss


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
  return jnp.take_along_axis(labels, predicted[:, None], axis=-1)[:, 0]


def in_top(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
  """Tests for each example whether its class is among the `k` largest logits.

  Args:
    logits: float `[B, C]`.
    labels: class ids, int `[B]`.
    k: if it exceeds C, every example without a NaN counts.

  Returns:
    bool `[B]`. Ties go to the lower class id, as in `argmax`, so that constant
    logits do not count for every class. A row with a NaN is wrong.
  """
  true = jnp.take_along_axis(logits, labels[:, None], axis=-1)
  lower = jnp.arange(logits.shape[-1]) < labels[:, None]
  ahead = (logits > true) | ((logits == true) & lower)
  finite = ~jnp.any(jnp.isnan(logits), axis=-1)
  return finite & (jnp.sum(ahead, axis=-1) < k)


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
    number of examples `count`.
  """
  one_hot = jax.nn.one_hot(labels, logits.shape[-1])
  masked = lambda values: jnp.sum(jnp.where(mask > 0, values, 0.0))
  return {
    "loss": masked(loss(logits, one_hot)),
    "accuracy": masked(in_top(logits, labels, 1)),
    "top5_accuracy": masked(in_top(logits, labels, 5)),
    "count": jnp.sum(mask),
  }
