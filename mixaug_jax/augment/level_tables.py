"""Histograms and look-up tables of 256 levels on accelerators.

An index into memory for each level is slow on TPUs, which scatter and gather
one element after another. There a level is written as `16 * high + low`, and
both parts as one-hot vectors of 16 numbers: then a histogram and a look-up are
matrix products. They are exact, because the bfloat16 of the matrix unit holds
whole numbers up to 256.
"""

import jax
import jax.numpy as jnp


def equalized(levels: jax.Array, products: bool) -> jax.Array:
  """Flattens the histogram of each channel, as `enhance.equalize` does.

  Args:
    levels: float32 `[H, W, 3]` in 0..255.
    products: compute by matrix products, not by indices.
  """
  index = jnp.clip(jnp.round(levels), 0, 255).astype(jnp.int32)
  pixels = levels.shape[0] * levels.shape[1]
  counts = _counts(index, products)
  # The number of the brightest pixels: the last count that is not zero.
  highest = jnp.max(jnp.where(counts > 0, _each_level(), 0), 1, keepdims=True)
  last = _each_level() == highest
  brightest = jnp.sum(jnp.where(last, counts, 0), 1, dtype=jnp.int32)
  step = ((pixels - brightest) // 255)[:, None]
  below = jnp.cumsum(counts, 1, dtype=jnp.int32) - counts
  table = (step // 2 + below) // jnp.maximum(step, 1)
  table = jnp.where(step > 0, jnp.minimum(table, 255), _each_level())
  return _look_up(table.astype(jnp.float32), index, products)


def _each_level():
  return jnp.arange(256, dtype=jnp.int32)[None]


def _one_hot(index):
  """Returns the one-hot vectors of both parts, `[..., 16]` each."""
  one_hot = lambda x: jax.nn.one_hot(x, 16, dtype=jnp.float32)
  return one_hot(index >> 4), one_hot(index & 15)


def _counts(index, products):
  """Returns the histogram of each channel, int32 `[3, 256]`."""
  if products:
    counts = jnp.einsum("hwci,hwcj->cij", *_one_hot(index))
    return counts.reshape(-1, 256).astype(jnp.int32)
  count = lambda x: jnp.zeros(256, jnp.int32).at[x.ravel()].add(1)
  return jax.vmap(count, -1)(index)


def _look_up(table, index, products):
  """Returns the values of `table`, `[3, 256]`, at `index`, `[H, W, 3]`."""
  if not products:
    channel = jax.lax.broadcasted_iota(jnp.int32, index.shape, 2)
    return table[channel, index]
  high, low = _one_hot(index)
  rows = jnp.einsum("hwci,cij->hwcj", high, table.reshape(-1, 16, 16))
  return jnp.sum(rows * low, -1)
