"""Float32 computation on images of any dtype.

Integer images hold levels 0 to 255, and their operations compute on float32
levels. Grey values and other settings in units of [0, 1] are multiplied by
`full_scale`.
"""

import jax
import jax.numpy as jnp


def full_scale(dtype: jnp.dtype) -> int:
  """Returns the value of white: 255 for integers, 1 for floats and bool.

  It is 127 for int8, which ends there.
  """
  if jnp.issubdtype(dtype, jnp.integer):
    return min(255, int(jnp.iinfo(dtype).max))
  return 1


def from_float32(values: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """Casts to `dtype`; rounds and clips if it is not a float."""
  if dtype == jnp.bool_:
    return values > 0.5
  if jnp.issubdtype(dtype, jnp.integer):
    limits = jnp.iinfo(dtype)
    values = jnp.clip(jnp.round(values), float(limits.min), float(limits.max))
  return values.astype(dtype)


def grey(value: jax.Array | float, dtype: jnp.dtype) -> jax.Array:
  """Returns a grey value in [0, 1] as a pixel of `dtype`."""
  level = jnp.asarray(value, jnp.float32) * full_scale(dtype)
  return from_float32(level, dtype)
