"""Mixers that act between the stages of a network.

For each batch, a place is drawn: 0 is the input, n the output of stage n after
the stem. `mix` applies such a mixer to activations `[B, h, w, C]` as any other
one to images.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw, mixing
from mixaug_jax.augment.lambdas import Beta
from mixaug_jax.augment.mixing import Drawn, Mixer, Pair, Shard, Weights, mix

_MOST_STAGES = 64


@dataclasses.dataclass(frozen=True)
class ManifoldMixup(Beta):
  """The settings and draws of `manifold_mixup`, which documents them."""

  between_stages: ClassVar[bool] = True
  alpha: float = 2.0
  stages: int = 2

  def __post_init__(self):
    super().__post_init__()
    check.whole("stages", self.stages, 1, _MOST_STAGES)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam = self.draw_lambda(key)
    return Drawn(jnp.broadcast_to(lam, (height, width, 1)), lam)


def manifold_mixup(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 2.0,
  *,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Blends the activations of two images (Verma et al., 2019).

  Manifold Mixup, arXiv:1806.05236: `mixup` of the activations h of one stage,

      h = lam * h + (1 - lam) * h[partner]

  with lam ~ Beta(alpha, alpha), and labels likewise. In training with
  `mix.name=manifold_mixup`, each batch draws its place uniformly from the input
  and the outputs of the first `mix.manifold_mixup.stages` stages after the
  stem; 2 is the authors' value.

  Args:
    key: a PRNG key, typed or raw.
    images: activations, `[B, h, w, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0; 2 is the paper's value.
    min_lambda: as in `mixup`.
    max_lambda: as in `mixup`.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Activations and labels of the given shapes and dtypes. A batch of one
    example is returned unchanged.

  Raises:
    ValueError: as `cutmix`.
  """
  return mix(
    key,
    images,
    labels,
    (ManifoldMixup(alpha, min_lambda, max_lambda),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class PatchUp(Mixer):
  """The settings and draws of `patchup`, which documents them."""

  between_stages: ClassVar[bool] = True
  at_input: ClassVar[str] = "cutmix"
  gamma: float = 0.5
  block_size: int = 7
  stages: int = 2

  def __post_init__(self):
    check.within("gamma", self.gamma, 0, 1)
    check.whole("block_size", self.block_size, 1, 1023)
    check.whole("stages", self.stages, 1, _MOST_STAGES)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    # The number of channels, and so the mask, is known only in `weigh`.
    seed = jax.random.bits(key, (), jnp.uint32)
    return Drawn(jnp.ones((height, width, 1), bool), jnp.float32(1), seed)

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    shape = pair.images.shape[1:]

    def mask(seed):
      size = min(self.block_size, *shape[:2])
      rate = block_rate(self.gamma, size, *shape[:2])
      corners = draw.uniform(jax.random.key(seed), shape=shape) < rate
      return ~blocks(corners, size)

    keep = jax.vmap(mask)(drawn.extra)
    lam = jnp.mean(keep, (1, 2, 3), jnp.float32)
    return Weights(keep, lam, 1 - lam[:, None])


def block_rate(
  gamma: jax.Array | float, size: int, height: int, width: int
) -> jax.Array | float:
  """Returns the share of places that are the centre of a block.

  It is gamma H W / (size^2 (H - size + 1) (W - size + 1)): a share gamma of the
  features would lie in blocks, if these did not overlap or leave the map.
  """
  room = (height - size + 1) * (width - size + 1)
  return gamma * (height * width / (size**2 * room))


def blocks(centres: jax.Array, size: int) -> jax.Array:
  """Enlarges every centre to a square block, clipped to the map.

  Args:
    centres: bool `[h, w, C]`.
    size: places a side of a block; of an even one, the larger half comes first.
  """
  # Centres are 0 or 1, and 0 is the identity of their maximum.
  found = jax.lax.reduce_window(
    centres.astype(jnp.float32),
    jnp.float32(0),
    jax.lax.max,
    (size, size, 1),
    (1, 1, 1),
    ((size // 2, (size - 1) // 2), (size // 2, (size - 1) // 2), (0, 0)),
  )
  return found > 0


def patchup(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  gamma: float = 0.5,
  block_size: int = 7,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Takes blocks of the activations of another image (Faramarzi et al., 2020).

  Hard PatchUp, arXiv:2006.07794. Every place of every channel is the centre of
  a block with the probability of `block_rate`; the features of the blocks come
  from the partner. The weight of the label is lam = (features kept) /
  (h w C), the authors' reweighted target. Their loss also adds one of the
  unweighted labels, which is not a part of this.

  In training with `mix.name=patchup`, each batch draws its place uniformly from
  the input, where CutMix is applied as by the authors, and the outputs of the
  first `mix.patchup.stages` stages after the stem.

  Args:
    key: a PRNG key, typed or raw.
    images: activations, `[B, h, w, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    gamma: share of the features in blocks if they did not overlap, in [0, 1].
    block_size: places a side of a block, or the whole side of a smaller map.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Activations and labels of the given shapes and dtypes. A batch of one
    example is returned unchanged.

  Raises:
    ValueError: as `cutmix`.
  """
  return mix(
    key,
    images,
    labels,
    (PatchUp(gamma, block_size),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


def mix_input(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  mixers: tuple[Any],
  at_input: tuple[Mixer],
  enabled: jax.Array | bool = True,
  **settings: Any,
) -> tuple[jax.Array, jax.Array]:
  """Mixes the batch if the input is the place that the key draws.

  Args:
    key: the key of the batch, as in `mix_after`.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    mixers: the one mixer between stages.
    at_input: the one that mixes images in its stead.
    enabled: as in `mix`, like all other settings.
    **settings: see `mix`.
  """
  on = enabled & (_place(key, mixers[0].stages) == 0)
  return mixing.mix(key, images, labels, at_input, enabled=on, **settings)


def mix_after(
  place: int,
  key: jax.Array,
  activations: jax.Array,
  labels: jax.Array,
  *,
  mixers: tuple[Any],
  at_input: tuple[Mixer],
  enabled: jax.Array | bool = True,
  **settings: Any,
) -> tuple[jax.Array, jax.Array]:
  """Mixes the output of a stage if it is the place that the key draws.

  Args:
    place: number of the stage after the stem, from 1.
    key: the key of the batch, as in `mix_input`.
    activations: `[B, h, w, C]`, any real dtype.
    labels: those of `mix_input`, `[B, classes]`.
    mixers: the one mixer between stages.
    at_input: not used.
    enabled: as in `mix`, like all other settings.
    **settings: see `mix`.
  """
  del at_input
  on = enabled & (_place(key, mixers[0].stages) == place)
  return mixing.mix(key, activations, labels, mixers, enabled=on, **settings)


def _place(key, stages):
  """Draws the place of a batch, 0 for the input to `stages`, int32."""
  return draw.integer(jax.random.fold_in(key, 1), 0, stages + 1)


def between_stages(mixer: Any) -> tuple[int, Callable[..., Any]] | None:
  """Returns the number of stages and the mixing after each of them.

  Args:
    mixer: the result of `make_mixer`.

  Returns:
    None if the mixer acts on the input alone; otherwise the number of stages
    after the stem, and `mix_after` with the settings of the mixer.
  """
  if getattr(mixer, "func", None) is not mix_input:
    return None
  keywords = mixer.keywords
  return keywords["mixers"][0].stages, functools.partial(mix_after, **keywords)
