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
    ValueError: `value` has another shape, or is not finite.
  """
  check.numbers(name, value)
  value = jnp.asarray(value, jnp.float32)
  if value.ndim == 0:
    return value
  if images.ndim == 4 and value.shape == images.shape[:1]:
    return value[:, None, None, None]
  one = f" or [{len(images)}]" if images.ndim == 4 else ""
  raise ValueError(f"{name} must be a scalar{one}, got shape {value.shape}")


def map_images(
  function: Callable[..., jax.Array],
  images: jax.Array,
  **settings: tuple[Any, tuple[int, ...]],
) -> jax.Array:
  """Applies `function(image, **settings)` to an image or to each of a batch.

  Args:
    function: of one image `[H, W, C]` and of settings in float32.
    images: `[H, W, C]` or `[B, H, W, C]`.
    **settings: the value of each and its shape for one image. For a batch, the
      value may also have a leading axis of the examples.

  Raises:
    ValueError: a setting has another shape, or is not finite.
  """
  values, axes = {}, {}
  for name, (value, shape) in settings.items():
    check.numbers(name, value)
    values[name] = value = jnp.asarray(value, jnp.float32)
    allowed = [shape]
    if images.ndim == 4:
      allowed.append((len(images), *shape))
    if value.shape not in allowed:
      words = " or ".join(str(list(x)) if x else "a scalar" for x in allowed)
      raise ValueError(f"{name} must be {words}, got shape {value.shape}")
    axes[name] = None if value.shape == shape else 0
  one = lambda image, values: function(image, **values)
  if images.ndim == 3:
    return one(images, values)
  return jax.vmap(one, (0, axes))(images, values)
