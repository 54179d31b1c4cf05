"""Flips and quarter turns of images of any dtype.

`images` is one image `[H, W, C]` or a batch `[B, H, W, C]`. A random operation
on a batch draws separately for each example.
"""

import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.examples import each_example, map_images
from mixaug_jax.augment.mesh import on_any_mesh


@on_any_mesh
def flip_left_right(images: jax.Array) -> jax.Array:
  """Mirrors columns; `tf.image.flip_left_right`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
  """
  check.image_or_batch(images)
  return jnp.flip(images, -2)


@on_any_mesh
def flip_up_down(images: jax.Array) -> jax.Array:
  """Mirrors rows; `tf.image.flip_up_down`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
  """
  check.image_or_batch(images)
  return jnp.flip(images, -3)


@on_any_mesh
def random_flip_left_right(
  key: jax.Array, images: jax.Array, probability: float = 0.5
) -> jax.Array:
  """Mirrors columns with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    probability: probability of a flip; may be traced.

  Raises:
    ValueError: the probability is out of range.
  """
  return _random_flip(key, images, probability, flip_left_right)


@on_any_mesh
def random_flip_up_down(
  key: jax.Array, images: jax.Array, probability: float = 0.5
) -> jax.Array:
  """Mirrors rows with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    probability: probability of a flip; may be traced.

  Raises:
    ValueError: the probability is out of range.
  """
  return _random_flip(key, images, probability, flip_up_down)


def _random_flip(
  key: jax.Array, images: jax.Array, probability: float, flip: Callable
) -> jax.Array:
  check.image_or_batch(images)
  check.within("probability", probability, 0, 1)

  def one(key, image):
    return jnp.where(draw.coin(key, probability), flip(image), image)

  return each_example(one, key, images)


@on_any_mesh
def rot90(images: jax.Array, k: jax.Array | int = 1) -> jax.Array:
  """Turns counter-clockwise by k quarters; `tf.image.rot90`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    k: number of quarter turns, any whole number. For square images it may also
      be traced, or one number for each example, `[B]`.

  Raises:
    ValueError: `k` is not a whole number, or is traced or an array although
      the images are not square.
  """
  check.image_or_batch(images)
  if check.known(k) and np.ndim(k) == 0:
    try:
      return jnp.rot90(images, operator.index(k), (-3, -2))
    except TypeError:
      raise ValueError(f"k must be a whole number, got {k}") from None
  rows, columns = images.shape[-3:-1]
  if rows != columns:
    raise ValueError(
      "k must be a Python number for images that are not square, got images "
      f"of {rows}x{columns} pixels"
    )
  check.numbers("k", k)
  k = jnp.asarray(k)
  if not jnp.issubdtype(k.dtype, jnp.integer):
    raise ValueError(f"k must be whole numbers, got {k.dtype}")
  return map_images(_turn, images, k=(jnp.mod(k, 4), ()))


def _turn(image: jax.Array, k: jax.Array) -> jax.Array:
  """Turns a square image by k quarters, 0 to 3."""
  image = jnp.where((k == 1) | (k == 3), jnp.swapaxes(image, 0, 1), image)
  image = jnp.where((k == 1) | (k == 2), jnp.flip(image, 0), image)
  return jnp.where((k == 2) | (k == 3), jnp.flip(image, 1), image)


@on_any_mesh
def random_rot90(
  key: jax.Array, images: jax.Array, probability: float = 0.75
) -> jax.Array:
  """Turns by 90, 180 or 270 degrees with `probability`; see `rot90`.

  By default, all four positions are equally likely. Images that are not square
  keep their shape: they are turned by 180 degrees.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    probability: probability of a turn.

  Raises:
    ValueError: the probability is out of range.
  """
  check.image_or_batch(images)
  check.within("probability", probability, 0, 1)
  square = images.shape[-3] == images.shape[-2]

  def one(key, image):
    coin_key, turn_key = jax.random.split(key)
    coin = draw.coin(coin_key, probability)
    if not square:
      return jnp.where(coin, jnp.rot90(image, 2), image)
    return _turn(image, jnp.where(coin, draw.integer(turn_key, 1, 4), 0))

  return each_example(one, key, images)
