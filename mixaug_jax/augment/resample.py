"""Resizing as two matrix products, which are fast on every accelerator.

A row of a weight matrix holds the weights of the input pixels in one output
pixel. Positions and sizes may be traced and may differ between examples.
"""

import jax
import jax.numpy as jnp


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
  centre = start + (jnp.arange(size_out)[:, None] + 0.5) * scale
  distance = jnp.abs(jnp.arange(size_in) + 0.5 - centre)
  # For antialiasing, the triangle is as wide as an output pixel.
  weights = jnp.maximum(0, 1 - distance / jnp.maximum(scale, 1))
  # Pixels outside of the part have no weight.
  inside = jnp.arange(size_in) + 1 > start
  inside &= jnp.arange(size_in) < start + length
  weights = jnp.where(inside, weights, 0)
  return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-9)


def placement_weights(
  size: int, start: jax.Array, length: jax.Array
) -> jax.Array:
  """Returns weights that shrink the input into `[start, start + length)`.

  Args:
    size: pixels of the input and of the output.
    start: first output pixel, int `[...]`.
    length: number of output pixels, int `[...]`.

  Returns:
    float32 `[..., size, size]`; rows outside of that range are zero.
  """
  start = jnp.asarray(start)[..., None, None]
  length = jnp.maximum(jnp.asarray(length), 1)[..., None, None]
  place = jnp.arange(size)[:, None]
  scale = size / length
  centre = (place - start + 0.5) * scale
  distance = jnp.abs(jnp.arange(size) + 0.5 - centre)
  weights = jnp.maximum(0, 1 - distance / jnp.maximum(scale, 1))
  weights = jnp.where((place >= start) & (place < start + length), weights, 0)
  return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-9)


def resample(
  images: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
  """Multiplies rows and columns with weight matrices.

  Args:
    images: `[B, H, W, C]`, any dtype.
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
  if jnp.issubdtype(dtype, jnp.integer):
    images = jnp.clip(jnp.round(images), 0, jnp.iinfo(dtype).max)
  return images.astype(dtype)
