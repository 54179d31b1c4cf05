"""Resizing as two matrix products, which are fast on every accelerator.

A row of a weight matrix holds the weights of the input pixels in one output
pixel. Positions and sizes may be traced and may differ between examples. CPUs
are faster if they gather the few pixels that have a weight.
"""

import functools
import math

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.dtypes import from_float32

_TAP_COST = 5  # Time of a gathered pixel, in multiplications of a product.


def crop_weights(
  size_in: int, size_out: int, start: jax.Array, length: jax.Array
) -> jax.Array:
  """Returns bilinear, antialiased weights that resize a part of the input.

  Args:
    size_in: pixels of the input.
    size_out: pixels of the output.
    start: first pixel of the part, float `[...]`.
    length: pixels of the part, float `[...]`, above 0.

  Returns:
    float32 `[..., size_out, size_in]`; rows sum to one.
  """
  start = jnp.asarray(start, jnp.float32)[..., None, None]
  length = jnp.asarray(length, jnp.float32)[..., None, None]
  scale = length / size_out
  axes = (1,) * (start.ndim - 2)
  place = jnp.arange(size_out, dtype=jnp.float32).reshape(*axes, size_out, 1)
  pixel = jnp.arange(size_in, dtype=jnp.float32).reshape(*axes, 1, size_in)
  centre = start + (place + 0.5) * scale
  distance = jnp.abs(pixel + 0.5 - centre)
  # For antialiasing, the triangle is as wide as an output pixel.
  weights = jnp.maximum(0, 1 - distance / jnp.maximum(scale, 1))
  # Pixels outside of the part have no weight.
  inside = (pixel + 1 > start) & (pixel < start + length)
  weights = jnp.where(inside, weights, 0)
  return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-9)


def shrink_into(
  images: jax.Array,
  boxes: jax.Array,
  low: jax.Array | float,
  high: jax.Array | float,
) -> jax.Array:
  """Shrinks images into boxes, bilinear and antialiased.

  Args:
    images: `[B, H, W, C]`, any real dtype.
    boxes: top, height, left and width of the boxes, int32 `[B or 1, 4]`.
    low: lower bound on the sides of the boxes over those of the images, before
      rounding to pixels. CPUs are faster if the bounds are not traced.
    high: upper bound on them.

  Returns:
    `[B, H, W, C]` of the images' dtype; rounded if that is an integer dtype.
    Pixels outside of the boxes have no meaning.
  """
  if check.known(low, high):
    sizes = images.shape[1:3]
    least = [max(1, math.floor(low * size)) for size in sizes]
    taps = max(math.ceil(2 * a / b) for a, b in zip(sizes, least, strict=True))
    if taps * _TAP_COST <= min(sizes):
      return jax.lax.platform_dependent(
        images,
        boxes,
        cpu=functools.partial(_shrink_by_taps, taps=taps, most=high),
        default=_shrink_by_products,
      )
  return _shrink_by_products(images, boxes)


def _shrink_by_products(images: jax.Array, boxes: jax.Array) -> jax.Array:
  weights = []
  for size, start, length in _axes(images, boxes):
    pixels = jnp.arange(size, dtype=jnp.int32)
    places = pixels[None] - start[:, None]
    weights.append(_shrinking_weights(size, length, places, pixels))
  return resample(images, *weights)


def _shrink_by_taps(
  images: jax.Array, boxes: jax.Array, taps: int, most: jax.Array | float
) -> jax.Array:
  """Sums the pixels that have a weight, in a window that holds the box."""
  # One box for all examples would be fused with its user and computed twice.
  boxes = jnp.broadcast_to(boxes, (len(images), 4))
  rows, columns = (
    _taps(size, start, length, taps, min(size, math.ceil(most * size + 0.5)))
    for size, start, length in _axes(images, boxes)
  )
  flat = images.reshape(*images.shape[:2], -1)
  shrunk = jax.vmap(_tap_sum)(flat, *rows[1:])
  shrunk = shrunk.reshape(*shrunk.shape[:2], *images.shape[2:])
  shrunk = jax.vmap(jax.vmap(_tap_sum, (0, None, None)))(shrunk, *columns[1:])
  place = lambda image, x, row, column: jax.lax.dynamic_update_slice(
    image, x, (row, column, jnp.int32(0))
  )
  return jax.vmap(place)(
    images, from_float32(shrunk, images.dtype), rows[0], columns[0]
  )


def _taps(size, start, length, taps, window):
  """Returns the first place of a window, and the taps of each place in it.

  The taps are the first input pixel, int32 `[B, window]`, and the weights of
  that pixel and the next ones, float32 `[B, window, taps]`.
  """
  corner = jnp.minimum(start, size - window)
  places = jnp.arange(window, dtype=jnp.int32)[None]
  places = places + (corner - start)[:, None]
  centre, scale = _centres(size, length, places)
  first = jnp.floor(centre - scale + 0.5).astype(jnp.int32)
  pixels = first[..., None] + jnp.arange(taps, dtype=jnp.int32)[None, None]
  return corner, first, _shrinking_weights(size, length, places, pixels)


def _tap_sum(x: jax.Array, first: jax.Array, weights: jax.Array) -> jax.Array:
  """Returns weighted sums over the first axis of `x`, float32."""
  total = jnp.float32(0)
  for tap in range(weights.shape[-1]):
    pixels = jnp.clip(first + tap, 0, len(x) - 1)
    values = x.at[pixels].get(mode="promise_in_bounds").astype(jnp.float32)
    total += jnp.expand_dims(weights[:, tap], range(1, x.ndim)) * values
  return total


def _axes(images, boxes):
  """Returns size, start and length along rows and columns."""
  height, width = images.shape[1:3]
  return (height, *boxes.T[:2]), (width, *boxes.T[2:])


def _centres(size, length, places):
  """Returns the centres of output places in input pixels, and their distance.

  Args:
    size: pixels of the input.
    length: number of output pixels, int32 `[B]`.
    places: output pixels, counted from the first one, int32 `[B, n]`.
  """
  scale = size / length.astype(jnp.float32)[:, None]
  return (places.astype(jnp.float32) + 0.5) * scale, scale


def _shrinking_weights(size, length, places, pixels):
  """Returns the weights of input `pixels` in output `places`.

  Args:
    size, length, places: as for `_centres`.
    pixels: input pixels, int32, broadcast to `[B, n, k]`.

  Returns:
    float32 `[B, n, k]`; rows sum to one.
  """
  centre, scale = _centres(size, length, places)
  pixels = jnp.expand_dims(pixels, range(3 - pixels.ndim))
  distance = pixels.astype(jnp.float32) + 0.5 - centre[..., None]
  # For antialiasing, the triangle is as wide as an output pixel.
  weights = jnp.maximum(0, 1 - jnp.abs(distance) / scale[..., None])
  weights = jnp.where((pixels >= 0) & (pixels < size), weights, 0)
  return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-9)


def resample(
  images: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
  """Multiplies rows and columns with weight matrices.

  Args:
    images: `[B, H, W, C]`, any real dtype.
    rows: `[B or 1, h, H]`.
    columns: `[B or 1, w, W]`.

  Returns:
    `[B, h, w, C]` of the images' dtype; rounded if that is an integer dtype.
  """
  dtype = images.dtype
  images = images.astype(jnp.float32)
  batch = len(images)
  rows = jnp.broadcast_to(rows, (batch, *rows.shape[1:]))
  columns = jnp.broadcast_to(columns, (batch, *columns.shape[1:]))
  # Lower precision would let tensor cores round images to 10 bits.
  product = lambda *args: jnp.einsum(*args, precision="highest")
  images = product("bhH,bHWc->bhWc", rows, images)
  images = product("bwW,bhWc->bhwc", columns, images)
  return from_float32(images, dtype)
