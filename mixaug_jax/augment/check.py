"""Checks of arguments, made in Python before tracing.

The value of a traced setting is not known, so its range is not checked.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def known(*values: Any) -> bool:
  """Returns whether no value is traced."""
  return not any(isinstance(x, jax.core.Tracer) for x in values)


def within(
  name: str, value: jax.Array | float, low: float, high: float
) -> None:
  """Raises ValueError unless low <= value <= high, for all values."""
  if known(value) and not np.all((low <= value) & (value <= high)):
    raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")


def above(name: str, value: jax.Array | float, bound: float) -> None:
  """Raises ValueError unless all values are finite and above `bound`."""
  if known(value) and not np.all((bound < value) & (value < np.inf)):
    raise ValueError(f"{name} must be above {bound:g}, got {value}")


def whole(name: str, value: int, low: int, high: int) -> None:
  """Raises ValueError unless value is a whole number in [low, high]."""
  if value != int(value) or not low <= value <= high:
    raise ValueError(
      f"{name} must be a whole number from {low} to {high}, got {value}"
    )


def interval(
  low_name: str,
  low: float,
  high_name: str,
  high: float,
  least: float,
  most: float,
) -> None:
  """Raises ValueError unless least <= low <= high <= most."""
  if known(low, high) and not least <= low <= high <= most:
    raise ValueError(
      f"{low_name} and {high_name} must satisfy {least:g} <= {low_name} <= "
      f"{high_name} <= {most:g}, got {low} and {high}"
    )


def choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Raises ValueError unless `value` is one of `choices`."""
  if value not in choices:
    raise ValueError(
      f"{name} must be one of {', '.join(choices)}, got {value!r}"
    )


def batch(images: jax.Array) -> None:
  """Raises ValueError unless images are `[B, H, W, C]`."""
  if jnp.ndim(images) != 4:
    raise ValueError(
      f"images must be [B, H, W, C], got shape {jnp.shape(images)}"
    )


def image_or_batch(images: jax.Array) -> None:
  """Raises ValueError unless images are `[H, W, C]` or `[B, H, W, C]`."""
  shape = jnp.shape(images)
  if len(shape) not in (3, 4):
    raise ValueError(
      f"images must be [H, W, C] or [B, H, W, C], got shape {shape}"
    )


def colours(images: jax.Array, channels: Sequence[int] = (1, 3, 4)) -> None:
  """Raises ValueError unless images are uint8 or float, with such channels."""
  image_or_batch(images)
  shape = jnp.shape(images)
  if shape[-1] not in channels:
    *most, last = map(str, channels)
    counts = f"{', '.join(most)} or {last}" if most else last
    raise ValueError(
      f"the last axis of images must have {counts} channels, got shape {shape}"
    )
  if not (
    images.dtype == jnp.uint8 or jnp.issubdtype(images.dtype, jnp.floating)
  ):
    raise ValueError(f"images must be uint8 or float, got {images.dtype}")


def key(key: jax.Array) -> None:
  """Raises ValueError unless `key` is one PRNG key, typed or raw."""
  dtype = getattr(key, "dtype", None)
  typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
  if not (typed and key.ndim == 0) and not (
    dtype == "uint32" and key.ndim == 1
  ):
    got = f"an array {dtype} of shape {key.shape}" if dtype else repr(key)
    raise ValueError(f"key must be one key of jax.random.key, got {got}")


def labels(labels: jax.Array, examples: int) -> None:
  """Raises ValueError unless labels are float `[examples, classes]`."""
  shape = jnp.shape(labels)
  if len(shape) != 2 or not jnp.issubdtype(labels.dtype, jnp.floating):
    raise ValueError(
      "labels must be probabilities, float [B, classes], got "
      f"{labels.dtype} of shape {shape}; jax.nn.one_hot makes them from ids"
    )
  if shape[0] != examples:
    raise ValueError(f"{examples} images but {shape[0]} labels")
