"""Warps: bilinear sampling at affine and at any other coordinates.

Coordinates are in pixels, and whole numbers are the centres of pixels.
"""

import jax
import jax.numpy as jnp

from mixaug_jax.augment.dtypes import from_float32, full_scale


def grid(image: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns x `[1, W]` and y `[H, 1]`, counted from the middle of an image."""
  height, width, _ = image.shape
  x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
  y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
  return x, y


def warp(
  image: jax.Array,
  matrix: jax.Array,
  offset: jax.Array,
  fill: jax.Array | float,
) -> jax.Array:
  """Applies an affine map to an image.

  The output at (x, y), counted from the middle of the image, is the input at
  `matrix @ (x, y) + offset`.

  Args:
    image: `[H, W, C]`, any real dtype.
    matrix: float32 `[2, 2]`, acts on (x, y).
    offset: float32 `[2]`, pixels.
    fill: as in `sample`.

  Returns:
    `[H, W, C]` of the image's dtype.
  """
  x, y = grid(image)
  source_x = matrix[0, 0] * x + matrix[0, 1] * y + offset[0]
  source_y = matrix[1, 0] * x + matrix[1, 1] * y + offset[1]
  return sample(image, source_x, source_y, fill)


def sample(
  image: jax.Array, x: jax.Array, y: jax.Array, fill: jax.Array | float
) -> jax.Array:
  """Samples an image bilinearly.

  Args:
    image: `[H, W, C]`, any dtype; integers are rounded.
    x, y: coordinates counted from the middle of the image, float32 `[h, w]`.
    fill: grey value outside of the image, in [0, 1]; for integer images it is
      multiplied by 255. At the border, the image is blended with it.

  Returns:
    `[h, w, C]` of the image's dtype.
  """
  height, width, _ = image.shape
  # Samples outside of the image read a border of `fill`.
  padded = jnp.pad(
    image.astype(jnp.float32),
    ((1, 1), (1, 1), (0, 0)),
    constant_values=jnp.asarray(fill, jnp.float32) * full_scale(image.dtype),
  )
  x = jnp.clip(x + (width - 1) / 2 + 1, 0, width + 1)
  y = jnp.clip(y + (height - 1) / 2 + 1, 0, height + 1)
  left = jnp.minimum(jnp.floor(x).astype(jnp.int32), width)
  top = jnp.minimum(jnp.floor(y).astype(jnp.int32), height)
  right_share = (x - left.astype(jnp.float32))[..., None]
  lower_share = (y - top.astype(jnp.float32))[..., None]
  at = lambda dy, dx: padded[top + dy, left + dx]
  upper = (1 - right_share) * at(0, 0) + right_share * at(0, 1)
  lower = (1 - right_share) * at(1, 0) + right_share * at(1, 1)
  sampled = (1 - lower_share) * upper + lower_share * lower
  return from_float32(sampled, image.dtype)
