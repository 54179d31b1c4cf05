"""Photometric operations of tf.image: brightness, contrast, hue and others.

Names, arguments and results are those of tf.image. `images` is one image
`[H, W, C]` or a batch `[B, H, W, C]` with 1, 3 (RGB) or 4 channels (RGB and
alpha, which is not changed); hue, saturation and greyscale need colours. uint8
images are computed in float32 and saturate at 0 and 255; floats, in [0, 1], are
not clipped, as in tf.image. A factor or delta is a number or, for a batch, one
for each example, `[B]`. A random operation on a batch draws separately for each
example. Settings may be traced; then their range is not checked.
"""

import math

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.examples import factor
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.pixels import by_chance, by_factor, in_unit

_COLOURS = (3, 4)
_GREY = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale, ITU-R BT.601.


@on_any_mesh
def adjust_brightness(images: jax.Array, delta: jax.Array | float) -> jax.Array:
  """Adds a number to all colours; `tf.image.adjust_brightness`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    delta: in units of [0, 1], for uint8 as well; a scalar or `[B]`.
  """
  check.colours(images)
  delta = factor("delta", delta, images)
  return in_unit(lambda x: x + delta, images)


@on_any_mesh
def adjust_contrast(
  images: jax.Array, contrast_factor: jax.Array | float
) -> jax.Array:
  """Scales contrast; `tf.image.adjust_contrast`.

  The result is `(x - mean) * factor + mean`, with a mean for each channel of
  each image.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    contrast_factor: 0 gives the mean and 1 the image; a scalar or `[B]`.
  """
  check.colours(images)
  scale = factor("contrast_factor", contrast_factor, images)

  def adjust(x):
    mean = jnp.mean(x, axis=(-3, -2), keepdims=True)
    return (x - mean) * scale + mean

  return in_unit(adjust, images)


@on_any_mesh
def adjust_gamma(
  images: jax.Array, gamma: jax.Array | float, gain: jax.Array | float = 1.0
) -> jax.Array:
  """Returns `gain * images ** gamma`, on [0, 1]; `tf.image.adjust_gamma`.

  For gamma below 1, the gradient is infinite at black. Negative values of
  floats become NaN, unless gamma is whole.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    gamma: at least 0; below 1 brightens; a scalar or `[B]`.
    gain: a scalar or `[B]`.

  Raises:
    ValueError: gamma is negative.
  """
  check.colours(images)
  check.within("gamma", gamma, 0, math.inf, per_example=True)
  gamma, gain = factor("gamma", gamma, images), factor("gain", gain, images)
  return in_unit(lambda x: gain * x**gamma, images)


@on_any_mesh
def adjust_hue(images: jax.Array, delta: jax.Array | float) -> jax.Array:
  """Turns the hue; `tf.image.adjust_hue`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1], with C 3
      (RGB) or 4 (RGB and alpha).
    delta: full circles; a scalar or `[B]`.
  """
  check.colours(images, _COLOURS)
  delta = factor("delta", delta, images)
  return in_unit(lambda x: turn_hue(x, delta), images)


@on_any_mesh
def adjust_saturation(
  images: jax.Array, saturation_factor: jax.Array | float
) -> jax.Array:
  """Scales the saturation of HSV; `tf.image.adjust_saturation`.

  The result is clipped to [0, 1]. A pixel without a positive channel has no
  saturation and becomes grey.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1], with C 3
      (RGB) or 4 (RGB and alpha).
    saturation_factor: 0 gives grey and 1 the image; a scalar or `[B]`.
  """
  check.colours(images, _COLOURS)
  scale = factor("saturation_factor", saturation_factor, images)

  def adjust(x):
    # Hue and value are kept, so `value - channel` scales with the saturation.
    value = jnp.max(x, -1, keepdims=True)
    chroma = value - jnp.min(x, -1, keepdims=True)
    room = jnp.maximum(value, 0) / jnp.where(chroma > 0, chroma, 1)
    room = jnp.where(chroma > 0, room, 1)
    return value - (value - x) * jnp.clip(scale, 0, room)

  return in_unit(adjust, images)


@on_any_mesh
def rgb_to_grayscale(images: jax.Array) -> jax.Array:
  """Puts the luma of `tf.image.rgb_to_grayscale` into all three channels.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1], with C 3
      (RGB) or 4 (RGB and alpha).
  """
  check.colours(images, _COLOURS)
  return in_unit(lambda x: jnp.broadcast_to(luma(x), x.shape), images)


@on_any_mesh
def random_brightness(
  key: jax.Array, images: jax.Array, max_delta: jax.Array | float
) -> jax.Array:
  """Applies `adjust_brightness` by U(-max_delta, max_delta).

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    max_delta: at least 0, in units of [0, 1].

  Raises:
    ValueError: `max_delta` is negative.
  """
  check.within("max_delta", max_delta, 0, math.inf)
  return by_factor(adjust_brightness, key, images, -max_delta, max_delta)


@on_any_mesh
def random_contrast(
  key: jax.Array,
  images: jax.Array,
  lower: jax.Array | float,
  upper: jax.Array | float,
) -> jax.Array:
  """Applies `adjust_contrast` by U(lower, upper).

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    lower: lower bound on the factor, at least 0.
    upper: upper bound on the factor.

  Raises:
    ValueError: the bounds are out of range.
  """
  check.interval("lower", lower, "upper", upper, 0, math.inf)
  return by_factor(adjust_contrast, key, images, lower, upper)


@on_any_mesh
def random_gamma(
  key: jax.Array,
  images: jax.Array,
  lower: jax.Array | float,
  upper: jax.Array | float,
) -> jax.Array:
  """Applies `adjust_gamma` by U(lower, upper).

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    lower: lower bound on the exponent, at least 0.
    upper: upper bound on the exponent.

  Raises:
    ValueError: the bounds are out of range.
  """
  check.interval("lower", lower, "upper", upper, 0, math.inf)
  return by_factor(adjust_gamma, key, images, lower, upper)


@on_any_mesh
def random_hue(
  key: jax.Array, images: jax.Array, max_delta: jax.Array | float
) -> jax.Array:
  """Applies `adjust_hue` by U(-max_delta, max_delta).

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1], with C 3
      (RGB) or 4 (RGB and alpha).
    max_delta: full circles, in [0, 0.5].

  Raises:
    ValueError: `max_delta` is out of range.
  """
  check.within("max_delta", max_delta, 0, 0.5)
  return by_factor(adjust_hue, key, images, -max_delta, max_delta)


@on_any_mesh
def random_saturation(
  key: jax.Array,
  images: jax.Array,
  lower: jax.Array | float,
  upper: jax.Array | float,
) -> jax.Array:
  """Applies `adjust_saturation` by U(lower, upper).

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1], with C 3
      (RGB) or 4 (RGB and alpha).
    lower: lower bound on the factor, at least 0.
    upper: upper bound on the factor.

  Raises:
    ValueError: the bounds are out of range.
  """
  check.interval("lower", lower, "upper", upper, 0, math.inf)
  return by_factor(adjust_saturation, key, images, lower, upper)


@on_any_mesh
def random_grayscale(
  key: jax.Array, images: jax.Array, probability: jax.Array | float = 0.1
) -> jax.Array:
  """Applies `rgb_to_grayscale` with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1], with C 3
      (RGB) or 4 (RGB and alpha).
    probability: probability of a change.

  Raises:
    ValueError: the probability is out of range.
  """
  return by_chance(rgb_to_grayscale, key, images, probability)


def luma(x: jax.Array) -> jax.Array:
  """Returns the luma of RGB, `[..., 3]` to `[..., 1]`."""
  weights = jnp.array(_GREY, jnp.float32).reshape((1,) * (x.ndim - 1) + (3,))
  return jnp.sum(x * weights, -1, keepdims=True)


def turn_hue(x: jax.Array, delta: jax.Array) -> jax.Array:
  """Turns the hue of RGB, float32 `[..., 3]`, by `delta` full circles."""
  hue, value, chroma = _to_hue(x)
  return _from_hue(hue + 6 * delta, value, chroma)


def _to_hue(x):
  """Returns hue in sixths of the circle, value and chroma, each `[..., 1]`."""
  red, green, blue = x[..., :1], x[..., 1:2], x[..., 2:]
  value = jnp.max(x, -1, keepdims=True)
  chroma = value - jnp.min(x, -1, keepdims=True)
  unit = 1 / jnp.where(chroma > 0, chroma, 1)
  hue = jnp.where(
    value == red,
    (green - blue) * unit,
    jnp.where(
      value == green, 2 + (blue - red) * unit, 4 + (red - green) * unit
    ),
  )
  return hue, value, chroma


def _from_hue(hue, value, chroma):
  """Returns RGB: a channel falls below the value by its distance in hue."""
  channel = lambda offset: (
    value
    - chroma
    * jnp.clip(
      # 0 within one sixth of the channel's own hue, 1 beyond two sixths.
      jnp.abs(jnp.mod(hue - offset + 3, 6) - 3) - 1,
      0,
      1,
    )
  )
  return jnp.concatenate([channel(0), channel(2), channel(4)], -1)
