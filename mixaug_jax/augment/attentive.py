"""Mixers that look at the network: where it looks, and at which class."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.boxes import clipped_box, whole
from mixaug_jax.augment.dtypes import from_float32
from mixaug_jax.augment.grids import PatchMix, spread
from mixaug_jax.augment.lambdas import Beta
from mixaug_jax.augment.mixing import (
  Drawn,
  Mixer,
  Network,
  Pair,
  Shard,
  Weights,
  mix,
)


@dataclasses.dataclass(frozen=True)
class AttentiveCutMix(Mixer):
  """The settings and draws of `attentive_cutmix`, which documents them."""

  needs: ClassVar[tuple[str, ...]] = ("attention",)
  share: float = 6 / 49

  def __post_init__(self):
    check.within("share", self.share, 0, 1)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    del key  # The attention decides everything.
    return Drawn(jnp.ones((height, width, 1), bool), jnp.float32(1))

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    _, attention = pair.maps["attention"]
    _, height, width, _ = pair.images.shape
    batch, rows, columns = attention.shape
    order = jnp.argsort(-attention.reshape(batch, -1), axis=1, stable=True)
    rank = whole(jnp.argsort(order, axis=1)).reshape(attention.shape)
    count = whole(jnp.round(jnp.float32(self.share) * (rows * columns)))
    keep = spread(rank >= jnp.maximum(count, 1), height, width)[..., None]
    lam = jnp.mean(keep, (1, 2, 3), jnp.float32)
    return Weights(keep, lam, 1 - lam[:, None])


def attentive_cutmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  network: Network,
  share: float = 6 / 49,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Pastes the cells of another image that the network attends to.

  Attentive CutMix (Walawalkar et al., 2020, arXiv:2003.13048). The attention
  map of the partner, such as the mean of the last activations over the
  channels, has a cell for each of its places. The cells of the largest values
  are pasted where they were; earlier cells win ties. The weight of the label is
  lam = 1 - (pasted pixels) / (H W).

  The paper pastes 6 cells of 7x7 of a ResNet-50 that was trained before. Here
  the network is the one in training, and a share of the cells is pasted,
  rounded, at least one: 6 of 7x7 by default.

  Args:
    key: a PRNG key, typed or raw; draws the partners.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    network: `{"attention": function}`; the function of `(images, labels)`
      returns a map for each example, `[B, h, w]`.
    share: share of the cells to paste, in [0, 1].
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`, or `network` lacks the function.
  """
  return mix(
    key,
    images,
    labels,
    (AttentiveCutMix(share),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
    network=network,
  )


def semantic_share(maps: jax.Array, height: int, width: int) -> jax.Array:
  """Returns the share of each pixel in a class activation map.

  The map is enlarged bilinearly, its minimum is subtracted, and it is divided
  by its sum: the semantic percent map of SnapMix. Where all values are equal,
  all pixels have an equal share.

  Args:
    maps: `[B, h, w]`.
    height: H.
    width: W.

  Returns:
    float32 `[B, H, W]` with sum 1.
  """
  shape = (len(maps), height, width)
  maps = jax.image.resize(
    maps.astype(jnp.float32), shape, "linear", antialias=False
  )
  maps -= jnp.min(maps, axis=(1, 2), keepdims=True)
  total = jnp.sum(maps, axis=(1, 2), keepdims=True)
  uniform = 1 / (height * width)
  return jnp.where(total > 0, maps / jnp.where(total > 0, total, 1), uniform)


def mass(shares: jax.Array, mask: jax.Array) -> jax.Array:
  """Adds up `[B, H, W]` where a mask, bool `[B or 1, H, W, 1]`, is true."""
  return jnp.sum(jnp.where(mask[..., 0], shares, 0), axis=(1, 2))


@dataclasses.dataclass(frozen=True)
class SnapMix(Beta):
  """The settings and draws of `snapmix`, which documents them."""

  needs: ClassVar[tuple[str, ...]] = ("class_map",)
  keeps_mass: ClassVar[bool] = False
  alpha: float = 5.0

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    def box(key):
      lam_key, place_key = jax.random.split(key)
      side = jnp.sqrt(1 - self.draw_lambda(lam_key))
      sides = whole(height * side), whole(width * side)
      return clipped_box(place_key, *sides, height, width)

    own, other = map(box, jax.random.split(key))
    empty = (own.lam == 1) | (other.lam == 1)
    keep = own.keep | empty
    return Drawn(
      keep,
      jnp.where(empty, 1, own.lam),
      {"box": own.extra, "source": other.extra, "outside": other.keep},
    )

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    boxes = (
      jnp.broadcast_to(extra[name], (len(partners), 4))
      for name in ("box", "source")
    )
    return jax.vmap(box_into_box)(partners, *boxes)

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    _, height, width, _ = pair.images.shape
    own, other = (
      semantic_share(x, height, width) for x in pair.maps["class_map"]
    )
    pasted = mass(other, ~drawn.extra["outside"])
    pasted = jnp.where(drawn.lam == 1, 0, pasted)
    return Weights(drawn.keep, mass(own, drawn.keep), pasted[:, None])


def box_into_box(
  image: jax.Array, box: jax.Array, source: jax.Array
) -> jax.Array:
  """Resizes a box of an image to another box, bilinearly.

  The corner pixels of the two boxes coincide (`align_corners` of PyTorch). A
  box is `[top, height, left, width]`, int32.

  Args:
    image: `[H, W, C]`, any real dtype.
    box: the place of the result.
    source: the box to be resized.

  Returns:
    `[H, W, C]` of the dtype of the image; the pixels outside `box` are not
    defined.
  """

  def taps(size, start, length, source_start, source_length):
    """Returns the weights of the source for each place, `[size, size]`."""
    place = jnp.arange(size, dtype=jnp.float32)
    step = (source_length - 1) / jnp.maximum(length - 1, 1)
    inside = jnp.clip((place - start) * step, 0, source_length - 1)
    distance = (source_start + inside)[:, None] - place[None]
    return jax.nn.relu(1 - jnp.abs(distance))

  box, source = box.astype(jnp.float32), source.astype(jnp.float32)

  height, width, _ = image.shape
  rows = taps(height, box[0], box[1], source[0], source[1])
  columns = taps(width, box[2], box[3], source[2], source[3])
  resized = jnp.einsum(
    "yi,ijc,xj->yxc",
    rows,
    image.astype(jnp.float32),
    columns,
    precision=jax.lax.Precision.HIGHEST,
  )
  return from_float32(resized, image.dtype)


def snapmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 5.0,
  *,
  network: Network,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Pastes a box, and weighs labels by class activation (Huang et al., 2021).

  SnapMix, arXiv:2012.04846. A box of the partner is resized bilinearly to
  another box of the image. Each has the sides of CutMix's box, with a lam ~
  Beta(alpha, alpha) and a centre of its own. The labels weigh as much as the
  semantic percent maps S of the parts that are seen, see `semantic_share`:

      labels = (1 - sum of S in the box) * labels
               + (sum of S[partner] in its box) * labels[partner]

  **The weights need not add up to 1**, so the labels of a batch are no
  probabilities. If one of the boxes is empty, the example is not changed. The
  authors' code counts both weights twice where both images have one class; here
  the formula holds.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0; 5 is the authors' value.
    network: `{"class_map": function}`; the function of `(images, labels)`
      returns the class activation map of the labels, `[B, h, w]`.
    min_lambda: lower bound on lam of both boxes, before clipping.
    max_lambda: upper bound on it.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`, or `network` lacks the function.
  """
  return mix(
    key,
    images,
    labels,
    (SnapMix(alpha, min_lambda, max_lambda),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
    network=network,
  )


@dataclasses.dataclass(frozen=True)
class TokenMix(PatchMix):
  """The settings and draws of `tokenmix`, which documents them."""

  needs: ClassVar[tuple[str, ...]] = ("class_map",)
  keeps_mass: ClassVar[bool] = False

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    _, height, width, _ = pair.images.shape
    own, other = (
      semantic_share(x, height, width) for x in pair.maps["class_map"]
    )
    keep = drawn.keep
    return Weights(keep, mass(own, keep), mass(other, ~keep)[:, None])


def tokenmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 1.0,
  *,
  network: Network,
  cells: int = 4,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Mixes tokens, and weighs labels by activation (Liu et al., 2022).

  TokenMix, arXiv:2207.08409, with its random mask M: that of `patchmix`, whose
  cells are the tokens. The labels weigh as much as the activation maps A of the
  tokens that are seen:

      labels = sum(M * A) * labels + sum((1 - M) * A[partner]) * labels[partner]

  **The weights need not add up to 1.** A is the class activation map of the
  network in training as in `semantic_share`. The paper takes it from a network
  that was trained before, and also has masks of blocks.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: as in `patchmix`.
    network: as in `snapmix`.
    cells: as in `patchmix`; W / patch of a vision transformer.
    min_lambda: as in `patchmix`.
    max_lambda: as in `patchmix`.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`, or `network` lacks the function.
  """
  return mix(
    key,
    images,
    labels,
    (TokenMix(alpha, min_lambda, max_lambda, cells),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
    network=network,
  )
