"""Accuracy of mixed and of clean batches, as sums that add up exactly."""

import jax
import jax.numpy as jnp

from mixaug_jax.training.losses import Loss


def mixed_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """The label mass on the predicted class, `[B, C]` and `[B, C]` to `[B]`.

  On an unmixed batch this is the ordinary accuracy; on a mixed one no network
  can be right about more of an image than its largest part.
  """
  predicted = jnp.argmax(logits, axis=-1)
  return jnp.take_along_axis(labels, predicted[:, None], axis=-1)[:, 0]


def in_top(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
  """Whether the true class is among the `k` largest logits.

  Args:
    logits: `[B, C]`.
    labels: class ids, int `[B]`.
    k: where it exceeds C, every finite example counts.

  Returns:
    bool `[B]`. Ties go to the lower class id, as in `argmax`, so a network
    that says nothing gains nothing; a row with a NaN is wrong.
  """
  true = jnp.take_along_axis(logits, labels[:, None], axis=-1)
  lower = jnp.arange(logits.shape[-1]) < labels[:, None]
  ahead = (logits > true) | ((logits == true) & lower)
  finite = ~jnp.any(jnp.isnan(logits), axis=-1)
  return finite & (jnp.sum(ahead, axis=-1) < k)


def evaluation_sums(
  logits: jax.Array, labels: jax.Array, mask: jax.Array, loss: Loss
) -> dict[str, jax.Array]:
  """Sums over a padded batch; padding has mask 0.

  Args:
    logits: float32 `[B, C]`.
    labels: class ids, int `[B]`.
    mask: float32 `[B]`, 1 for an example and 0 for padding.
    loss: of soft labels; they are one-hot here, never smoothed.

  Returns:
    float32 scalars `loss`, `accuracy`, `top5_accuracy` (sums, not means) and
    `count`, the number of examples.
  """
  one_hot = jax.nn.one_hot(labels, logits.shape[-1])
  masked = lambda values: jnp.sum(jnp.where(mask > 0, values, 0.0))
  return {
    "loss": masked(loss(logits, one_hot)),
    "accuracy": masked(in_top(logits, labels, 1)),
    "top5_accuracy": masked(in_top(logits, labels, 5)),
    "count": jnp.sum(mask),
  }
