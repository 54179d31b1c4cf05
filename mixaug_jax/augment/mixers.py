"""The mixers of two images by their place alone, and the registry of all.

A numeric setting may be traced, such as an alpha that follows a schedule. Its
range is then not checked.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mixaug_jax.augment import box_forms, check, draw
from mixaug_jax.augment.attentive import AttentiveCutMix, SnapMix, TokenMix
from mixaug_jax.augment.boxes import clipped_box, inner_box, whole
from mixaug_jax.augment.dtypes import grey
from mixaug_jax.augment.grids import GridMix, Jigsaw, Mosaic, PatchMix
from mixaug_jax.augment.lambdas import AnyLambda, Beta, float32_if_traced
from mixaug_jax.augment.mixing import Drawn, Mixer, Shard, mix
from mixaug_jax.augment.puzzle import PuzzleMix
from mixaug_jax.augment.resample import shrink_into
from mixaug_jax.augment.saliency import SaliencyMix
from mixaug_jax.augment.stage_mixers import ManifoldMixup, PatchUp

LABELS = ("pixels", "unclipped", "swapped")


@dataclasses.dataclass(frozen=True)
class Mixup(AnyLambda):
  """The settings and draws of `mixup`, which documents them."""

  alpha: float = 0.2

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam = self.draw_lambda(key)
    keep = jnp.broadcast_to(lam, (height, width, 1))
    return Drawn(keep, lam)


def mixup(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 0.2,
  *,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  distribution: str = "beta",
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Blends two images (Zhang et al., 2018, arXiv:1710.09412).

      images = lam * images + (1 - lam) * images[partner]

  with lam ~ Beta(alpha, alpha). The paper uses alpha 0.2 on ImageNet. Images of
  an integer dtype are blended in float32 and rounded.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0.
    min_lambda: lower bound on the share of the first image; lambda is
      `min + (max - min) * Beta(alpha, alpha)`.
    max_lambda: upper bound on the share of the first image.
    distribution: of lambda, instead of Beta(alpha, alpha). `random_alpha`:
      Beta(a, a) with a ~ U(0, alpha), drawn once for the batch. `larger`:
      max(x, 1 - x) with x ~ Beta(alpha, alpha).
    probability: probability of mixing; otherwise the example or batch is
      returned as it is.
    per_example: draw for each example instead of once for the batch, which is
      the paper's way.
    partner: `any` or `other_class`; see `draw_partners`.
    group_size: partners come from groups of this many consecutive examples of
      the global batch; see `mix`.
    shard: this device's place in the global batch; None: this device has all
      of it.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: a setting is out of range, or an argument has the wrong rank or
      dtype.
  """
  return mix(
    key,
    images,
    labels,
    (Mixup(alpha, min_lambda, max_lambda, distribution=distribution),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class CutMix(AnyLambda):
  """The settings and draws of `cutmix`, which documents them."""

  min_aspect: float = 1.0
  max_aspect: float = 1.0
  box: str = dataclasses.field(default="centred", kw_only=True)
  label: str = dataclasses.field(default="pixels", kw_only=True)

  def __post_init__(self):
    super().__post_init__()
    check.choice("box", self.box, ("centred", *box_forms.FORMS))
    check.choice("label", self.label, LABELS)
    check.above("min_aspect", self.min_aspect, 0)
    check.above("max_aspect", self.max_aspect, 0)
    check.interval(
      "min_aspect", self.min_aspect, "max_aspect", self.max_aspect, 0, math.inf
    )
    bounds = self.min_lambda, self.max_lambda, self.min_aspect, self.max_aspect
    if self.box != "centred" and not (
      check.known(*bounds) and bounds == (0, 1, 1, 1)
    ):
      raise ValueError(
        f"box={self.box} has no bounds on lambda or the aspect ratio; use "
        "box=centred, or leave them at 0, 1, 1 and 1"
      )

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    if self.box == "centred":
      drawn, share = self._centred(key, height, width)
    else:
      form = box_forms.FORMS[self.box]
      drawn, share = form(key, self.draw_lambda, height, width)
    if self.label == "unclipped":
      return drawn._replace(lam=1 - share)
    if self.label == "swapped":
      return drawn._replace(lam=1 - drawn.lam)
    return drawn

  def _centred(self, key, height, width) -> tuple[Drawn, jax.Array]:
    """Draws the box of the paper, or one within the bounds.

    Returns:
      The draw, and the share of the image that the box would fill if it were
      not clipped.
    """
    lam_key, aspect_key, place_key = jax.random.split(key, 3)
    lam = self.draw_lambda(lam_key)
    bounds = self.min_aspect, self.max_aspect
    log = math.log if check.known(*bounds) else jnp.log
    log_aspect = draw.uniform(aspect_key, log(bounds[0]), log(bounds[1]))
    root = jnp.exp(log_aspect / 2)
    side = jnp.sqrt(1 - lam)
    sides = height * side / root, width * side * root
    box_height, box_width = map(whole, sides)

    def clipped():
      drawn = clipped_box(place_key, box_height, box_width, height, width)
      return drawn, box_forms.share(box_height, box_width, height, width)

    def inner():
      args = place_key, lam, jnp.round(sides[0]), height, width
      drawn = self._inner(*args)
      return drawn, 1 - drawn.lam

    if check.known(self.bounded):
      return inner() if self.bounded else clipped()
    select = functools.partial(jnp.where, self.bounded)
    return jax.tree.map(select, inner(), clipped())

  def _inner(self, key, lam, box_height, height, width) -> Drawn:
    """Draws a box within the bounds.

    Clipping would change lambda, so the box lies inside the image. The width
    compensates for the rounding of the height.
    """
    area = height * width
    least = (1 - float32_if_traced(self.max_lambda)) * area
    most = (1 - float32_if_traced(self.min_lambda)) * area
    if check.known(least, most):
      least, most = math.ceil(least - 1e-6), math.floor(most + 1e-6)
    else:  # The products are rounded to float32.
      slack = area * 2**-22
      least = whole(jnp.ceil(least - slack))
      most = whole(jnp.floor(most + slack))
    box_height = jnp.clip(
      whole(box_height), jnp.maximum(1, -(-least // width)), height
    )
    box_width = jnp.clip(
      whole(jnp.round((1 - lam) * area / box_height.astype(jnp.float32))),
      -(-least // box_height),
      jnp.minimum(width, most // box_height),
    )
    return inner_box(key, box_height, box_width, height, width)


def cutmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 1.0,
  *,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  min_aspect: float = 1.0,
  max_aspect: float = 1.0,
  distribution: str = "beta",
  box: str = "centred",
  label: str = "pixels",
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Pastes a box of another image (Yun et al., 2019, arXiv:1905.04899).

  The box has the sides H sqrt(1 - lam) and W sqrt(1 - lam), rounded down, with
  lam ~ Beta(alpha, alpha). The paper uses alpha 1. The centre is uniform over
  the pixels, and the box is clipped to the image. The weight of the label is
  counted after clipping:

      lam = 1 - (box pixels inside the image) / (H W)

  Bounds on lambda apply to this number. With bounds, the box is therefore
  placed uniformly inside the image and not clipped, and lambda is
  `min + (max - min) * Beta(alpha, alpha)` up to whole pixels. It is within
  bounds that are at least 1 / W apart; it misses closer bounds by less than one
  column of the box.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0.
    min_lambda: lower bound on the share of the first image, in [0, 1].
    max_lambda: upper bound on the share of the first image.
    min_aspect: lower bound on the aspect ratio of the box, its width over
      height relative to that of the image; log-uniform. At 1 the box has the
      shape of the image.
    max_aspect: upper bound on the aspect ratio.
    distribution: of lambda, see `mixup`.
    box: how the box is drawn. `centred`: as above. Other libraries: `halves`,
      half a side, rounded down, on each side of the centre; `rounded_halves`,
      the same after the sides are rounded to the nearest pixel; `inside`, sides
      rounded down at a uniform place inside the image; `inside_real`, the same
      with real numbers, of which the pixels follow; `independent`, a lambda for
      each side, with half a height above the centre and half a width below it.
      None of these takes bounds.
    label: weight of the first label. `pixels`: as above. `unclipped`: from the
      area of the box before it is clipped and made of whole pixels, so label
      mass and pixel mass differ. `swapped`: 1 - lam, the wrong way round.
    probability: probability of mixing; otherwise the example or batch is
      returned as it is.
    per_example: draw for each example instead of once for the batch, which is
      the paper's way.
    partner: `any` or `other_class`; see `draw_partners`.
    group_size: partners come from groups of this many consecutive examples of
      the global batch; see `mix`.
    shard: this device's place in the global batch; None: this device has all
      of it.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: a setting is out of range, or an argument has the wrong rank or
      dtype.
  """
  return mix(
    key,
    images,
    labels,
    (
      CutMix(
        alpha,
        min_lambda,
        max_lambda,
        min_aspect,
        max_aspect,
        distribution=distribution,
        box=box,
        label=label,
      ),
    ),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class Cutout(Mixer):
  """The settings and draws of `cutout`, which documents them."""

  uses_partner: ClassVar[bool] = False
  size: float = 0.5
  fill: float = 0.5

  def __post_init__(self):
    check.within("size", self.size, 0, 1)
    check.within("fill", self.fill, 0, 1)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    rounded: Any = round if check.known(self.size) else jnp.round
    box_height, box_width = (
      whole(rounded(float32_if_traced(self.size) * x)) for x in (height, width)
    )
    drawn = clipped_box(key, box_height, box_width, height, width)
    return drawn._replace(lam=jnp.float32(1))

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    del extra
    return grey(self.fill, partners.dtype)


def cutout(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  size: float = 0.5,
  *,
  fill: float = 0.5,
  probability: float = 1.0,
  per_example: bool = True,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Fills a box with grey (DeVries and Taylor, 2017, arXiv:1708.04552).

  The box has the sides `size * H` and `size * W`. Its centre is uniform over
  the pixels, and the box is clipped to the image. Labels are not changed. The
  paper uses half the side on CIFAR-10, a quarter on CIFAR-100, and the mean of
  the data as the fill.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    size: side of the box over that of the image, in [0, 1].
    fill: grey value in [0, 1]; for integer images it is multiplied by 255.
    probability: probability of filling a box.
    per_example: draw for each example, which is the paper's way, instead of
      once for the batch.
    shard: this device's place in the global batch; None: this device has all
      of it.

  Returns:
    Images of the given shape and dtype, and the labels.

  Raises:
    ValueError: a setting is out of range, or an argument has the wrong rank or
      dtype.
  """
  return mix(
    key,
    images,
    labels,
    (Cutout(size, fill),),
    probability=probability,
    per_example=per_example,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class ResizeMix(Mixer):
  """The settings and draws of `resizemix`, which documents them."""

  min_scale: float = 0.1
  max_scale: float = 0.8

  def __post_init__(self):
    check.interval(
      "min_scale", self.min_scale, "max_scale", self.max_scale, 0, 1
    )

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    scale_key, place_key = jax.random.split(key)
    scale = draw.uniform(scale_key, self.min_scale, self.max_scale)
    box_height, box_width = (
      jnp.maximum(1, whole(jnp.round(scale * x))) for x in (height, width)
    )
    return inner_box(place_key, box_height, box_width, height, width)

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    return shrink_into(partners, extra, self.min_scale, self.max_scale)


def resizemix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  min_scale: float = 0.1,
  max_scale: float = 0.8,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Pastes another image, resized (Qin et al., 2020, arXiv:2012.11101).

  The partner is resized (bilinear, antialiased) to `scale` times the sides of
  the image and pasted at a uniform position inside the image. The paper uses
  scale ~ U(0.1, 0.8). The weight of the label is
  lam = 1 - (pasted pixels) / (H W).

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    min_scale: lower bound on the side of the pasted image over that of the
      image, in [0, 1].
    max_scale: upper bound on it.
    probability: probability of mixing; otherwise the example or batch is
      returned as it is.
    per_example: draw for each example instead of once for the batch.
    partner: `any` or `other_class`; see `draw_partners`.
    group_size: partners come from groups of this many consecutive examples of
      the global batch; see `mix`.
    shard: this device's place in the global batch; None: this device has all
      of it.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: a setting is out of range, or an argument has the wrong rank or
      dtype.
  """
  return mix(
    key,
    images,
    labels,
    (ResizeMix(min_scale, max_scale),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class FMix(Beta):
  """The settings and draws of `fmix`, which documents them."""

  decay_power: float = 3.0

  def __post_init__(self):
    super().__post_init__()
    check.above("decay_power", self.decay_power, 0)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam_key, spectrum_key = jax.random.split(key)
    count = self.draw_lambda(lam_key) * height * width
    frequency = jnp.hypot(
      jnp.fft.fftfreq(height, dtype=jnp.float32)[:, None],
      jnp.fft.rfftfreq(width, dtype=jnp.float32)[None],
    )
    scale = jnp.maximum(frequency, 1 / max(height, width))
    scale **= -float32_if_traced(self.decay_power)
    noise = jax.random.normal(spectrum_key, (*scale.shape, 2), jnp.float32)
    spectrum = jax.lax.complex(noise[..., 0] * scale, noise[..., 1] * scale)
    field = jnp.fft.irfft2(spectrum, (height, width))
    # Small integers that are summed down the columns are the fastest on CPUs.
    dtype = jnp.uint8 if height < 2**8 else jnp.int32

    # Bisection finds the threshold; a sort costs twenty times as much.
    def halve(_, bounds):
      low, high = bounds
      middle = (low + high) / 2
      column = jnp.sum(field >= middle, axis=0, dtype=dtype)
      enough = jnp.sum(column.astype(jnp.float32)) >= count
      return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    bounds = jnp.min(field), jnp.nextafter(jnp.max(field), jnp.inf)
    low, high = jax.lax.fori_loop(0, 24, halve, bounds)
    keep = field >= jnp.where(count < 0.5, high, low)
    return Drawn(keep[..., None], jnp.mean(keep, dtype=jnp.float32))


def fmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 1.0,
  *,
  decay_power: float = 3.0,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Pastes blobs of another image (Harris et al., 2020, arXiv:2002.12047).

  A field of Gaussian noise whose spectrum falls as frequency^-decay_power is
  thresholded so that `lam * H * W` pixels, within one, come from the first
  image; lam ~ Beta(alpha, alpha). The paper uses alpha 1 and decay power 3.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0.
    decay_power: exponent of the decay, above 0; a higher one gives smoother
      blobs.
    min_lambda: lower bound on the share of the first image; lambda is
      `min + (max - min) * Beta(alpha, alpha)`, to the nearest pixel.
    max_lambda: upper bound on the share of the first image.
    probability: probability of mixing; otherwise the example or batch is
      returned as it is.
    per_example: draw for each example instead of once for the batch.
    partner: `any` or `other_class`; see `draw_partners`.
    group_size: partners come from groups of this many consecutive examples of
      the global batch; see `mix`.
    shard: this device's place in the global batch; None: this device has all
      of it.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: a setting is out of range, or an argument has the wrong rank or
      dtype.
  """
  return mix(
    key,
    images,
    labels,
    (FMix(alpha, min_lambda, max_lambda, decay_power),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


MIXERS: dict[str, type[Mixer]] = {
  "mixup": Mixup,
  "cutmix": CutMix,
  "cutout": Cutout,
  "resizemix": ResizeMix,
  "fmix": FMix,
  "gridmix": GridMix,
  "patchmix": PatchMix,
  "jigsaw": Jigsaw,
  "mosaic": Mosaic,
  "saliencymix": SaliencyMix,
  "attentive_cutmix": AttentiveCutMix,
  "snapmix": SnapMix,
  "tokenmix": TokenMix,
  "puzzlemix": PuzzleMix,
  "manifold_mixup": ManifoldMixup,
  "patchup": PatchUp,
}
