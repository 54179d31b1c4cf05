"""Resizing as two matrix products, which every accelerator does fast.

A row of a weight matrix says of which input pixels an output pixel is made;
positions and sizes are traced values and may differ per example.
"""

import jax
import jax.numpy as jnp


def crop_weights(
  size_in: int, size_out: int, start: jax.Array, length: jax.Array
) -> jax.Array:
  """Bilinear, antialiased weights that resize a stretch of the input.

  Args:
    size_in: pixels of the input.
    size_out: pixels of the output.
    start: where the stretch begins, float `[...]`, in pixels.
    length: its length, float `[...]`, above 0.

  Returns:
    float32 `[..., size_out, size_in]`, rows summing to one.
  """
  start = jnp.asarray(start, jnp.float32)[..., None, None]
  length = jnp.asarray(length, jnp.float32)[..., None, None]
  scale = length / size_out
  centre = start + (jnp.arange(size_out)[:, None] + 0.5) * scale
  distance = jnp.abs(jnp.arange(size_in) + 0.5 - centre)
  # Shrinking widens the triangle to the pixels that fall into one.
  weights = jnp.maximum(0, 1 - distance / jnp.maximum(scale, 1))
  # Pixels outside of the stretch do not bleed in.
  inside = jnp.arange(size_in) + 1 > start
  inside &= jnp.arange(size_in) < start + length
  weights = jnp.where(inside, weights, 0)
  return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-9)


def placement_weights(
  size: int, start: jax.Array, length: jax.Array
) -> jax.Array:
  """Weights that shrink a whole side into `[start, start + length)`.

  Args:
    size: pixels of input and output.
    start: first output pixel, int `[...]`.
    length: output pixels, int `[...]`.

  Returns:
    float32 `[..., size, size]`; rows outside of the stretch are zero.
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
  """Applies weights to rows and columns.

  Args:
    images: `[B, H, W, C]`, any dtype.
    rows: `[B or 1, h, H]`.
    columns: `[B or 1, w, W]`.

  Returns:
    `[B, h, w, C]` of the images' dtype; rounded if that is an integer one.
  """
  dtype = images.dtype
  images = images.astype(jnp.float32)
  batch = len(images)
  rows = jnp.broadcast_to(rows, (batch, *rows.shape[1:]))
  columns = jnp.broadcast_to(columns, (batch, *columns.shape[1:]))
  # The highest precision: tensor cores would round images to 10 bits.
  product = lambda *args: jnp.einsum(*args, precision="highest")
  images = product("bhH,bHWc->bhWc", rows, images)
  images = product("bwW,bhWc->bhwc", columns, images)
  if jnp.issubdtype(dtype, jnp.integer):
    images = jnp.clip(jnp.round(images), 0, jnp.iinfo(dtype).max)
  return images.astype(dtype)
