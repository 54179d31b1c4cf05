"""Windows of images, at their resolution, and padding.

`images` is one image `[H, W, C]` or a batch `[B, H, W, C]` of any dtype. A
random operation on a batch draws separately for each example.
"""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.dtypes import grey
from mixaug_jax.augment.examples import each_example
from mixaug_jax.augment.flips import flip_left_right
from mixaug_jax.augment.mesh import on_any_mesh

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
  """Returns the two sides of a size in pixels.

  Raises:
    ValueError: `size` is neither a whole number above 0 nor two of them.
  """
  sides = _whole_numbers([size, size]) or _whole_numbers(size)
  if len(sides) != 2 or min(sides) < 1:
    raise ValueError(
      "size must be a whole number of pixels above 0, or a height and a width, "
      f"got {size}"
    )
  height, width = sides
  return height, width


def _whole_numbers(values: Any) -> tuple[int, ...]:
  """Returns Python integers; nothing if `values` are no whole numbers."""
  try:
    return tuple(map(operator.index, values))
  except TypeError:
    return ()


@on_any_mesh
def center_crop(images: jax.Array, size: int | Sequence[int]) -> jax.Array:
  """Cuts out the middle; `keras.layers.CenterCrop`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    size: pixels a side of the output, or its height and width. If the rest of a
      side is odd, the last row or column is dropped.

  Raises:
    ValueError: `size` is wrong, or the images are smaller.
  """
  check.image_or_batch(images)
  height, width = height_and_width(size)
  rows, columns = images.shape[-3:-1]
  _check_fits(height, width, rows, columns)
  top, left = (rows - height) // 2, (columns - width) // 2
  return images[..., top : top + height, left : left + width, :]


@on_any_mesh
def central_crop(images: jax.Array, central_fraction: float) -> jax.Array:
  """Cuts out a central fraction of each side; `tf.image.central_crop`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    central_fraction: share of each side that is kept, in (0, 1]. `center_crop`
      takes pixels.

  Raises:
    ValueError: `central_fraction` is out of range or traced.
  """
  check.image_or_batch(images)
  if not check.known(central_fraction):
    raise ValueError("central_fraction decides the shape and cannot be traced")
  check.scalar("central_fraction", central_fraction)
  fraction = float(central_fraction)
  if not 0 < fraction <= 1:
    raise ValueError(
      f"central_fraction must be in (0, 1], got {central_fraction}; "
      "center_crop takes a size in pixels"
    )
  rows, columns = images.shape[-3:-1]
  top = int((rows - rows * fraction) / 2)
  left = int((columns - columns * fraction) / 2)
  return images[..., top : rows - top, left : columns - left, :]


@on_any_mesh
def pad(
  images: jax.Array,
  padding: int | Sequence[int],
  mode: str = "constant",
  fill: float = 0.0,
) -> jax.Array:
  """Extends images on all sides; torchvision's `pad`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    padding: pixels on every side; or left and right, top and bottom; or left,
      top, right, bottom.
    mode: `constant`, `edge` (repeats the last pixel), `reflect` (mirrors
      without the last pixel) or `symmetric` (mirrors with it).
    fill: grey value of `constant`, in [0, 1]; for integer images it is
      multiplied by 255.

  Raises:
    ValueError: a setting is wrong, or a mirror image is longer than the side.
  """
  check.image_or_batch(images)
  check.choice("padding mode", mode, PADDING_MODES)
  check.fill(fill)
  around = _whole_numbers([padding]) or _whole_numbers(padding)
  around *= {1: 4, 2: 2}.get(len(around), 1)
  if len(around) != 4 or min(around) < 0:
    raise ValueError(
      "padding must be a whole number of pixels, two of them (left and right, "
      f"top and bottom) or four (left, top, right, bottom), got {padding}"
    )
  left, top, right, bottom = around
  rows, columns = images.shape[-3:-1]
  longest = {"reflect": -1, "symmetric": 0}.get(mode)
  if longest is not None and (
    max(top, bottom) > rows + longest or max(left, right) > columns + longest
  ):
    raise ValueError(
      f"{mode} padding of {padding} pixels is too long for {rows}x{columns} "
      "pixels"
    )
  widths = [(top, bottom), (left, right), (0, 0)]
  widths = [(0, 0)] * (images.ndim - 3) + widths
  values = {}
  if mode == "constant":
    values["constant_values"] = grey(fill, images.dtype)
  return jnp.pad(images, widths, mode, **values)


@on_any_mesh
def random_crop(
  key: jax.Array,
  images: jax.Array,
  size: int | Sequence[int],
  padding: int | Sequence[int] = 0,
  padding_mode: str = "reflect",
  fill: float = 0.0,
) -> jax.Array:
  """Cuts out a window at a uniformly random position.

  The usual crop of CIFAR is `random_crop(key, images, 32, 4, "constant")`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    size: pixels a side of the output, its height and width, or all of its shape
      as in `tf.image.random_crop`. A crop keeps all examples and channels.
    padding: pixels by which the images are first extended; see `pad`.
    padding_mode: a mode of `pad`.
    fill: grey value of the mode `constant`, in [0, 1].

  Raises:
    ValueError: the window does not fit, or a setting is wrong.
  """
  check.image_or_batch(images)
  height, width = height_and_width(_without_other_axes(size, images.shape))
  images = pad(images, padding, padding_mode, fill)
  rows, columns = images.shape[-3:-1]
  _check_fits(height, width, rows, columns)
  free = jnp.array([rows - height + 1, columns - width + 1], jnp.int32)

  def one(key, image):
    top, left = jax.random.randint(key, (2,), 0, free, jnp.int32)
    rows = jax.lax.dynamic_slice_in_dim(image, top, height, 0)
    return jax.lax.dynamic_slice_in_dim(rows, left, width, 1)

  return each_example(one, key, images)


def _without_other_axes(size, shape):
  """Returns the height and the width of a size with channels or examples."""
  sides = _whole_numbers(size)
  if not 2 < len(sides) <= len(shape):
    return size
  others = (*sides[:-3], sides[-1])
  if others != (*shape[-len(sides) : -3], shape[-1]):
    raise ValueError(
      f"a crop keeps all examples and channels of images of shape {shape}, but "
      f"size is {sides}"
    )
  return sides[-3:-1]


def places_of_five_crops(
  rows: int, columns: int, height: int, width: int
) -> list[tuple[int, int]]:
  """Returns top and left of the corners, row by row, and of the middle."""
  down, right = rows - height, columns - width
  corners = [(0, 0), (0, right), (down, 0), (down, right)]
  return [*corners, (down // 2, right // 2)]


@on_any_mesh(batch_axis=1)
def five_crops(images: jax.Array, size: int | Sequence[int]) -> jax.Array:
  """Cuts out the corners and the middle; torchvision's `five_crop`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    size: pixels a side of the crops, or their height and width.

  Returns:
    `[5, H, W, C]` or `[5, B, H, W, C]`: top left, top right, bottom left,
    bottom right, middle.

  Raises:
    ValueError: `size` is wrong, or the images are smaller.
  """
  check.image_or_batch(images)
  height, width = height_and_width(size)
  rows, columns = images.shape[-3:-1]
  _check_fits(height, width, rows, columns)
  places = places_of_five_crops(rows, columns, height, width)
  return jnp.stack(
    [images[..., y : y + height, x : x + width, :] for y, x in places]
  )


@on_any_mesh(batch_axis=1)
def ten_crops(images: jax.Array, size: int | Sequence[int]) -> jax.Array:
  """Cuts the five crops out of images and mirrored images.

  This is torchvision's `ten_crop`; see `five_crops`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    size: pixels a side of the crops, or their height and width.

  Returns:
    `[10, H, W, C]` or `[10, B, H, W, C]`.

  Raises:
    ValueError: `size` is wrong, or the images are smaller.
  """
  mirrored = flip_left_right(images)
  return jnp.concatenate([five_crops(x, size) for x in (images, mirrored)])


def _check_fits(height, width, rows, columns):
  if height > rows or width > columns:
    raise ValueError(
      f"a crop of {height}x{width} does not fit into {rows}x{columns} pixels"
    )
