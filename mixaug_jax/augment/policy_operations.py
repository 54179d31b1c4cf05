"""The operations of the policies, and their application to a batch.

An operation is an index into `OPERATIONS` and a value, so that a policy draws
two numbers for each example. On a CPU, examples are mapped one after another
and each computes only its own operation. On GPUs and TPUs all operations share
one affine warp and one elementwise pass, because small kernels in a loop would
cost more. docs/augmentations.md has figures.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw, enhance, level_tables
from mixaug_jax.augment.warp import warp

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


def strengths(
  bins: int,
  *,
  shear: float,
  reach: tuple[float, float],
  degrees: float,
  enhancement: float,
  bits: tuple[int, int],
  whole_pixels: bool = False,
) -> np.ndarray:
  """Returns the value of each operation at each strength.

  Args:
    bins: number of strengths; they rise linearly.
    shear: slope at the last strength.
    reach: translation along x and y at the last strength, in pixels.
    degrees: rotation at the last strength.
    enhancement: distance of a factor from one at the last strength.
    bits: of posterise, at the first and the last strength.
    whole_pixels: cut translations to whole pixels.

  Returns:
    Values of `apply_operation`, float32 `[14, bins]`.
  """
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
  rise = np.linspace(0, 1, bins)
  table = {name: rise * most for name, most in at_most.items()}
  if whole_pixels:
    for name in ("translate_x", "translate_y"):
      table[name] = np.trunc(table[name])
  table["posterize"] = bits[0] - np.round(rise * (bits[0] - bits[1]))
  table["solarize"] = 255 * (1 - rise)
  none = np.zeros(bins)
  return np.array([table.get(x, none) for x in OPERATIONS], np.float32)


def with_random_sign(
  key: jax.Array, operation: jax.Array, value: jax.Array
) -> jax.Array:
  """Returns `value` or, if the operation has a sign, `-value` half the time."""
  negative = draw.coin(key, 0.5) & (operation <= _LAST_SIGNED)
  return jnp.where(negative, -value, value)


def draw_operation(
  key: jax.Array, table: np.ndarray, level: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
  """Draws an operation and a sign; returns the operation and its value.

  Args:
    key: a PRNG key.
    table: values of the operations, as `strengths` returns them.
    level: column of the table, int32 scalar.
  """
  operation_key, sign_key = jax.random.split(key)
  operation = draw.integer(operation_key, 0, len(OPERATIONS))
  value = jnp.asarray(table)[operation, jnp.asarray(level, jnp.int32)]
  return operation, with_random_sign(sign_key, operation, value)


def with_split_key(
  examples: Callable[..., jax.Array],
  key: jax.Array,
  images: jax.Array,
  *settings: object,
) -> jax.Array:
  """Applies `examples(keys, images, *settings)` to an image or a batch."""
  check.key(key)
  check.colours(images, (3,))
  if images.ndim == 3:
    return examples(key[None], images[None], *settings)[0]
  return examples(jax.random.split(key, len(images)), images, *settings)


def apply_in_turn(
  images: jax.Array, operations: jax.Array, values: jax.Array
) -> jax.Array:
  """Applies several operations to each example, one after another.

  Args:
    images: `[B, H, W, 3]`, uint8 or float in [0, 1].
    operations: indices into `OPERATIONS`, int32 `[B, layers]`.
    values: of the operations, float32 `[B, layers]`.
  """

  def one_after_another(images, operations, values):
    one = lambda example: _in_turn(apply_operation, *example)
    return jax.lax.map(one, (images, operations, values))

  def together(images, operations, values, products=False):
    apply = functools.partial(apply_together, products=products)
    return _in_turn(apply, images, operations.T, values.T)

  return jax.lax.platform_dependent(
    images,
    operations,
    values,
    cpu=one_after_another,
    tpu=functools.partial(together, products=True),
    default=together,
  )


def _in_turn(apply, images, operations, values):
  for layer in range(len(operations)):
    images = apply(images, operations[layer], values[layer])
  return images


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
  matrix, offset = _affine(operation, value)
  branches = [lambda x: x, lambda x: warp(x, matrix, offset, 255 * _FILL)]
  branches += [_with_value(function, value) for function in _COLOURS]
  # Branches: identity, one warp for five operations, each of the others.
  affine = (operation >= _FIRST_AFFINE) & (operation <= _LAST_AFFINE)
  later = operation - _LAST_AFFINE + 1
  branch = jnp.where(operation == 0, 0, jnp.where(affine, 1, later))
  levels = jax.lax.switch(branch, branches, _to_levels(image))
  return _from_levels(levels, image.dtype)


def _with_value(
  function: Callable[[jax.Array, jax.Array], jax.Array], value: jax.Array
) -> Callable[[jax.Array], jax.Array]:
  return lambda image: function(image, value)


def apply_together(
  images: jax.Array,
  operations: jax.Array,
  values: jax.Array,
  products: bool = False,
) -> jax.Array:
  """Applies `apply_operation` to each example without branches.

  The results may differ from those of `apply_operation` by one level.

  Args:
    images: `[B, H, W, 3]`, uint8 or float in [0, 1].
    operations: indices into `OPERATIONS`, int32 `[B]`.
    values: of the operations, float32 `[B]`.
    products: equalise by matrix products, as on TPUs.
  """
  together = jax.vmap(functools.partial(_without_branches, products=products))
  levels = together(_to_levels(images), operations, values)
  return _from_levels(levels, images.dtype)


def _without_branches(levels, operation, value, products):
  """Computes any operation as one warp and one elementwise pass.

  A photometric operation is a weighted sum of the level, the grey value, the
  smoothed level and a constant, or a function of the level. The warp is the
  identity for it, so the sum may read the levels before the warp.
  """
  if_ = lambda name, then, otherwise: jnp.where(
    operation == OPERATIONS.index(name), then, otherwise
  )
  everywhere = lambda x: jnp.broadcast_to(x, levels.shape[2:])[None, None]
  low, high = jnp.min(levels, (0, 1)), jnp.max(levels, (0, 1))
  mean = enhance.grey(everywhere(jnp.mean(levels, (0, 1))))[0, 0]
  flat = high == low
  stretch = jnp.where(flat, 1.0, 255 / jnp.where(flat, 1.0, high - low))
  gain = if_("brightness", 1 + value, if_("color", 1 + value, 1.0))
  gain = if_("contrast", 1 + value, if_("sharpness", 1 + value, gain))
  gain = if_("auto_contrast", stretch, gain)
  shift = if_("auto_contrast", jnp.where(flat, 0.0, -low * stretch), 0.0)
  shift = if_("contrast", -value * mean, shift)
  result = warp(levels, *_affine(operation, value), 255 * _FILL)
  result = result * everywhere(gain) + everywhere(shift)
  result += if_("color", -value, 0.0) * enhance.grey(levels)
  result += if_("sharpness", -value, 0.0) * enhance.sharpness(levels, -1.0)
  threshold = if_("solarize", value, jnp.inf)
  result = jnp.where(result < threshold, result, 255 - result)
  step = jnp.round(jnp.exp2(8 - if_("posterize", value, 8.0)))
  posterized = jnp.floor(jnp.round(result) / step) * step
  result = if_("posterize", posterized, result)
  return if_("equalize", level_tables.equalized(levels, products), result)


def _to_levels(images):
  """Returns float32 levels in 0..255."""
  scale = 1 if images.dtype == jnp.uint8 else 255
  return images.astype(jnp.float32) * scale


def _from_levels(levels, dtype):
  levels = jnp.clip(levels, 0, 255)
  if dtype == jnp.uint8:
    return jnp.round(levels).astype(dtype)
  return (levels / 255).astype(dtype)


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
