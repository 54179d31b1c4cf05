"""Saliency from pixels, and the mixer that pastes the most salient part."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment.boxes import centred_box, whole
from mixaug_jax.augment.dtypes import full_scale
from mixaug_jax.augment.lambdas import Beta
from mixaug_jax.augment.mixing import Drawn, Pair, Shard, Weights, mix

# Pixels from the centre of a neighbourhood to its sides, as in OpenCV.
_RADII = (12, 24, 48, 28, 56, 112)
# Luma of ITU-R BT.601 in units of 2^-15.
_LUMA = (9798, 19235, 3735)


def fine_grained_saliency(images: jax.Array) -> jax.Array:
  """Returns how much pixels differ from their surroundings.

  This is the intensity channel of Montabone and Soto, 2010, "Human detection
  using a mobile platform and novel features derived from a visual saliency
  mechanism", Image and Vision Computing 28, in the steps of OpenCV's
  `StaticSaliencyFineGrained`. The grey image is smoothed twice by
  [1, 2, 1] / 4. At six scales, the mean of a square neighbourhood without its
  centre is subtracted from the centre. The positive differences of all scales
  are added up and divided by their maximum, and so are the negative ones. The
  map is the sum of both, over the larger of their maxima. All of it is computed
  in levels 0 to 255 that are rounded as in OpenCV, so the map does not depend
  on the device.

  OpenCV's map wraps to 0 where the sum exceeds the maximum. Here it ends at 1.

  Args:
    images: RGB `[B, H, W, 3]` or grey `[B, H, W, 1]`; integers hold levels 0 to
      255, floats are in [0, 1]. With other channels, their mean is the grey.

  Returns:
    float32 `[B, H, W]` in [0, 1]; zero if all pixels are equal.
  """
  grey = _smooth(_smooth(_grey(images)))
  _, height, width = grey.shape
  total = jnp.pad(grey, ((0, 0), (1, 0), (1, 0)))
  total = jnp.cumsum(jnp.cumsum(total, 1, jnp.int32), 2, jnp.int32)
  above, below = jnp.zeros_like(grey), jnp.zeros_like(grey)
  for radius in _RADII:
    (top, bottom), (left, right) = (_ends(n, radius) for n in (height, width))
    rows = total[:, bottom] - total[:, top]
    others = rows[:, :, right] - rows[:, :, left] - grey
    count = np.maximum(np.outer(bottom - top, right - left) - 1, 1)
    mean = others.astype(jnp.float32) / count[None].astype(np.float32)
    difference = grey.astype(jnp.float32) - mean
    above += whole(jnp.maximum(difference, 0))
    below += whole(jnp.maximum(-difference, 0))
  above, below = _to_levels(above), _to_levels(below)
  largest = functools.partial(jnp.max, axis=(1, 2), keepdims=True)
  most = jnp.maximum(largest(above), largest(below))
  levels = 255 * (above + below) // jnp.maximum(most, 1)
  return jnp.minimum(levels, 255).astype(jnp.float32) / 255


def _grey(images):
  """Returns levels 0 to 255, int32 `[B, H, W]`."""
  levels = images.astype(jnp.float32) * (255 / full_scale(images.dtype))
  levels = whole(jnp.round(levels))
  if images.shape[-1] != 3:
    return whole(jnp.round(jnp.mean(levels, -1, dtype=jnp.float32)))
  weighted = sum(levels[..., n] * _LUMA[n] for n in range(3))
  return (weighted + 2**14) >> 15


def _smooth(grey):
  """Filters by [1, 2, 1] / 4 in both directions, with mirrored borders."""
  # A mirror needs two pixels; one is its own mirror.
  mode = lambda size: "reflect" if size > 1 else "edge"
  x = jnp.pad(grey, ((0, 0), (1, 1), (0, 0)), mode(grey.shape[1]))
  x = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
  x = jnp.pad(x, ((0, 0), (0, 0), (1, 1)), mode(grey.shape[2]))
  x = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
  return (x + 8) >> 4


def _ends(size, radius):
  """Returns the first place of each neighbourhood and the one after it."""
  place = np.arange(size)
  first, last = place - radius + 1, place + radius + 1
  return np.clip(first, 0, size), np.clip(last, 0, size)


def _to_levels(sums):
  """Scales `[B, H, W]` to a maximum of 255, or leaves zeros."""
  most = jnp.max(sums, axis=(1, 2), keepdims=True)
  return 255 * sums // jnp.maximum(most, 1)


def most_salient(images: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns row and column of the first maximum of the map, int32 `[B]`."""
  maps = fine_grained_saliency(images)
  width = maps.shape[2]
  place = jnp.argmax(maps.reshape(len(maps), -1), axis=1).astype(jnp.int32)
  return place // width, place % width


@dataclasses.dataclass(frozen=True)
class SaliencyMix(Beta):
  """The settings and draws of `saliencymix`, which documents them."""

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    side = jnp.sqrt(1 - self.draw_lambda(key))
    sides = jnp.stack([whole(height * side), whole(width * side)])
    # The place of the box, and so lambda, follows from the partner.
    return Drawn(jnp.ones((height, width, 1), bool), jnp.float32(1), sides)

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    batch, height, width, _ = pair.partners.shape
    sides = jnp.broadcast_to(drawn.extra, (batch, 2))
    boxes = jax.vmap(
      lambda y, x, sides: centred_box(y, x, sides[0], sides[1], height, width)
    )(*most_salient(pair.partners), sides)
    return Weights(boxes.keep, boxes.lam, 1 - boxes.lam[:, None])


def saliencymix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 1.0,
  *,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Pastes the most salient box of another image (Uddin et al., 2021).

  arXiv:2006.01791. The box has the sides of CutMix's, with lam ~ Beta(alpha,
  alpha). Its centre is the maximum of the partner's saliency, see
  `fine_grained_saliency`, and it is clipped to the image. It is pasted where it
  was. The weight of the label is counted after clipping:

      lam = 1 - (box pixels inside the image) / (H W)

  Every example has the box of its own partner, as in the paper, also if lambda
  is drawn once for the batch. The authors' code uses the box of one partner for
  the whole batch, cuts sides to even numbers, and hands OpenCV normalised
  floats with the channels in the order of BGR.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype; floats in [0, 1].
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0.
    min_lambda: lower bound on lam before clipping.
    max_lambda: upper bound on it.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`; draws the size of the box.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`.
  """
  return mix(
    key,
    images,
    labels,
    (SaliencyMix(alpha, min_lambda, max_lambda),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )
