"""One image or a batch: draws and factors for each example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check


def each_example(
  function: Callable[..., jax.Array],
  key: jax.Array,
  images: jax.Array,
  *args: Any,
) -> jax.Array:
  """Applies `function(key, image, *args)` to an image or to each of a batch."""
  check.key(key)
  if images.ndim == 3:
    return function(key, images, *args)
  keys = jax.random.split(key, len(images))
  return jax.vmap(lambda k, x: function(k, x, *args))(keys, images)


def factor(name: str, value: jax.Array | float, images: jax.Array) -> jax.Array:
  """Returns a setting that broadcasts to images.

  Args:
    name: of the setting, for the message.
    value: a number, a scalar, or, for a batch, one number for each example,
      `[B]`; may be traced.
    images: `[H, W, C]` or `[B, H, W, C]`.

  Returns:
    A float32 scalar, or float32 `[B, 1, 1, 1]`.

  Raises:
    ValueError: `value` has another shape.
  """
  value = jnp.asarray(value, jnp.float32)
  if value.ndim == 0:
    return value
  if images.ndim == 4 and value.shape == images.shape[:1]:
    return value[:, None, None, None]
  one = f" or [{len(images)}]" if images.ndim == 4 else ""
  raise ValueError(f"{name} must be a scalar{one}, got shape {value.shape}")
