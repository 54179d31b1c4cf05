"""Checks of arguments, made in Python before tracing."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def within(name: str, value: float, low: float, high: float) -> None:
  """Raises ValueError unless low <= value <= high."""
  if not low <= value <= high:
    raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")


def above(name: str, value: float, bound: float) -> None:
  """Raises ValueError unless value is finite and above `bound`."""
  if not bound < value < float("inf"):
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
  if not least <= low <= high <= most:
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


def image_or_batch(images: jax.Array, channels: int | None = None) -> None:
  """Raises ValueError unless images are `[H, W, C]` or `[B, H, W, C]`."""
  shape = jnp.shape(images)
  if len(shape) not in (3, 4):
    raise ValueError(
      f"images must be [H, W, C] or [B, H, W, C], got shape {shape}"
    )
  if channels is not None and shape[-1] != channels:
    raise ValueError(f"images must have {channels} channels, got shape {shape}")
  if not (
    images.dtype == jnp.uint8 or jnp.issubdtype(images.dtype, jnp.floating)
  ):
    raise ValueError(f"images must be uint8 or float, got {images.dtype}")


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
