"""TrivialAugment and RandAugment: random choices out of fourteen operations.

On a CPU, examples are mapped one after another, so that each one computes only
the operation that it has drawn. On GPUs and TPUs they are vmapped: each example
computes all ten kinds of operation (five share an affine warp) and keeps one,
because small kernels in a loop would cost more. docs/augmentations.md has
figures.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, enhance
from mixaug_jax.augment.warp import warp

BINS = 31  # Strengths, 0 to 30.
OPERATIONS = (
  "identity",
  "shear_x",
  "shear_y",
  "translate_x",
  "translate_y",
  "rotate",
  "brightness",
  "color",
  "contrast",
  "sharpness",
  "posterize",
  "solarize",
  "auto_contrast",
  "equalize",
)
_FIRST_AFFINE, _LAST_AFFINE = 1, 5
_LAST_SIGNED = 9  # Up to here the sign of the value is random.
_FILL = 0.5  # Grey value of pixels from outside the image.


def trivial_augment(key: jax.Array, images: jax.Array) -> jax.Array:
  """Applies one operation at a uniform strength (Müller and Hutter, 2021).

  The operations are the wide space of arXiv:2103.10158 in 31 strengths: shear
  up to 0.99, translation up to 32 pixels, rotation up to 135 degrees,
  brightness, colour, contrast and sharpness from 0.01 to 1.99, posterise from 8
  to 2 bits, solarise from 255 to 0, equalise, auto-contrast, identity.

  Args:
    key: a PRNG key.
    images: `[H, W, 3]` or `[B, H, W, 3]`, uint8 or float in [0, 1].

  Returns:
    Images of the same shape and dtype, in range.
  """
  check.colours(images, (3,))
  if images.ndim == 3:
    return trivial_augment_examples(key[None], images[None])[0]
  return trivial_augment_examples(jax.random.split(key, len(images)), images)


def rand_augment(
  key: jax.Array, images: jax.Array, num_layers: int = 2, magnitude: int = 9
) -> jax.Array:
  """Applies several operations at one strength (Cubuk et al., 2020).

  The operations of arXiv:1909.13719 are shear up to 0.3, translation up to
  150/331 of the side, rotation up to 30 degrees, brightness, colour, contrast
  and sharpness from 0.1 to 1.9, posterise from 8 to 4 bits, solarise from 255
  to 0, equalise, auto-contrast, identity. The paper uses 2 layers at magnitude
  9 for ResNet-50 on ImageNet.

  Args:
    key: a PRNG key.
    images: `[H, W, 3]` or `[B, H, W, 3]`, uint8 or float in [0, 1].
    num_layers: number of operations applied one after another, at least 1.
    magnitude: strength, a whole number from 0 to 30.

  Returns:
    Images of the same shape and dtype, in range.

  Raises:
    ValueError: num_layers or magnitude is out of range.
  """
  check.colours(images, (3,))
  if images.ndim == 3:
    examples = key[None], images[None]
    return rand_augment_examples(*examples, num_layers, magnitude)[0]
  keys = jax.random.split(key, len(images))
  return rand_augment_examples(keys, images, num_layers, magnitude)


def trivial_augment_examples(keys: jax.Array, images: jax.Array) -> jax.Array:
  """Applies `trivial_augment` to a batch, with one key for each example."""
  strengths = _strengths(0.99, (32, 32), 135, 0.99, 2)

  def one(key, image):
    draw_key, bin_key = jax.random.split(key)
    level = jax.random.randint(bin_key, (), 0, BINS)
    return _random_operation(draw_key, image, strengths, level)

  return _each(one, keys, images)


def rand_augment_examples(
  keys: jax.Array, images: jax.Array, num_layers: int = 2, magnitude: int = 9
) -> jax.Array:
  """Applies `rand_augment` to a batch, with one key for each example."""
  check.whole("num_layers", num_layers, 1, 100)
  check.whole("magnitude", magnitude, 0, BINS - 1)
  height, width = images.shape[1:3]
  reach = (150 / 331 * width, 150 / 331 * height)
  strengths = _strengths(0.3, reach, 30, 0.9, 4)

  def one(key, image):
    for layer in range(num_layers):
      own = jax.random.fold_in(key, layer)
      image = _random_operation(own, image, strengths, magnitude)
    return image

  return _each(one, keys, images)


def apply_operation(
  image: jax.Array, operation: jax.Array, value: jax.Array
) -> jax.Array:
  """Applies an operation of a policy.

  Args:
    image: `[H, W, 3]`, uint8 or float in [0, 1].
    operation: index into `OPERATIONS`; may be traced.
    value: radians for rotation, pixels for translation, slope for shear, factor
      minus one for brightness, colour, contrast and sharpness, bits for
      posterise, threshold in 0..255 for solarise; the others ignore it.

  Returns:
    `[H, W, 3]` of the image's dtype, in range.
  """
  integer = image.dtype == jnp.uint8
  levels = image.astype(jnp.float32) * (1 if integer else 255)
  matrix, offset = _affine(operation, value)
  branches = [lambda x: x, lambda x: warp(x, matrix, offset, 255 * _FILL)]
  branches += [
    lambda x, function=function: function(x, value) for function in _COLOURS
  ]
  # Branches: identity, one warp for five operations, each of the others.
  affine = (operation >= _FIRST_AFFINE) & (operation <= _LAST_AFFINE)
  later = operation - _LAST_AFFINE + 1
  branch = jnp.where(operation == 0, 0, jnp.where(affine, 1, later))
  levels = jnp.clip(jax.lax.switch(branch, branches, levels), 0, 255)
  if integer:
    return jnp.round(levels).astype(jnp.uint8)
  return (levels / 255).astype(image.dtype)


def _random_operation(key, image, strengths, level):
  operation_key, sign_key = jax.random.split(key)
  operation = jax.random.randint(operation_key, (), 0, len(OPERATIONS))
  value = jnp.asarray(strengths)[operation, level]
  negative = jax.random.bernoulli(sign_key) & (operation <= _LAST_SIGNED)
  return apply_operation(image, operation, jnp.where(negative, -value, value))


def _strengths(shear, reach, degrees, enhancement, bits) -> np.ndarray:
  """Returns the value of each operation at each strength, `[14, BINS]`."""
  at_most = {
    "shear_x": shear,
    "shear_y": shear,
    "translate_x": reach[0],
    "translate_y": reach[1],
    "rotate": math.radians(degrees),
    "brightness": enhancement,
    "color": enhancement,
    "contrast": enhancement,
    "sharpness": enhancement,
  }
  rise = np.linspace(0, 1, BINS)
  table = {name: rise * most for name, most in at_most.items()}
  table["posterize"] = 8 - np.round(rise * (8 - bits))
  table["solarize"] = 255 * (1 - rise)
  none = np.zeros(BINS)
  return np.array([table.get(x, none) for x in OPERATIONS], np.float32)


def _each(function: Callable, keys, images):
  """Maps over examples: in a loop on CPUs, vmapped on other platforms."""
  return jax.lax.platform_dependent(
    keys,
    images,
    cpu=lambda *examples: jax.lax.map(lambda x: function(*x), examples),
    default=jax.vmap(function),
  )


def _affine(operation, value):
  """Returns matrix and offset for `warp`."""
  of = lambda name: jnp.where(operation == OPERATIONS.index(name), value, 0.0)
  angle = of("rotate")
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  matrix = jnp.stack(
    [
      jnp.stack([cos, of("shear_x") - sin]),
      jnp.stack([of("shear_y") + sin, cos]),
    ]
  )
  return matrix, jnp.stack([of("translate_x"), of("translate_y")])


_COLOURS = (
  enhance.brightness,
  enhance.color,
  enhance.contrast,
  enhance.sharpness,
  enhance.posterize,
  enhance.solarize,
  enhance.auto_contrast,
  enhance.equalize,
)
