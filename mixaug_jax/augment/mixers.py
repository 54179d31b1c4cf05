"""The mixers: for each one a class that draws, and a function that mixes."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.mixing import Drawn, Mixer, Shard, mix
from mixaug_jax.augment.resample import placement_weights, resample


@dataclasses.dataclass(frozen=True)
class _Beta(Mixer):
  """Lambda ~ Beta(alpha, alpha), squeezed between the bounds.

  Attributes:
    alpha: above 0.
    min_lambda, max_lambda: bounds on the first image's share:
      `min + (max - min) * Beta(alpha, alpha)`.
  """

  alpha: float = 1.0
  min_lambda: float = 0.0
  max_lambda: float = 1.0

  def __post_init__(self):
    check.above("alpha", self.alpha, 0)
    check.interval(
      "min_lambda", self.min_lambda, "max_lambda", self.max_lambda, 0, 1
    )

  @property
  def bounded(self) -> bool:
    return (self.min_lambda, self.max_lambda) != (0, 1)

  def draw_lambda(self, key: jax.Array) -> jax.Array:
    if self.alpha == 1:
      lam = jax.random.uniform(key)
    else:
      lam = jax.random.beta(key, self.alpha, self.alpha)
    span = self.max_lambda - self.min_lambda
    return self.min_lambda + span * lam.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Mixup(_Beta):
  """What `mixup` draws; see there."""

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
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """A blend of two images (Zhang et al., 2018, arXiv:1710.09412).

      images = lam * images + (1 - lam) * images[partner]

  with lam ~ Beta(alpha, alpha), alpha 0.2 on ImageNet in the paper. Images of
  an integer dtype are blended in float32 and rounded.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: of Beta(alpha, alpha); above 0.
    min_lambda: lower bound on the share of the first image; lambda is
      `min + (max - min) * Beta(alpha, alpha)`.
    max_lambda: upper bound on it.
    probability: of mixing at all, else the example or batch stays as it is.
    per_example: draw lambda and whether to mix for each example; else, as in
      the paper, once for the batch.
    partner: `any` other example, each one another's exactly once; or
      `other_class`, see `draw_partners`.
    shard: this device's place in the global batch; None: it is all here.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one comes
    back unchanged.

  Raises:
    ValueError: settings out of range, or arguments of the wrong rank or dtype.
  """
  return mix(
    key,
    images,
    labels,
    (Mixup(alpha, min_lambda, max_lambda),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class CutMix(_Beta):
  """What `cutmix` draws; see there."""

  min_aspect: float = 1.0
  max_aspect: float = 1.0

  def __post_init__(self):
    super().__post_init__()
    check.above("min_aspect", self.min_aspect, 0)
    check.interval(
      "min_aspect", self.min_aspect, "max_aspect", self.max_aspect, 0, math.inf
    )

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam_key, aspect_key, place_key = jax.random.split(key, 3)
    lam = self.draw_lambda(lam_key)
    log_aspect = jax.random.uniform(
      aspect_key,
      minval=math.log(self.min_aspect),
      maxval=math.log(self.max_aspect),
    )
    root = jnp.exp(log_aspect / 2)
    side = jnp.sqrt(1 - lam)
    if not self.bounded:
      sides = (height * side / root, width * side * root)
      sides = [x.astype(jnp.int32) for x in sides]
      return _clipped_box(place_key, *sides, height, width)
    # Lambda must hold as drawn: the box lies inside, and its width makes up
    # for the rounding of its height.
    area = height * width
    least = math.ceil((1 - self.max_lambda) * area - 1e-6)
    most = math.floor((1 - self.min_lambda) * area + 1e-6)
    box_height = jnp.clip(
      jnp.round(height * side / root).astype(jnp.int32),
      max(1, -(-least // width)),
      height,
    )
    box_width = jnp.clip(
      jnp.round((1 - lam) * area / box_height).astype(jnp.int32),
      -(-least // box_height),
      jnp.minimum(width, most // box_height),
    )
    return _inner_box(place_key, box_height, box_width, height, width)


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
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """A box of another image (Yun et al., 2019, arXiv:1905.04899).

  The box has the sides H sqrt(1 - lam) and W sqrt(1 - lam), rounded down, with
  lam ~ Beta(alpha, alpha), alpha 1 in the paper; its centre is uniform over the
  pixels and what sticks out of the image is cut off. The labels are weighted
  by the pixels that remain:

      lam = 1 - (box pixels inside the image) / (H W)

  Bounds on lambda must hold for that number. So with bounds the box is placed
  uniformly inside the image, nothing is cut off, and lambda is
  `min + (max - min) * Beta(alpha, alpha)` up to whole pixels; it stays within
  the bounds where they are at least 1 / W apart, else it misses them by less
  than one column of the box.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: of Beta(alpha, alpha); above 0.
    min_lambda: lower bound on the share of the first image, in [0, 1].
    max_lambda: upper bound on it.
    min_aspect: lower bound on the box's width over height, relative to the
      image's (1: the box has the image's shape); drawn log-uniformly.
    max_aspect: upper bound on it.
    probability: of mixing at all, else the example or batch stays as it is.
    per_example: draw the box and whether to mix for each example; else, as in
      the paper, once for the batch.
    partner: `any` or `other_class`, see `draw_partners`.
    shard: this device's place in the global batch; None: it is all here.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one comes
    back unchanged.

  Raises:
    ValueError: settings out of range, or arguments of the wrong rank or dtype.
  """
  return mix(
    key,
    images,
    labels,
    (CutMix(alpha, min_lambda, max_lambda, min_aspect, max_aspect),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class Cutout(Mixer):
  """What `cutout` draws; see there."""

  uses_partner: ClassVar[bool] = False
  size: float = 0.5
  fill: float = 0.5

  def __post_init__(self):
    check.within("size", self.size, 0, 1)
    check.within("fill", self.fill, 0, 1)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    sides = [jnp.int32(round(self.size * x)) for x in (height, width)]
    drawn = _clipped_box(key, *sides, height, width)
    return drawn._replace(lam=jnp.float32(1))

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    del extra
    dtype = partners.dtype
    scale = 255 if jnp.issubdtype(dtype, jnp.integer) else 1
    return jnp.asarray(self.fill * scale, jnp.float32).astype(dtype)


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
  """A box of one colour (DeVries and Taylor, 2017, arXiv:1708.04552).

  The box has the sides `size * H` and `size * W`; its centre is uniform over
  the pixels and what sticks out is cut off. Labels stay as they are. The paper
  takes half the side on CIFAR-10, a quarter on CIFAR-100, and fills with the
  data's mean.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any dtype.
    labels: probabilities `[B, classes]`, float.
    size: the box's side over the image's, in [0, 1].
    fill: grey value in [0, 1]; of uint8 images times 255.
    probability: of cutting at all.
    per_example: draw for each example, as in the paper; else once for the
      batch.
    shard: this device's place in the global batch; None: it is all here.

  Returns:
    Images of the given shape and dtype, and the labels.

  Raises:
    ValueError: settings out of range, or arguments of the wrong rank or dtype.
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
  """What `resizemix` draws; see there."""

  min_scale: float = 0.1
  max_scale: float = 0.8

  def __post_init__(self):
    check.interval(
      "min_scale", self.min_scale, "max_scale", self.max_scale, 0, 1
    )

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    scale_key, place_key = jax.random.split(key)
    scale = jax.random.uniform(
      scale_key, minval=self.min_scale, maxval=self.max_scale
    )
    sides = [
      jnp.maximum(1, jnp.round(scale * x).astype(jnp.int32))
      for x in (height, width)
    ]
    return _inner_box(place_key, *sides, height, width)

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    top, box_height, left, box_width = jnp.moveaxis(extra, -1, 0)
    height, width = partners.shape[1:3]
    rows = placement_weights(height, top, box_height)
    columns = placement_weights(width, left, box_width)
    return resample(partners, rows, columns)


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
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Another image, made small (Qin et al., 2020, arXiv:2012.11101).

  The partner is resized (bilinear, antialiased) to `scale` times the image's
  sides, scale ~ U(0.1, 0.8) in the paper, and pasted at a uniform place inside
  the image; lam = 1 - (pasted pixels) / (H W).

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any dtype.
    labels: probabilities `[B, classes]`, float.
    min_scale: the least side of the pasted image, over the image's.
    max_scale: the greatest.
    probability: of mixing at all, else the example or batch stays as it is.
    per_example: draw for each example; else once for the batch.
    partner: `any` or `other_class`, see `draw_partners`.
    shard: this device's place in the global batch; None: it is all here.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one comes
    back unchanged.

  Raises:
    ValueError: settings out of range, or arguments of the wrong rank or dtype.
  """
  return mix(
    key,
    images,
    labels,
    (ResizeMix(min_scale, max_scale),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class FMix(_Beta):
  """What `fmix` draws; see there."""

  decay_power: float = 3.0

  def __post_init__(self):
    super().__post_init__()
    check.above("decay_power", self.decay_power, 0)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam_key, spectrum_key = jax.random.split(key)
    count = self.draw_lambda(lam_key) * height * width
    frequency = jnp.hypot(
      jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width)
    )
    scale = jnp.maximum(frequency, 1 / max(height, width)) ** -self.decay_power
    noise = jax.random.normal(spectrum_key, (*scale.shape, 2))
    spectrum = jax.lax.complex(noise[..., 0] * scale, noise[..., 1] * scale)
    field = jnp.fft.irfft2(spectrum, (height, width))

    # The level by bisection: a sort costs twenty times as much.
    def halve(_, bounds):
      low, high = bounds
      middle = (low + high) / 2
      enough = jnp.sum(field >= middle) >= count
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
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Blobs of another image (Harris et al., 2020, arXiv:2002.12047).

  A field of Gaussian noise whose spectrum falls as frequency^-decay_power is
  cut at the level that leaves `lam * H * W` pixels, up to one, to the first
  image; lam ~ Beta(alpha, alpha). The paper takes alpha 1 and decay power 3.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: of Beta(alpha, alpha); above 0.
    decay_power: above 0; the higher, the smoother the blobs.
    min_lambda: lower bound on the share of the first image; lambda is
      `min + (max - min) * Beta(alpha, alpha)`, to the nearest pixel.
    max_lambda: upper bound on it.
    probability: of mixing at all, else the example or batch stays as it is.
    per_example: draw for each example; else once for the batch.
    partner: `any` or `other_class`, see `draw_partners`.
    shard: this device's place in the global batch; None: it is all here.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one comes
    back unchanged.

  Raises:
    ValueError: settings out of range, or arguments of the wrong rank or dtype.
  """
  return mix(
    key,
    images,
    labels,
    (FMix(alpha, min_lambda, max_lambda, decay_power),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    shard=shard,
  )


def _clipped_box(key, box_height, box_width, height, width) -> Drawn:
  """Centred on a pixel; what sticks out is cut off."""
  y_key, x_key = jax.random.split(key)

  def span(key, side, whole):
    start = jax.random.randint(key, (), 0, whole) - side // 2
    end = jnp.minimum(start + side, whole)
    start = jnp.maximum(start, 0)
    return start, end - start

  top, box_height = span(y_key, box_height, height)
  left, box_width = span(x_key, box_width, width)
  return _box(top, box_height, left, box_width, height, width)


def _inner_box(key, box_height, box_width, height, width) -> Drawn:
  """Uniform among the places where nothing sticks out."""
  y_key, x_key = jax.random.split(key)
  top = jax.random.randint(y_key, (), 0, height - box_height + 1)
  left = jax.random.randint(x_key, (), 0, width - box_width + 1)
  return _box(top, box_height, left, box_width, height, width)


def _box(top, box_height, left, box_width, height, width) -> Drawn:
  """Keeps the pixels outside of a box; `extra` is the box, int32 `[4]`."""
  y, x = jnp.arange(height)[:, None], jnp.arange(width)
  inside = (y >= top) & (y < top + box_height)
  inside &= (x >= left) & (x < left + box_width)
  # Pixels, not the lambda that was drawn: clipping and rounding changed it.
  pixels = (box_height * box_width).astype(jnp.float32)
  box = jnp.stack([top, box_height, left, box_width]).astype(jnp.int32)
  return Drawn(~inside[..., None], 1 - pixels / (height * width), box)


MIXERS: dict[str, type[Mixer]] = {
  "mixup": Mixup,
  "cutmix": CutMix,
  "cutout": Cutout,
  "resizemix": ResizeMix,
  "fmix": FMix,
}
