"""Geometric operations: crops, flips, rotations, erasing.

`images` is one image `[H, W, C]` or a batch `[B, H, W, C]`, float or uint8; the
dtype is kept. A random operation on a batch draws separately for each example.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.examples import each_example
from mixaug_jax.augment.resample import crop_weights, resample
from mixaug_jax.augment.warp import warp


def flip_left_right(images: jax.Array) -> jax.Array:
  """Mirrors columns; `tf.image.flip_left_right`."""
  check.image_or_batch(images)
  return jnp.flip(images, -2)


def flip_up_down(images: jax.Array) -> jax.Array:
  """Mirrors rows; `tf.image.flip_up_down`."""
  check.image_or_batch(images)
  return jnp.flip(images, -3)


def random_flip_left_right(
  key: jax.Array, images: jax.Array, probability: float = 0.5
) -> jax.Array:
  """Mirrors columns with `probability`."""
  check.within("probability", probability, 0, 1)
  return _random_flip(key, images, probability, flip_left_right)


def random_flip_up_down(
  key: jax.Array, images: jax.Array, probability: float = 0.5
) -> jax.Array:
  """Mirrors rows with `probability`."""
  check.within("probability", probability, 0, 1)
  return _random_flip(key, images, probability, flip_up_down)


def _random_flip(key, images, probability, flip):
  check.image_or_batch(images)

  def one(key, image):
    coin = jax.random.bernoulli(key, probability)
    return jnp.where(coin, flip(image), image)

  return each_example(one, key, images)


def central_crop(images: jax.Array, size: int | Sequence[int]) -> jax.Array:
  """Cuts out the middle.

  Args:
    images: `[..., H, W, C]`, any dtype.
    size: pixels a side of the output, or its height and width.

  Raises:
    ValueError: the images are smaller than `size`.
  """
  height, width = _size(size)
  rows, columns = images.shape[-3:-1]
  _check_fits(height, width, rows, columns)
  top, left = (rows - height) // 2, (columns - width) // 2
  return images[..., top : top + height, left : left + width, :]


def random_crop(
  key: jax.Array,
  images: jax.Array,
  size: int | Sequence[int],
  padding: int = 0,
) -> jax.Array:
  """Cuts out a window at a uniformly random position.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`.
    size: pixels a side of the output, or its height and width.
    padding: pixels by which every side is first extended by reflection; less
      than a side.

  Raises:
    ValueError: the window does not fit, or padding is out of range.
  """
  check.image_or_batch(images)
  if images.ndim == 3:
    return random_crop_examples(key[None], images[None], size, padding)[0]
  keys = jax.random.split(key, len(images))
  return random_crop_examples(keys, images, size, padding)


def random_crop_examples(
  keys: jax.Array,
  images: jax.Array,
  size: int | Sequence[int],
  padding: int = 0,
) -> jax.Array:
  """Applies `random_crop` to a batch, with one key for each example."""
  height, width = _size(size)
  rows, columns = images.shape[1:3]
  check.whole("padding", padding, 0, min(rows, columns) - 1)
  if padding:
    around = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    images = jnp.pad(images, around, "reflect")
    rows, columns = images.shape[1:3]
  _check_fits(height, width, rows, columns)
  free = jnp.array([rows - height + 1, columns - width + 1])

  def one(key, image):
    start = jax.random.randint(key, (2,), 0, free)
    return jax.lax.dynamic_slice(
      image, (*start, 0), (height, width, image.shape[-1])
    )

  return jax.vmap(one)(keys, images)


def crop_and_resize(
  images: jax.Array,
  top: jax.Array,
  left: jax.Array,
  height: jax.Array,
  width: jax.Array,
  size: int | Sequence[int],
) -> jax.Array:
  """Resizes a window bilinearly with antialiasing.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`.
    top, left, height, width: the window in pixels, scalars; may be traced.
    size: pixels a side of the output, or its height and width.
  """
  check.image_or_batch(images)
  out = _size(size)
  batch = images[None] if images.ndim == 3 else images
  rows = crop_weights(batch.shape[1], out[0], top, height)
  columns = crop_weights(batch.shape[2], out[1], left, width)
  resized = resample(batch, rows[None], columns[None])
  return resized[0] if images.ndim == 3 else resized


def random_resized_crop(
  key: jax.Array,
  images: jax.Array,
  size: int | Sequence[int],
  min_area: float = 0.08,
  max_area: float = 1.0,
  min_aspect: float = 3 / 4,
  max_aspect: float = 4 / 3,
) -> jax.Array:
  """Resizes a window of random area and shape; Inception's crop.

  The area is uniform and the aspect ratio log-uniform (Szegedy et al., 2015,
  arXiv:1409.4842). A side longer than that of the image is cut to it.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`.
    size: pixels a side of the output, or its height and width.
    min_area, max_area: bounds on the window's share of the image, in (0, 1].
    min_aspect, max_aspect: bounds on the window's width over height.

  Raises:
    ValueError: a bound is out of range, or a lower one exceeds its upper one.
  """
  check.image_or_batch(images)
  check.above("min_area", min_area, 0)
  check.interval("min_area", min_area, "max_area", max_area, 0, 1)
  check.above("min_aspect", min_aspect, 0)
  check.interval(
    "min_aspect", min_aspect, "max_aspect", max_aspect, 0, math.inf
  )
  rows, columns = images.shape[-3:-1]

  def one(key, image):
    area_key, aspect_key, top_key, left_key = jax.random.split(key, 4)
    area = jax.random.uniform(area_key, minval=min_area, maxval=max_area)
    area *= rows * columns
    aspect = jnp.exp(
      jax.random.uniform(
        aspect_key, minval=math.log(min_aspect), maxval=math.log(max_aspect)
      )
    )
    height = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, rows)
    width = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, columns)
    start = lambda key, free: jnp.floor(jax.random.uniform(key) * (free + 1))
    top, left = start(top_key, rows - height), start(left_key, columns - width)
    return crop_and_resize(image, top, left, height, width, size)

  return each_example(one, key, images)


def rotate(
  images: jax.Array, degrees: jax.Array, fill: float = 0.5
) -> jax.Array:
  """Rotates counter-clockwise about the middle with bilinear sampling.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`.
    degrees: scalar; may be traced.
    fill: grey value of pixels from outside the image, in [0, 1]; for uint8 it
      is multiplied by 255.
  """
  check.image_or_batch(images)
  angle = jnp.deg2rad(degrees)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  matrix = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
  one = lambda image: warp(image, matrix, jnp.zeros(2), fill)
  return jax.vmap(one)(images) if images.ndim == 4 else one(images)


def random_rotation(
  key: jax.Array, images: jax.Array, max_degrees: float, fill: float = 0.5
) -> jax.Array:
  """Rotates by U(-max_degrees, max_degrees); see `rotate`."""
  check.image_or_batch(images)
  check.within("max_degrees", max_degrees, 0, 180)

  def one(key, image):
    degrees = jax.random.uniform(key, minval=-max_degrees, maxval=max_degrees)
    return rotate(image, degrees, fill)

  return each_example(one, key, images)


def random_erasing(
  key: jax.Array,
  images: jax.Array,
  probability: float = 0.5,
  min_area: float = 0.02,
  max_area: float = 1 / 3,
  min_aspect: float = 0.3,
  max_aspect: float = 1 / 0.3,
) -> jax.Array:
  """Fills a box with noise (Zhong et al., 2017, arXiv:1708.04896).

  The area of the box is uniform, its aspect ratio log-uniform, its position
  uniform inside the image. Each value in it is uniform over the whole range.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`.
    probability: probability of erasing; 0.5 in the paper.
    min_area, max_area: bounds on the box's share of the image.
    min_aspect, max_aspect: bounds on the box's width over height.

  Raises:
    ValueError: a setting is out of range.
  """
  check.image_or_batch(images)
  check.within("probability", probability, 0, 1)
  check.interval("min_area", min_area, "max_area", max_area, 0, 1)
  check.above("min_aspect", min_aspect, 0)
  check.interval(
    "min_aspect", min_aspect, "max_aspect", max_aspect, 0, math.inf
  )
  rows, columns = images.shape[-3:-1]

  def one(key, image):
    coin_key, area_key, aspect_key, y_key, x_key, noise_key = jax.random.split(
      key, 6
    )
    area = jax.random.uniform(area_key, minval=min_area, maxval=max_area)
    area *= rows * columns
    aspect = jnp.exp(
      jax.random.uniform(
        aspect_key, minval=math.log(min_aspect), maxval=math.log(max_aspect)
      )
    )
    height = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 0, rows)
    width = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 0, columns)
    top = jnp.floor(jax.random.uniform(y_key) * (rows - height + 1))
    left = jnp.floor(jax.random.uniform(x_key) * (columns - width + 1))
    y, x = jnp.arange(rows)[:, None, None], jnp.arange(columns)[:, None]
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    inside &= jax.random.bernoulli(coin_key, probability)
    noise = _noise(noise_key, image.shape)
    if image.dtype == jnp.uint8:
      noise = (noise >> 24).astype(jnp.uint8)
    else:
      noise = ((noise >> 8) * 2.0**-24).astype(image.dtype)
    return jnp.where(inside, noise, image)

  return each_example(one, key, images)


def _noise(key, shape):
  """Returns uint32 noise: a hash of each index, a tenth of Threefry's cost."""
  bits = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
  bits ^= jax.random.bits(key, (), jnp.uint32)
  for factor in (0x7FEB352D, 0x846CA68B):
    bits = (bits ^ (bits >> 16)) * jnp.uint32(factor)
  return bits ^ (bits >> 16)


def _size(size: int | Sequence[int]) -> tuple[int, int]:
  height, width = (size, size) if isinstance(size, int) else size
  return height, width


def _check_fits(height, width, rows, columns):
  if height > rows or width > columns:
    raise ValueError(
      f"a crop of {height}x{width} does not fit into {rows}x{columns} pixels"
    )
