"""Photometric operations: brightness, contrast, hue, saturation.

Names, arguments and results are those of tf.image. `images` is one RGB image
`[H, W, 3]` or a batch `[B, H, W, 3]`. uint8 images are computed in float32
and saturate at 0 and 255; floats, in [0, 1], are not clipped, as in tf.image.
A factor or delta may be traced. A random operation on a batch draws separately
for each example.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.examples import each_example

_GREY = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale, ITU-R BT.601.


def adjust_brightness(images: jax.Array, delta: jax.Array) -> jax.Array:
  """Adds `delta`, in units of [0, 1]; `tf.image.adjust_brightness`."""
  check.colours(images)
  return _in_float(lambda x: x + delta, images)


def adjust_contrast(images: jax.Array, contrast_factor: jax.Array) -> jax.Array:
  """Scales contrast; `tf.image.adjust_contrast`.

  The result is `(x - mean) * factor + mean`, with a mean for each channel of
  each image.
  """
  check.colours(images)

  def adjust(x):
    mean = jnp.mean(x, axis=(-3, -2), keepdims=True)
    return (x - mean) * contrast_factor + mean

  return _in_float(adjust, images)


def adjust_hue(images: jax.Array, delta: jax.Array) -> jax.Array:
  """Turns the hue by `delta` full circles; `tf.image.adjust_hue`."""
  check.colours(images, (3,))

  def adjust(x):
    hue, value, chroma = _to_hue(x)
    return _from_hue(hue + 6 * delta, value, chroma)

  return _in_float(adjust, images)


def adjust_saturation(
  images: jax.Array, saturation_factor: jax.Array
) -> jax.Array:
  """Scales the saturation of HSV, clipped to [0, 1].

  `tf.image.adjust_saturation`.
  """
  check.colours(images, (3,))

  def adjust(x):
    # Hue and value are kept, so `value - channel` scales with the saturation.
    value = jnp.max(x, -1, keepdims=True)
    chroma = value - jnp.min(x, -1, keepdims=True)
    room = jnp.where(chroma > 0, value / jnp.where(chroma > 0, chroma, 1), 1)
    return value - (value - x) * jnp.clip(saturation_factor, 0, room)

  return _in_float(adjust, images)


def rgb_to_grayscale(images: jax.Array) -> jax.Array:
  """Puts the luma of `tf.image.rgb_to_grayscale` into all three channels."""
  check.colours(images, (3,))

  def adjust(x):
    grey = jnp.sum(x * jnp.array(_GREY), -1, keepdims=True)
    return jnp.broadcast_to(grey, x.shape)

  return _in_float(adjust, images)


def random_brightness(
  key: jax.Array, images: jax.Array, max_delta: float
) -> jax.Array:
  """Applies `adjust_brightness` by U(-max_delta, max_delta); max_delta >= 0."""
  check.within("max_delta", max_delta, 0, float("inf"))
  return _random(adjust_brightness, key, images, -max_delta, max_delta)


def random_contrast(
  key: jax.Array, images: jax.Array, lower: float, upper: float
) -> jax.Array:
  """Applies `adjust_contrast` by U(lower, upper); 0 <= lower <= upper."""
  check.interval("lower", lower, "upper", upper, 0, float("inf"))
  return _random(adjust_contrast, key, images, lower, upper)


def random_hue(
  key: jax.Array, images: jax.Array, max_delta: float
) -> jax.Array:
  """Applies `adjust_hue` by U(-max_delta, max_delta), max_delta in [0, 0.5]."""
  check.within("max_delta", max_delta, 0, 0.5)
  return _random(adjust_hue, key, images, -max_delta, max_delta)


def random_saturation(
  key: jax.Array, images: jax.Array, lower: float, upper: float
) -> jax.Array:
  """Applies `adjust_saturation` by U(lower, upper); 0 <= lower <= upper."""
  check.interval("lower", lower, "upper", upper, 0, float("inf"))
  return _random(adjust_saturation, key, images, lower, upper)


def random_grayscale(
  key: jax.Array, images: jax.Array, probability: float = 0.1
) -> jax.Array:
  """Applies `rgb_to_grayscale` with `probability`."""
  check.within("probability", probability, 0, 1)

  def one(key, image):
    coin = jax.random.bernoulli(key, probability)
    return jnp.where(coin, rgb_to_grayscale(image), image)

  return each_example(one, key, images)


def _random(adjust, key, images, low, high):
  check.colours(images)

  def one(key, image):
    return adjust(image, jax.random.uniform(key, minval=low, maxval=high))

  return each_example(one, key, images)


def _in_float(
  adjust: Callable[[jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
  """Computes in float32; converts uint8 like `tf.image.convert_image_dtype`."""
  if images.dtype != jnp.uint8:
    return adjust(images.astype(jnp.float32)).astype(images.dtype)
  adjusted = adjust(images.astype(jnp.float32) / 255)
  return jnp.clip(adjusted * 255.5, 0, 255).astype(jnp.uint8)


def _to_hue(x):
  """Returns hue in sixths of the circle, value and chroma."""
  red, green, blue = x[..., 0], x[..., 1], x[..., 2]
  value = jnp.max(x, -1)
  chroma = value - jnp.min(x, -1)
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
  return jnp.stack([channel(0), channel(2), channel(4)], -1)
