"""TrivialAugment and RandAugment: random choices out of fourteen operations."""

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.policy_operations import (
  apply_in_turn,
  draw_operation,
  strengths,
  with_split_key,
)

BINS = 31  # Strengths, 0 to 30.


@on_any_mesh
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
  return with_split_key(trivial_augment_examples, key, images)


@on_any_mesh
def rand_augment(
  key: jax.Array,
  images: jax.Array,
  num_layers: int = 2,
  magnitude: jax.Array | int = 9,
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
    magnitude: strength, a whole number from 0 to 30; may be traced, and its
      range is then not checked.

  Returns:
    Images of the same shape and dtype, in range.

  Raises:
    ValueError: num_layers or magnitude is out of range.
  """
  return with_split_key(
    rand_augment_examples, key, images, num_layers, magnitude
  )


def trivial_augment_examples(keys: jax.Array, images: jax.Array) -> jax.Array:
  """Applies `trivial_augment` to a batch, with one key for each example."""
  return apply_in_turn(images, *jax.vmap(draw_trivial_augment)(keys))


def rand_augment_examples(
  keys: jax.Array,
  images: jax.Array,
  num_layers: int = 2,
  magnitude: jax.Array | int = 9,
) -> jax.Array:
  """Applies `rand_augment` to a batch, with one key for each example."""
  check.whole("num_layers", num_layers, 1, 100)
  if check.known(magnitude):
    check.whole("magnitude", magnitude, 0, BINS - 1)
  height, width = images.shape[1:3]
  one = lambda key: draw_rand_augment(key, height, width, num_layers, magnitude)
  return apply_in_turn(images, *jax.vmap(one)(keys))


def draw_trivial_augment(key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the operation and its value for an example, `[1]` each."""
  table = strengths(
    BINS,
    shear=0.99,
    reach=(32, 32),
    degrees=135,
    enhancement=0.99,
    bits=(8, 2),
  )
  draw_key, bin_key = jax.random.split(key)
  level = draw.integer(bin_key, 0, BINS)
  operation, value = draw_operation(draw_key, table, level)
  return operation[None], value[None]


def draw_rand_augment(
  key: jax.Array,
  height: int,
  width: int,
  num_layers: int,
  magnitude: jax.Array | int,
) -> tuple[jax.Array, jax.Array]:
  """Returns operations and values for an example, `[num_layers]` each."""
  table = strengths(
    BINS,
    shear=0.3,
    reach=(150 / 331 * width, 150 / 331 * height),
    degrees=30,
    enhancement=0.9,
    bits=(8, 4),
  )
  drawn = [
    draw_operation(jax.random.fold_in(key, layer), table, magnitude)
    for layer in range(int(num_layers))
  ]
  operations, values = zip(*drawn, strict=True)
  return jnp.stack(operations), jnp.stack(values)
