"""Checks of arguments, made in Python before tracing.

The value of a traced setting is not known, so its range is not checked.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def known(*values: Any) -> bool:
  """Returns whether no value is traced or on other hosts.

  Values may be sequences of values.
  """
  return all(
    not isinstance(x, Tracer) and getattr(x, "is_fully_addressable", True)
    for x in jax.tree.leaves(values)
  )


def numbers(
  name: str, value: Any, expected: str = "a number"
) -> np.ndarray | None:
  """Returns known numbers in NumPy, None if one is traced.

  Raises ValueError unless they are finite numbers.
  """
  if not known(value):
    return None
  try:
    values = np.asarray(value)
  except (TypeError, ValueError):
    values = np.asarray(None)
  if values.dtype != bool and not (
    jnp.issubdtype(values.dtype, jnp.integer)
    or jnp.issubdtype(values.dtype, jnp.floating)
  ):
    raise ValueError(f"{name} must be {expected}, got {value!r}")
  if not np.all(np.isfinite(values)):
    raise ValueError(f"{name} must be finite, got {value}")
  return values


def scalar(name: str, value: Any) -> np.ndarray | None:
  """Returns one number as `numbers` does; raises ValueError if it is not."""
  values = numbers(name, value)
  shape = np.shape(
    jnp.asarray(value, jnp.float32) if values is None else values
  )
  if shape:
    raise ValueError(f"{name} must be a scalar, got shape {shape}")
  return values


def _numbers(name: str, value: Any, per_example: bool) -> np.ndarray | None:
  return numbers(name, value) if per_example else scalar(name, value)


def within(
  name: str,
  value: jax.Array | float,
  low: float,
  high: float,
  per_example: bool = False,
) -> None:
  """Raises ValueError unless low <= value <= high.

  The value is finite and a scalar. With `per_example`, it may be an array,
  whose shape is not checked here.
  """
  values = _numbers(name, value, per_example)
  if values is not None and not np.all((low <= values) & (values <= high)):
    bounds = f"in [{low:g}, {high:g}]" if high < np.inf else f"at least {low:g}"
    raise ValueError(f"{name} must be {bounds}, got {value}")


def above(
  name: str,
  value: jax.Array | float,
  bound: float,
  per_example: bool = False,
) -> None:
  """Raises ValueError unless value > bound; see `within`."""
  values = _numbers(name, value, per_example)
  if values is not None and not np.all(bound < values):
    raise ValueError(f"{name} must be above {bound:g}, got {value}")


def whole(
  name: str,
  value: jax.Array | int,
  low: int,
  high: int,
  per_example: bool = False,
) -> None:
  """Raises ValueError unless value is a whole number in [low, high].

  With `per_example`, it may also be traced or an array.
  """
  if not (per_example or known(value)):
    raise ValueError(f"{name} must be a Python number and cannot be traced")
  values = _numbers(name, value, per_example)
  if values is not None and not np.all(
    (values == np.floor(values)) & (low <= values) & (values <= high)
  ):
    raise ValueError(
      f"{name} must be a whole number from {low} to {high}, got {value}"
    )


def interval(
  low_name: str,
  low: jax.Array | float,
  high_name: str,
  high: jax.Array | float,
  least: float,
  most: float,
) -> None:
  """Raises ValueError unless least <= low <= high <= most, all finite."""
  first, last = scalar(low_name, low), scalar(high_name, high)
  if first is None or last is None:
    return
  if not least <= first <= last <= most:
    end = f" <= {most:g}" if most < np.inf else ""
    raise ValueError(
      f"{low_name} and {high_name} must satisfy {least:g} <= {low_name} <= "
      f"{high_name}{end}, got {low} and {high}"
    )


def fill(value: jax.Array | float) -> None:
  """Raises ValueError unless the fill is one grey value in [0, 1]."""
  try:
    within("fill", value, 0, 1)
  except ValueError:
    raise ValueError(
      f"fill must be one grey value in [0, 1], got {value}"
    ) from None


def choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Raises ValueError unless `value` is one of `choices`."""
  if value not in choices:
    raise ValueError(
      f"{name} must be one of {', '.join(choices)}, got {value!r}"
    )


def _array(name: str, value: Any) -> None:
  if not isinstance(value, (jax.Array, np.ndarray)):
    raise ValueError(
      f"{name} must be a JAX or NumPy array, got {type(value).__name__}"
    )
  if jnp.issubdtype(value.dtype, jnp.complexfloating):
    # The cast to float32 would drop the imaginary part.
    raise ValueError(f"{name} must be real, got {value.dtype}")


def batch(images: jax.Array) -> None:
  """Raises ValueError unless images are `[B, H, W, C]`."""
  _array("images", images)
  if jnp.ndim(images) != 4:
    raise ValueError(
      f"images must be [B, H, W, C], got shape {jnp.shape(images)}"
    )


def image_or_batch(images: jax.Array) -> None:
  """Raises ValueError unless images are `[H, W, C]` or `[B, H, W, C]`."""
  _array("images", images)
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
  _array("labels", labels)
  shape = jnp.shape(labels)
  if len(shape) != 2 or not jnp.issubdtype(labels.dtype, jnp.floating):
    raise ValueError(
      "labels must be probabilities, float [B, classes], got "
      f"{labels.dtype} of shape {shape}; jax.nn.one_hot makes them from ids"
    )
  if shape[0] != examples:
    raise ValueError(f"{examples} images but {shape[0]} labels")
