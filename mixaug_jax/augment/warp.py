"""Affine warps by bilinear sampling."""

import jax
import jax.numpy as jnp


def warp(
  image: jax.Array, matrix: jax.Array, offset: jax.Array, fill: float
) -> jax.Array:
  """Applies an affine map to an image.

  The output at (x, y), counted from the middle of the image, is the input at
  `matrix @ (x, y) + offset`.

  Args:
    image: `[H, W, C]`, float or uint8.
    matrix: `[2, 2]`, acts on (x, y).
    offset: `[2]`, pixels.
    fill: grey value outside of the input, in [0, 1]; for uint8 it is multiplied
      by 255.

  Returns:
    `[H, W, C]` of the image's dtype.
  """
  height, width, _ = image.shape
  integer = jnp.issubdtype(image.dtype, jnp.integer)
  y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
  x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
  source_x = matrix[0, 0] * x + matrix[0, 1] * y + offset[0] + (width - 1) / 2
  source_y = matrix[1, 0] * x + matrix[1, 1] * y + offset[1] + (height - 1) / 2
  # Samples outside of the input read a border of `fill`.
  padded = jnp.pad(
    image.astype(jnp.float32),
    ((1, 1), (1, 1), (0, 0)),
    constant_values=fill * (255 if integer else 1),
  )
  source_x = jnp.clip(source_x + 1, 0, width + 1)
  source_y = jnp.clip(source_y + 1, 0, height + 1)
  left = jnp.minimum(jnp.floor(source_x).astype(jnp.int32), width)
  top = jnp.minimum(jnp.floor(source_y).astype(jnp.int32), height)
  right_share = (source_x - left)[..., None]
  lower_share = (source_y - top)[..., None]
  at = lambda dy, dx: padded[top + dy, left + dx]
  upper = (1 - right_share) * at(0, 0) + right_share * at(0, 1)
  lower = (1 - right_share) * at(1, 0) + right_share * at(1, 1)
  warped = (1 - lower_share) * upper + lower_share * lower
  if integer:
    warped = jnp.round(warped)
  return warped.astype(image.dtype)
