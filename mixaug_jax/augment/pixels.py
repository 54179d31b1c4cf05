"""Computations on the colours of an image, in float32 for every dtype.

The last axis of images has one channel, three of RGB, or four: RGB and alpha,
which stays as it is, to the last bit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.examples import each_example


def on_colours(
  operation: Callable[[jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
  """Applies `operation` to all channels but alpha."""
  if images.shape[-1] != 4:
    return operation(images)
  colours = operation(images[..., :3])
  return jnp.concatenate([colours, images[..., 3:]], -1)


def in_unit(
  adjust: Callable[[jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
  """Applies `adjust` to colours in [0, 1].

  uint8 is converted as by `tf.image.convert_image_dtype`; the result saturates.
  Floats are not clipped.
  """

  def convert(x):
    if x.dtype != jnp.uint8:
      return adjust(jnp.asarray(x, jnp.float32)).astype(x.dtype)
    adjusted = adjust(jnp.asarray(x, jnp.float32) / 255)
    return jnp.clip(adjusted * 255.5, 0, 255).astype(jnp.uint8)

  return on_colours(convert, images)


def in_own_range(
  adjust: Callable[[jax.Array, int], jax.Array], images: jax.Array
) -> jax.Array:
  """Applies `adjust(x, top)` to colours in 0..top.

  `top` is 255 for uint8, which is rounded and saturates, and 1 for floats,
  which are not clipped.
  """

  def convert(x):
    if x.dtype != jnp.uint8:
      return adjust(jnp.asarray(x, jnp.float32), 1).astype(x.dtype)
    adjusted = jnp.round(adjust(jnp.asarray(x, jnp.float32), 255))
    return jnp.clip(adjusted, 0, 255).astype(jnp.uint8)

  return on_colours(convert, images)


def by_factor(
  adjust: Callable[[jax.Array, jax.Array], jax.Array],
  key: jax.Array,
  images: jax.Array,
  low: jax.Array | float,
  high: jax.Array | float,
) -> jax.Array:
  """Applies `adjust` by a number from U(low, high), drawn for each example."""
  check.colours(images)

  def one(key, image):
    return adjust(image, draw.uniform(key, low, high))

  return each_example(one, key, images)


def by_chance(
  operation: Callable[[jax.Array], jax.Array],
  key: jax.Array,
  images: jax.Array,
  probability: jax.Array | float,
) -> jax.Array:
  """Applies `operation` with `probability`, drawn for each example."""
  check.colours(images)
  check.within("probability", probability, 0, 1)

  def one(key, image):
    return jnp.where(draw.coin(key, probability), operation(image), image)

  return each_example(one, key, images)
