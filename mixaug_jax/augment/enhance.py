"""The operations of Pillow's ImageEnhance and ImageOps on levels.

`levels` is an image or a batch, float32 `[..., H, W, C]` in 0..255; so are the
results, which may leave that range. The results equal Pillow's within one
level. The factor of an enhancement is `1 + value`; a value is a scalar or
`[B, 1, 1, 1]`. An operation with `top` takes images in 0..top.
"""

import jax
import jax.numpy as jnp


def blend(levels, other, value):
  return other + (1 + value) * (levels - other)


def grey(levels):
  weights = jnp.array([0.299, 0.587, 0.114], jnp.float32)
  weights = weights.reshape((1,) * (levels.ndim - 1) + (3,))
  return jnp.sum(levels * weights, -1, keepdims=True)


def brightness(levels, value):
  return blend(levels, 0.0, value)


def color(levels, value):
  return blend(levels, grey(levels), value)


def contrast(levels, value):
  mean = jnp.mean(grey(levels), (-3, -2, -1), keepdims=True)
  return blend(levels, mean, value)


def sharpness(levels, value):
  """Moves away from or towards a smoothed image; the border is kept."""
  height, width = levels.shape[-3:-1]
  if min(height, width) < 3:
    return levels
  rows = (
    levels[..., :-2, :, :] + levels[..., 1:-1, :, :] + levels[..., 2:, :, :]
  )
  total = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
  middle = levels[..., 1:-1, 1:-1, :]
  smooth = (total + 4 * middle) / 13
  return levels.at[..., 1:-1, 1:-1, :].set(blend(middle, smooth, value))


def posterize(levels, bits):
  step = jnp.round(jnp.exp2(8 - bits))
  return jnp.floor(jnp.round(levels) / step) * step


def solarize(levels, threshold, top=255):
  return jnp.where(levels < threshold, levels, top - levels)


def auto_contrast(levels, _, top=255):
  low = jnp.min(levels, (-3, -2), keepdims=True)
  span = jnp.max(levels, (-3, -2), keepdims=True) - low
  stretched = (levels - low) * top / jnp.where(span > 0, span, 1)
  return jnp.where(span > 0, stretched, levels)


def equalize(levels, _):
  """Flattens the histogram of each channel, as Pillow's ImageOps does."""
  index = jnp.clip(jnp.round(levels), 0, 255).astype(jnp.int32)

  def channel(flat):
    counts = jnp.zeros(256, jnp.int32).at[flat].add(1)
    step = (flat.size - counts[jnp.max(flat)]) // 255
    below = jnp.cumsum(counts, dtype=jnp.int32) - counts
    table = (step // 2 + below) // jnp.maximum(step, 1)
    same = jnp.arange(256, dtype=jnp.int32)
    table = jnp.where(step > 0, jnp.minimum(table, 255), same)
    return table[flat].astype(jnp.float32)

  planes = jnp.moveaxis(index, -1, 0)
  flat = planes.reshape(-1, levels.shape[-3] * levels.shape[-2])
  return jnp.moveaxis(jax.vmap(channel)(flat).reshape(planes.shape), 0, -1)
