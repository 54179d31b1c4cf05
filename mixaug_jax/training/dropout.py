"""Dropout masks that do not depend on the number of devices."""

from contextlib import AbstractContextManager

import jax
from flax import linen as nn

_BATCH = "dropout_of_the_batch"


def streams(key: jax.Array, positions: jax.Array) -> dict[str, jax.Array]:
  """Returns the random streams of a forward pass in training.

  `by_position` draws from the second one. A module that draws from the stream
  `dropout` itself has a key of its own on each device.

  Args:
    key: the key of the whole global batch.
    positions: places of the examples in the global batch, int32 `[B]`.
  """
  return {"dropout": jax.random.fold_in(key, positions[0]), _BATCH: key}


def by_position(positions: jax.Array) -> AbstractContextManager[None]:
  """Makes every `nn.Dropout` draw a mask per example, from its position.

  Inputs whose first axis is not that of the batch are dropped as by Flax.

  Args:
    positions: places of the examples in the global batch, int32 `[B]`.
  """

  def intercept(method, args, kwargs, context):
    module = context.module
    if not isinstance(module, nn.Dropout) or module.rate == 0:
      return method(*args, **kwargs)

    def drop(inputs, deterministic=None, rng=None):
      if rng is not None or inputs.shape[:1] != positions.shape:
        return method(inputs, deterministic, rng)
      key = module.make_rng(_BATCH)
      # A batch of one keeps the meaning of `broadcast_dims`.
      one = lambda x, position: method(
        x[None], deterministic, jax.random.fold_in(key, position)
      )[0]
      return jax.vmap(one)(inputs, positions)

    return drop(*args, **kwargs)

  return nn.intercept_methods(intercept)
