"""Tone operations: invert, solarise, posterise, equalise, auto-contrast.

Results are those of Pillow's ImageOps and of torchvision: exact for uint8, but
for auto-contrast, which is exact within one level. `images` is one image
`[H, W, C]` or a batch `[B, H, W, C]`, uint8 or float in [0, 1], with 1, 3 (RGB)
or 4 channels (RGB and alpha, which is not changed). Settings may be traced;
then their range is not checked. A random operation on a batch draws separately
for each example.
"""

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, enhance
from mixaug_jax.augment.examples import factor
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.pixels import by_chance, in_own_range


@on_any_mesh
def invert(images: jax.Array) -> jax.Array:
  """Returns the negative: `1 - images`, or `255 - images` for uint8.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
  """
  check.colours(images)
  return in_own_range(lambda x, top: top - x, images)


@on_any_mesh
def solarize(images: jax.Array, threshold: jax.Array | float) -> jax.Array:
  """Inverts all values at or above a threshold.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`.
    threshold: in [0, 1], for uint8 as well; a scalar or `[B]`.

  Raises:
    ValueError: the threshold is out of range.
  """
  check.colours(images)
  check.within("threshold", threshold, 0, 1, per_example=True)
  threshold = factor("threshold", threshold, images)
  if images.dtype == jnp.uint8:
    # 255 times the float32 of 128 / 255 exceeds 128.
    threshold = jnp.ceil(255 * threshold - 1e-3)
  return in_own_range(
    lambda x, top: enhance.solarize(x, threshold, top), images
  )


@on_any_mesh
def posterize(images: jax.Array, bits: jax.Array | int) -> jax.Array:
  """Keeps the highest bits of each value's level in 0..255.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`; floats are rounded to levels.
    bits: whole, from 0 to 8, a scalar or `[B]`.

  Raises:
    ValueError: `bits` is out of range.
  """
  check.colours(images)
  check.whole("bits", bits, 0, 8, per_example=True)
  bits = factor("bits", bits, images)
  return _on_levels(lambda x: enhance.posterize(x, bits), images)


@on_any_mesh
def equalize(images: jax.Array) -> jax.Array:
  """Flattens the histogram of each channel, in 256 levels.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1];
      floats are rounded to levels.
  """
  check.colours(images)
  return _on_levels(lambda x: enhance.equalize(x, None), images)


@on_any_mesh
def autocontrast(images: jax.Array) -> jax.Array:
  """Stretches each channel to the full range; a constant one is kept.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
  """
  check.colours(images)
  return in_own_range(
    lambda x, top: enhance.auto_contrast(x, None, top), images
  )


@on_any_mesh
def random_invert(
  key: jax.Array, images: jax.Array, probability: jax.Array | float = 0.5
) -> jax.Array:
  """Applies `invert` with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    probability: probability of a change.

  Raises:
    ValueError: the probability is out of range.
  """
  return by_chance(invert, key, images, probability)


@on_any_mesh
def random_solarize(
  key: jax.Array,
  images: jax.Array,
  threshold: jax.Array | float = 0.5,
  probability: jax.Array | float = 0.5,
) -> jax.Array:
  """Applies `solarize` with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    threshold: in [0, 1]; values from it on are inverted.
    probability: probability of a change.

  Raises:
    ValueError: a setting is out of range.
  """
  return by_chance(lambda x: solarize(x, threshold), key, images, probability)


@on_any_mesh
def random_posterize(
  key: jax.Array,
  images: jax.Array,
  bits: jax.Array | int = 4,
  probability: jax.Array | float = 0.5,
) -> jax.Array:
  """Applies `posterize` with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    bits: number of bits that are kept, 0 to 8.
    probability: probability of a change.

  Raises:
    ValueError: a setting is out of range.
  """
  return by_chance(lambda x: posterize(x, bits), key, images, probability)


@on_any_mesh
def random_equalize(
  key: jax.Array, images: jax.Array, probability: jax.Array | float = 0.5
) -> jax.Array:
  """Applies `equalize` with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    probability: probability of a change.

  Raises:
    ValueError: the probability is out of range.
  """
  return by_chance(equalize, key, images, probability)


@on_any_mesh
def random_autocontrast(
  key: jax.Array, images: jax.Array, probability: jax.Array | float = 0.5
) -> jax.Array:
  """Applies `autocontrast` with `probability`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    probability: probability of a change.

  Raises:
    ValueError: the probability is out of range.
  """
  return by_chance(autocontrast, key, images, probability)


def _on_levels(operation, images):
  """Applies an operation on levels 0..255; floats get 256 levels."""
  scale = lambda top: 255 // top
  return in_own_range(
    lambda x, top: operation(x * scale(top)) / scale(top), images
  )
