"""Losses on soft labels, and label smoothing."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mixaug_jax import registry
from mixaug_jax.errors import first_line

# Maps logits [B, C] and labels [B, C] to a loss [B]; all are float32.
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns `-sum_c labels_c log softmax(logits)_c` in nats, float32 `[B]`."""
  return optax.softmax_cross_entropy(logits, labels)


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the binary cross-entropy in nats, summed over classes, `[B]`.

  Every class is predicted on its own, so a mixed image may contain both of its
  classes with certainty (Beyer et al., 2020, arXiv:2006.07159; Wightman et
  al., 2021, arXiv:2110.00476).
  """
  return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, labels), axis=-1)


LOSSES: dict[str, Loss] = {
  "softmax": softmax_cross_entropy,
  "sigmoid": sigmoid_cross_entropy,
}


def make(name: str) -> Loss:
  """Returns the loss of `config.loss.name`.

  Args:
    name: a name in LOSSES, or `package.module:function`.

  Raises:
    ValueError: the name is unknown, or the function is not a loss.
  """
  key = "loss.name"
  loss = registry.find(key, name, LOSSES)
  batch = jax.ShapeDtypeStruct((2, 3), jnp.float32)
  try:
    shape = jax.eval_shape(loss, batch, batch).shape
  except Exception as error:  # The user's own code may raise anything.
    raise ValueError(
      f"{key}={name} cannot be called with logits and labels [B, C]: "
      f"{first_line(error)}"
    ) from error
  if shape != (2,):
    raise ValueError(f"{key}={name} must return a loss [B], one per example")
  return loss


def smooth_labels(labels: jax.Array, smoothing: float) -> jax.Array:
  """Returns `(1 - s) labels + s / C`, `[B, C]` with `s` the smoothing.

  The paper is Szegedy et al., 2016, arXiv:1512.00567.
  """
  return (1 - smoothing) * labels + smoothing / labels.shape[-1]


def smooth_sets(labels: jax.Array, smoothing: float) -> jax.Array:
  """Returns `(1 - s) labels + s / 2`, `[B, C]` with `s` the smoothing.

  Each label of a set is a choice of two, so this is `smooth_labels` with two
  classes for each of them.
  """
  return (1 - smoothing) * labels + smoothing / 2
