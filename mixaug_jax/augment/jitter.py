"""Color jitter: brightness, contrast, saturation and hue in random order."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.examples import each_example
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.photometric import luma, turn_hue
from mixaug_jax.augment.pixels import in_own_range

Range = jax.Array | float | Sequence[jax.Array | float]
_NAMES = ("brightness", "contrast", "saturation", "hue")
_CONTRAST, _SATURATION, _HUE = 1, 2, 3


@on_any_mesh
def color_jitter(
  key: jax.Array,
  images: jax.Array,
  brightness: Range = 0.0,
  contrast: Range = 0.0,
  saturation: Range = 0.0,
  hue: Range = 0.0,
) -> jax.Array:
  """Changes colours in random order, as torchvision's `ColorJitter`.

  Each example draws its factors and its order. The operations are torchvision's
  on floats: brightness, contrast and saturation blend with black, with the mean
  luma and with the luma, and clip to [0, 1]; hue turns in HSV. torchvision's
  uint8 images are truncated after each operation, and differ from these, which
  are rounded once, by some levels.

  An example computes the operations in as many rounds as are on. A round
  computes one affine function of a pixel and its luma, whose coefficients
  depend on the operation, and one turn of the hue, and keeps one of them.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1], with 1, 3
      (RGB) or 4 channels (RGB and alpha, which is not changed). Saturation and
      hue do not change images of one channel.
    brightness: a number b for factors from U(max(0, 1 - b), 1 + b), or their
      (low, high); 0 switches the operation off.
    contrast: the same.
    saturation: the same.
    hue: a number h <= 0.5 for turns from U(-h, h) full circles, or their
      (low, high) in [-0.5, 0.5].

  Returns:
    Images of the same shape and dtype, in range.

  Raises:
    ValueError: a range is out of bounds.
  """
  check.colours(images)
  settings = enumerate((brightness, contrast, saturation, hue))
  ranges = {kind: _bounds(kind, setting) for kind, setting in settings}
  coloured = images.shape[-1] > 1
  ranges = {
    kind: bounds
    for kind, bounds in ranges.items()
    if bounds and (coloured or kind < _SATURATION)
  }
  kinds = jnp.array(list(ranges), jnp.int32)

  def one(key, x):
    order_key, *keys = jax.random.split(key, 1 + len(_NAMES))
    bounds = [ranges.get(n) or (0.0, 0.0) for n in range(len(keys))]
    values = jnp.stack(
      [
        draw.uniform(key, low, high)
        for key, (low, high) in zip(keys, bounds, strict=True)
      ]
    )
    for kind in jax.random.permutation(order_key, kinds):
      x = _adjust(x, kind, values[kind], ranges)
    return x

  def jitter(x, top):
    return each_example(one, key, x / top) * top if ranges else x

  check.key(key)
  return in_own_range(jitter, images)


def _adjust(x, kind, value, kinds):
  """Applies one of `kinds` to an image `[H, W, C]` in [0, 1]."""
  grey = x if x.shape[-1] == 1 else luma(x)
  other = jnp.where(kind == _SATURATION, grey, 0)
  if _CONTRAST in kinds:
    other = jnp.where(kind == _CONTRAST, jnp.mean(grey), other)
  blended = jnp.clip(value * x + (1 - value) * other, 0, 1)
  if _HUE not in kinds:
    return blended
  return jnp.where(kind == _HUE, turn_hue(x, value), blended)


def _bounds(kind: int, setting: Any) -> tuple[Any, Any] | None:
  """Returns the lowest and highest factor, or None if the operation is off."""
  name, least, most = _NAMES[kind], 0.0, float("inf")
  if kind == _HUE:
    least, most = -0.5, 0.5
  expected = "a number or (low, high)"
  values = check.numbers(name, setting, expected)
  try:
    low, high = setting
  except ValueError as error:
    raise ValueError(f"{name} must be {expected}, got {setting}") from error
  except TypeError:  # One number.
    check.within(name, setting, 0, most)
    if values is not None and values == 0:
      return None
    if kind == _HUE:
      return -setting, setting
    return jnp.maximum(0.0, 1 - setting), 1 + setting
  check.interval(f"{name}[0]", low, f"{name}[1]", high, least, most)
  return low, high
