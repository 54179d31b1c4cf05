"""AutoAugment: the policies that were found for ImageNet, CIFAR-10 and SVHN."""

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.policy_operations import (
  OPERATIONS,
  apply_in_turn,
  strengths,
  with_random_sign,
  with_split_key,
)

BINS = 10  # Strengths, 0 to 9.


# Sub-policies of two operations, each with its probability and its strength,
# from the tables in the appendix of Cubuk et al., 2018, arXiv:1805.09501. The
# strength is 0 where the operation has none.
POLICIES = {
  "imagenet": (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
  ),
  "cifar10": (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("auto_contrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("auto_contrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 0)),
  ),
  "svhn": (
    (("shear_x", 0.9, 4), ("invert", 0.2, 0)),
    (("shear_y", 0.9, 8), ("invert", 0.7, 0)),
    (("equalize", 0.6, 0), ("solarize", 0.6, 6)),
    (("invert", 0.9, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
    (("shear_x", 0.9, 4), ("auto_contrast", 0.8, 0)),
    (("shear_y", 0.9, 8), ("invert", 0.4, 0)),
    (("shear_y", 0.9, 5), ("solarize", 0.2, 6)),
    (("invert", 0.9, 0), ("auto_contrast", 0.8, 0)),
    (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
    (("shear_x", 0.9, 4), ("solarize", 0.3, 3)),
    (("shear_y", 0.8, 8), ("invert", 0.7, 0)),
    (("equalize", 0.9, 0), ("translate_y", 0.6, 6)),
    (("invert", 0.9, 0), ("equalize", 0.6, 0)),
    (("contrast", 0.3, 3), ("rotate", 0.8, 4)),
    (("invert", 0.8, 0), ("translate_y", 0.0, 2)),
    (("shear_y", 0.7, 6), ("solarize", 0.4, 8)),
    (("invert", 0.6, 0), ("rotate", 0.8, 4)),
    (("shear_y", 0.3, 7), ("translate_x", 0.9, 3)),
    (("shear_x", 0.1, 6), ("invert", 0.6, 0)),
    (("solarize", 0.7, 2), ("translate_y", 0.6, 7)),
    (("shear_y", 0.8, 4), ("invert", 0.8, 0)),
    (("shear_x", 0.7, 9), ("translate_y", 0.8, 3)),
    (("shear_y", 0.8, 5), ("auto_contrast", 0.7, 0)),
    (("shear_x", 0.7, 2), ("invert", 0.1, 0)),
  ),
}


@on_any_mesh
def auto_augment(
  key: jax.Array, images: jax.Array, policy: str = "imagenet"
) -> jax.Array:
  """Applies one of 25 sub-policies of two operations (Cubuk et al., 2018).

  The policies are those of arXiv:1805.09501. Each example draws a sub-policy
  uniformly, whether to apply each of its operations, and the signs. The ranges
  are torchvision's: shear up to 0.3, translation up to 150/331 of the side in
  whole pixels, rotation up to 30 degrees, brightness, colour, contrast and
  sharpness from 0.1 to 1.9, posterise from 8 to 4 bits, solarise from 255 to 0.

  Args:
    key: a PRNG key.
    images: `[H, W, 3]` or `[B, H, W, 3]`, uint8 or float in [0, 1].
    policy: imagenet, cifar10 or svhn: the data set that it was found on.

  Returns:
    Images of the same shape and dtype, in range.

  Raises:
    ValueError: there is no such policy.
  """
  return with_split_key(auto_augment_examples, key, images, policy)


def auto_augment_examples(
  keys: jax.Array, images: jax.Array, policy: str = "imagenet"
) -> jax.Array:
  """Applies `auto_augment` to a batch, with one key for each example."""
  check.choice("policy", policy, tuple(POLICIES))
  height, width = images.shape[1:3]
  one = lambda key: draw_auto_augment(key, height, width, policy)
  return apply_in_turn(images, *jax.vmap(one)(keys))


def draw_auto_augment(
  key: jax.Array, height: int, width: int, policy: str
) -> tuple[jax.Array, jax.Array]:
  """Returns operations and values for an example, `[2]` each.

  An operation that is not to be applied is replaced by the identity.
  """
  operations, probabilities, values = _tables(height, width, policy)
  key, row_key = jax.random.split(key)
  row = draw.integer(row_key, 0, len(operations))
  drawn = []
  for place, own in enumerate(jax.random.split(key, 2)):
    coin_key, sign_key = jax.random.split(own)
    operation = jnp.asarray(operations)[row, place]
    value = jnp.asarray(values)[row, place]
    value = with_random_sign(sign_key, operation, value)
    coin = draw.coin(coin_key, jnp.asarray(probabilities)[row, place])
    drawn.append((jnp.where(coin, operation, 0), value))
  chosen, signed = zip(*drawn, strict=True)
  return jnp.stack(chosen), jnp.stack(signed)


def _tables(
  height: int, width: int, policy: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns operations, probabilities and values, `[25, 2]` each."""
  values = strengths(
    BINS,
    shear=0.3,
    reach=(150 / 331 * width, 150 / 331 * height),
    degrees=30,
    enhancement=0.9,
    bits=(8, 4),
    whole_pixels=True,
  )

  def row(name, probability, strength):
    # Solarising at the last strength, from level 0 on, inverts.
    if name == "invert":
      name, strength = "solarize", BINS - 1
    operation = OPERATIONS.index(name)
    return operation, probability, values[operation, strength]

  rows = [[row(*step) for step in pair] for pair in POLICIES[policy]]
  operations, probabilities, values = np.moveaxis(np.array(rows), -1, 0)
  return (
    operations.astype(np.int32),
    probabilities.astype(np.float32),
    values.astype(np.float32),
  )
