"""Random numbers of fixed dtypes.

The draws are float32 and int32 under `jax_enable_x64` too, so that a result
does not depend on that flag. Bounds may be traced.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mixaug_jax.augment.check import known


def uniform(
  key: jax.Array,
  low: jax.Array | float = 0.0,
  high: jax.Array | float = 1.0,
  shape: Sequence[int] = (),
) -> jax.Array:
  """Draws from [low, high), float32."""
  low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
  return jax.random.uniform(key, shape, jnp.float32, low, high)


def log_uniform(
  key: jax.Array,
  low: jax.Array | float,
  high: jax.Array | float,
  shape: Sequence[int] = (),
) -> jax.Array:
  """Draws from [low, high) with a uniform logarithm, float32."""
  low, high = (math.log(x) if known(x) else jnp.log(x) for x in (low, high))
  return jnp.exp(uniform(key, low, high, shape))


def coin(key: jax.Array, probability: jax.Array | float) -> jax.Array:
  """Draws true with `probability`, a bool scalar."""
  return uniform(key) < jnp.asarray(probability, jnp.float32)


def integer(
  key: jax.Array, low: jax.Array | int, high: jax.Array | int
) -> jax.Array:
  """Draws from low, ..., high - 1, an int32 scalar."""
  low, high = jnp.asarray(low, jnp.int32), jnp.asarray(high, jnp.int32)
  return jax.random.randint(key, (), low, high, jnp.int32)
