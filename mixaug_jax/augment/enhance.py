"""The operations of Pillow's ImageEnhance and ImageOps on levels.

`levels` is one image, float32 `[H, W, 3]` in 0..255; so are the results, which
may leave that range. The results equal Pillow's within one level. The factor of
an enhancement is `1 + value`.
"""

import jax
import jax.numpy as jnp


def blend(levels, other, value):
  return other + (1 + value) * (levels - other)


def grey(levels):
  weights = jnp.array([0.299, 0.587, 0.114])
  return jnp.sum(levels * weights, -1, keepdims=True)


def brightness(levels, value):
  return blend(levels, 0.0, value)


def color(levels, value):
  return blend(levels, grey(levels), value)


def contrast(levels, value):
  return blend(levels, jnp.mean(grey(levels)), value)


def sharpness(levels, value):
  """Moves away from or towards a smoothed image; the border is kept."""
  height, width, _ = levels.shape
  if min(height, width) < 3:
    return levels
  rows = levels[:-2] + levels[1:-1] + levels[2:]
  total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
  middle = levels[1:-1, 1:-1]
  smooth = (total + 4 * middle) / 13
  return levels.at[1:-1, 1:-1].set(blend(middle, smooth, value))


def posterize(levels, bits):
  step = jnp.exp2(8 - bits)
  return jnp.floor(jnp.round(levels) / step) * step


def solarize(levels, threshold):
  return jnp.where(levels < threshold, levels, 255 - levels)


def auto_contrast(levels, _):
  low = jnp.min(levels, (0, 1))
  span = jnp.max(levels, (0, 1)) - low
  stretched = (levels - low) * 255 / jnp.where(span > 0, span, 1)
  return jnp.where(span > 0, stretched, levels)


def equalize(levels, _):
  """Flattens the histogram of each channel, as Pillow's ImageOps does."""
  index = jnp.round(levels).astype(jnp.int32)

  def channel(index):
    flat = index.ravel()
    counts = jnp.zeros(256, jnp.int32).at[flat].add(1)
    step = (flat.size - counts[jnp.max(flat)]) // 255
    below = jnp.cumsum(counts) - counts
    table = (step // 2 + below) // jnp.maximum(step, 1)
    table = jnp.where(step > 0, jnp.minimum(table, 255), jnp.arange(256))
    return table[index].astype(jnp.float32)

  return jax.vmap(channel, -1, -1)(index)
