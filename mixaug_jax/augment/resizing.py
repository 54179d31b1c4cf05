"""Bilinear, antialiased resizing of images and of windows of them.

`images` is one image `[H, W, C]` or a batch `[B, H, W, C]` of any dtype;
integers are rounded.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.crops import height_and_width
from mixaug_jax.augment.examples import each_example, factor
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.resample import crop_weights, resample

_TRIES = 10  # Windows drawn by RandomResizedCrop of torchvision.


@on_any_mesh
def resize(images: jax.Array, size: int | Sequence[int]) -> jax.Array:
  """Resizes whole images; `tf.image.resize` with antialiasing.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    size: pixels a side of the output, or its height and width.
  """
  check.image_or_batch(images)
  rows, columns = images.shape[-3:-1]
  return resized_crop(images, 0, 0, rows, columns, size)


@on_any_mesh
def resized_crop(
  images: jax.Array,
  top: jax.Array | float,
  left: jax.Array | float,
  height: jax.Array | float,
  width: jax.Array | float,
  size: int | Sequence[int],
) -> jax.Array:
  """Resizes a window; torchvision's `resized_crop`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    top, left, height, width: the window in pixels, scalars or one number for
      each example, `[B]`; may be traced. Pixels of the output from outside the
      image are 0, as are all of a traced window that is empty or outside.
    size: pixels a side of the output, or its height and width.

  Raises:
    ValueError: `size` or the shape of another argument is wrong, or the window
      is empty or outside of the image.
  """
  check.image_or_batch(images)
  out = height_and_width(size)
  window = {"top": top, "left": left, "height": height, "width": width}
  top, left, height, width = (
    factor(name, value, images).reshape(-1) for name, value in window.items()
  )
  for name in ("height", "width"):
    check.above(name, window[name], 0, per_example=True)
  _check_meets("top", "height", window, images.shape[-3])
  _check_meets("left", "width", window, images.shape[-2])
  batch = images[None] if images.ndim == 3 else images
  rows = crop_weights(batch.shape[1], out[0], top, height)
  columns = crop_weights(batch.shape[2], out[1], left, width)
  resized = resample(batch, rows, columns)
  return resized[0] if images.ndim == 3 else resized


def _check_meets(start_name, length_name, window, size):
  """Raises ValueError if a window is outside of an axis of the image."""
  start, length = window[start_name], window[length_name]
  if not check.known(start, length):
    return
  start, length = np.asarray(start), np.asarray(length)
  if not np.all((start < size) & (start + length > 0)):
    raise ValueError(
      f"the window must meet the image, whose {length_name} is {size}, got "
      f"{start_name} {start} and {length_name} {length}"
    )


@on_any_mesh
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
  arXiv:1409.4842), as in torchvision: out of ten windows, the first that fits
  into the image is taken at a uniform position. If none fits, the window is the
  largest one in the middle with an aspect ratio inside the bounds.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    size: pixels a side of the output, or its height and width.
    min_area, max_area: bounds on the window's share of the image, in (0, 1].
    min_aspect, max_aspect: bounds on the window's width over height.
      All bounds may be traced; then they are not checked.

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
  bounds = (min_area, max_area, min_aspect, max_aspect)

  def one(key, image):
    rows, columns, _ = image.shape
    top, left, height, width = random_window(key, rows, columns, *bounds)
    return resized_crop(image, top, left, height, width, size)

  return each_example(one, key, images)


def random_window(
  key: jax.Array,
  rows: int,
  columns: int,
  min_area: float,
  max_area: float,
  min_aspect: float,
  max_aspect: float,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Draws top, left, height and width for `random_resized_crop`, in pixels."""
  area_key, aspect_key, top_key, left_key = jax.random.split(key, 4)
  area = draw.uniform(area_key, min_area, max_area, (_TRIES,))
  area *= rows * columns
  aspect = draw.log_uniform(aspect_key, min_aspect, max_aspect, (_TRIES,))
  height = jnp.round(jnp.sqrt(area / aspect))
  width = jnp.round(jnp.sqrt(area * aspect))
  fits = (height >= 1) & (height <= rows) & (width >= 1) & (width <= columns)
  first, found = jnp.argmax(fits), jnp.any(fits)
  longest = lambda x: jnp.round(jnp.asarray(x, jnp.float32))
  tallest = jnp.minimum(rows, longest(columns / min_aspect))
  widest = jnp.minimum(columns, longest(rows * max_aspect))
  height = jnp.where(found, height[first], tallest)
  width = jnp.where(found, width[first], widest)

  def start(key, free):
    random = jnp.floor(draw.uniform(key) * (free + 1))
    return jnp.where(found, random, jnp.floor(free / 2))

  top, left = start(top_key, rows - height), start(left_key, columns - width)
  return top, left, height, width
