"""AugMix: an image mixed with several chains of operations of itself."""

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.policy_operations import (
  OPERATIONS,
  apply_in_turn,
  strengths,
  with_random_sign,
  with_split_key,
)

BINS = 10  # Strengths; `severity` is how many of them are drawn from.
_MAX_DRAWN_DEPTH = 3
_OWN = ("brightness", "color", "contrast", "sharpness")  # Not in the paper.


@on_any_mesh
def augmix(
  key: jax.Array,
  images: jax.Array,
  severity: jax.Array | int = 3,
  width: int = 3,
  depth: int = -1,
  alpha: jax.Array | float = 1.0,
  all_operations: bool = True,
) -> jax.Array:
  """Mixes an image with chains of operations (Hendrycks et al., 2020).

  With m ~ Beta(alpha, alpha) and w ~ Dirichlet(alpha, ..., alpha), the result
  of arXiv:1912.02781 is `(1 - m) * image + m * sum(w[i] * chain[i](image))`.
  Operations, ranges and defaults are those of torchvision's AugMix: shear up to
  0.3, translation up to a third of the side in whole pixels, rotation up to 30
  degrees, posterise from 4 to 0 bits, solarise from 255 to 0, equalise,
  auto-contrast; brightness, colour, contrast and sharpness from 0.1 to 1.9. The
  result is mixed in float32, and rounded if the images are uint8.

  Args:
    key: a PRNG key.
    images: `[H, W, 3]` or `[B, H, W, 3]`, uint8 or float in [0, 1].
    severity: each strength is drawn from the lowest `severity` of ten, 1 to 10;
      may be traced, and its range is then not checked.
    width: number of chains, 1 to 10.
    depth: number of operations in a chain, 1 to 10; -1 draws 1 to 3 for each.
    alpha: of both distributions, above 0; may be traced.
    all_operations: False leaves out brightness, colour, contrast and sharpness,
      as in the paper, because corruptions of ImageNet-C resemble them.

  Returns:
    Images of the same shape and dtype, in range.

  Raises:
    ValueError: a setting is out of range.
  """
  settings = (severity, width, depth, alpha, all_operations)
  return with_split_key(augmix_examples, key, images, *settings)


def augmix_examples(
  keys: jax.Array,
  images: jax.Array,
  severity: jax.Array | int = 3,
  width: int = 3,
  depth: int = -1,
  alpha: jax.Array | float = 1.0,
  all_operations: bool = True,
) -> jax.Array:
  """Applies `augmix` to a batch, with one key for each example."""
  if check.known(severity):
    check.whole("severity", severity, 1, BINS)
  check.whole("width", width, 1, 10)
  if depth != -1:
    check.whole("depth, unless it is -1,", depth, 1, 10)
  check.above("alpha", alpha, 0)
  height, columns = images.shape[1:3]
  settings = (height, columns, severity, width, depth, alpha, all_operations)
  one = lambda key: draw_augmix(key, *settings)
  weights, operations, values = jax.vmap(one)(keys)
  exact = images.astype(jnp.float32)
  weigh = lambda share, x: share[:, None, None, None] * x

  def add(mixed, chain):
    share, operations, values = chain
    changed = apply_in_turn(images, operations, values).astype(jnp.float32)
    return mixed + weigh(share, changed), None

  chains = (weights[:, 1:], operations, values)
  chains = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), chains)
  mixed, _ = jax.lax.scan(add, weigh(weights[:, 0], exact), chains)
  if images.dtype == jnp.uint8:
    mixed = jnp.clip(jnp.round(mixed), 0, 255)
  return mixed.astype(images.dtype)


def draw_augmix(
  key: jax.Array,
  height: int,
  columns: int,
  severity: jax.Array | int,
  width: int,
  depth: int,
  alpha: jax.Array | float,
  all_operations: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the weights and the chains of an example.

  Returns:
    Weights of the image and of each chain, float32 `[1 + width]`; operations
    int32 `[width, depth]` and their values float32 `[width, depth]`. After its
    end, a chain of drawn depth has identities.
  """
  table = strengths(
    BINS,
    shear=0.3,
    reach=(columns / 3, height / 3),
    degrees=30,
    enhancement=0.9,
    bits=(4, 0),
    whole_pixels=True,
  )
  names = [x for x in OPERATIONS[1:] if all_operations or x not in _OWN]
  choices = jnp.array([OPERATIONS.index(x) for x in names], jnp.int32)
  alpha = jnp.asarray(alpha, jnp.float32)
  blend_key, weight_key, depth_key, chain_key = jax.random.split(key, 4)
  share = jax.random.beta(blend_key, alpha, alpha, dtype=jnp.float32)
  weights = share * jax.random.dirichlet(
    weight_key, jnp.broadcast_to(alpha, width), dtype=jnp.float32
  )

  def step(key):
    operation_key, level_key, sign_key = jax.random.split(key, 3)
    operation = choices[draw.integer(operation_key, 0, len(names))]
    value = jnp.asarray(table)[operation, draw.integer(level_key, 0, severity)]
    return operation, with_random_sign(sign_key, operation, value)

  longest = _MAX_DRAWN_DEPTH if depth == -1 else depth
  keys = jax.random.split(chain_key, (width, longest))
  operations, values = jax.vmap(jax.vmap(step))(keys)
  if depth == -1:
    one = lambda key: draw.integer(key, 1, _MAX_DRAWN_DEPTH + 1)
    depths = jax.vmap(one)(jax.random.split(depth_key, width))
    inside = jnp.arange(longest)[None] < depths[:, None]
    operations = jnp.where(inside, operations, 0)
  return jnp.append(1 - share, weights), operations, values
