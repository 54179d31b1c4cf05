"""CutMix, Mixup and their relatives: two images, one soft label.

Every mixer follows one contract. `images` are `[B, H, W, C]` of any dtype,
uint8 in 0..255 too; `labels` are probabilities `[B, classes]`, float; both come
back with their shapes and dtypes. Each example keeps a share of itself and
takes the rest from its partner, another example of the batch:

    images = keep * images + (1 - keep) * images[partner]
    labels = lam * labels + (1 - lam) * labels[partner]

with `keep` in [0, 1] for every pixel and `lam`, float32, the mean of `keep` as
it was applied: label mass equals pixel mass. All functions jit, vmap and
differentiate with respect to images and labels; settings are plain numbers,
checked before tracing.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.resample import placement_weights, resample

_PARTNER, _RESIZED, _BLANK = range(3)


class Shard(NamedTuple):
  """Where this device's examples stand in the global batch.

  Mixers draw for the global batch and partners may live on other devices, so
  that the result does not depend on the number of devices.

  Attributes:
    count: the number of devices that share the batch equally.
    index: this one's place among them.
    gather: `[b, ...]` of every device to `[count * b, ...]`, in order; inside
      `pmap`, `jax.lax.all_gather` with `tiled=True`.
  """

  count: int = 1
  index: jax.Array | int = 0
  gather: Callable[[jax.Array], jax.Array] = lambda x: x


class _Draw(NamedTuple):
  """What a mixer draws for one example, or once for a batch.

  Attributes:
    keep: the first image's weight of each pixel, bool or float32 `[H, W, 1]`.
    lam: the first label's weight, float32 scalar.
    source: where the other pixels come from, int32 scalar.
    box: top, height, left, width of the mask, int32; for `_RESIZED`.
  """

  keep: jax.Array
  lam: jax.Array
  source: jax.Array
  box: jax.Array


@dataclasses.dataclass(frozen=True)
class _Beta:
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

  binary: ClassVar[bool] = False
  alpha: float = 0.2

  def draw(self, key: jax.Array, height: int, width: int) -> _Draw:
    lam = self.draw_lambda(key)
    keep = jnp.broadcast_to(lam, (height, width, 1))
    return _Draw(keep, lam, jnp.int32(_PARTNER), jnp.zeros(4, jnp.int32))


@dataclasses.dataclass(frozen=True)
class CutMix(_Beta):
  """What `cutmix` draws; see there."""

  binary: ClassVar[bool] = True
  min_aspect: float = 1.0
  max_aspect: float = 1.0

  def __post_init__(self):
    super().__post_init__()
    check.above("min_aspect", self.min_aspect, 0)
    check.interval(
      "min_aspect", self.min_aspect, "max_aspect", self.max_aspect, 0, math.inf
    )

  def draw(self, key: jax.Array, height: int, width: int) -> _Draw:
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
      return _box_draw(_clipped_box(place_key, *sides, height, width), _PARTNER)
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
    box = _inner_box(place_key, box_height, box_width, height, width)
    return _box_draw(box, _PARTNER)


@dataclasses.dataclass(frozen=True)
class Cutout:
  """What `cutout` draws; see there."""

  binary: ClassVar[bool] = True
  size: float = 0.5
  fill: float = 0.5

  def __post_init__(self):
    check.within("size", self.size, 0, 1)
    check.within("fill", self.fill, 0, 1)

  def draw(self, key: jax.Array, height: int, width: int) -> _Draw:
    sides = [jnp.int32(round(self.size * x)) for x in (height, width)]
    drawn = _box_draw(_clipped_box(key, *sides, height, width), _BLANK)
    return drawn._replace(lam=jnp.float32(1))


@dataclasses.dataclass(frozen=True)
class ResizeMix:
  """What `resizemix` draws; see there."""

  binary: ClassVar[bool] = True
  min_scale: float = 0.1
  max_scale: float = 0.8

  def __post_init__(self):
    check.interval(
      "min_scale", self.min_scale, "max_scale", self.max_scale, 0, 1
    )

  def draw(self, key: jax.Array, height: int, width: int) -> _Draw:
    scale_key, place_key = jax.random.split(key)
    scale = jax.random.uniform(
      scale_key, minval=self.min_scale, maxval=self.max_scale
    )
    sides = [
      jnp.maximum(1, jnp.round(scale * x).astype(jnp.int32))
      for x in (height, width)
    ]
    return _box_draw(_inner_box(place_key, *sides, height, width), _RESIZED)


@dataclasses.dataclass(frozen=True)
class FMix(_Beta):
  """What `fmix` draws; see there."""

  binary: ClassVar[bool] = True
  decay_power: float = 3.0

  def __post_init__(self):
    super().__post_init__()
    check.above("decay_power", self.decay_power, 0)

  def draw(self, key: jax.Array, height: int, width: int) -> _Draw:
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
    return _Draw(
      keep[..., None],
      jnp.mean(keep, dtype=jnp.float32),
      jnp.int32(_PARTNER),
      jnp.zeros(4, jnp.int32),
    )


Mixer = Mixup | CutMix | Cutout | ResizeMix | FMix


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


def mix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  mixers: Sequence[Mixer],
  weights: Sequence[float] | None = None,
  *,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  enabled: jax.Array | bool = True,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """One of several mixers, drawn by weight.

      mix(key, images, labels, [CutMix(), Mixup(alpha=0.2)], [0.7, 0.3])

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any dtype.
    labels: probabilities `[B, classes]`, float.
    mixers: `Mixup`, `CutMix`, `Cutout`, `ResizeMix`, `FMix` with settings.
    weights: of each mixer, not negative, scaled to sum to one; None: equal.
    probability: of mixing at all.
    per_example: each example draws mixer, lambda and place for itself, which
      costs the mask of every mixer for every example; else once for the
      batch, at the cost of the one that is drawn.
    partner: `any` or `other_class`, see `draw_partners`.
    enabled: bool, or a traced scalar; False gives the batch exactly as it was.
    shard: this device's place in the global batch; None: it is all here.

  Returns:
    Images and labels of the given shapes and dtypes.

  Raises:
    ValueError: settings out of range, or arguments of the wrong rank or dtype.
  """
  mixers = tuple(mixers)
  weights = None if weights is None else tuple(weights)
  check_settings(mixers, weights, probability, partner)
  check.batch(images)
  check.labels(labels, len(images))
  settings = (mixers, weights, probability, per_example, partner)
  if shard is None:
    return _jitted(key, images, labels, enabled, settings)
  return _mixed(key, images, labels, enabled, settings, shard)


def check_settings(
  mixers: Sequence[Mixer],
  weights: Sequence[float] | None,
  probability: float,
  partner: str,
) -> None:
  """Raises ValueError at settings that `mix` cannot work with."""
  if not mixers:
    raise ValueError("mixers is empty; name at least one")
  if weights is not None:
    if len(weights) != len(mixers):
      raise ValueError(
        f"weights has {len(weights)} numbers for {len(mixers)} mixers"
      )
    if not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
      raise ValueError(
        f"weights must not be negative nor all zero, got {list(weights)}"
      )
  check.within("probability", probability, 0, 1)
  check.choice("partner", partner, ("any", "other_class"))


def draw_partners(
  key: jax.Array, batch: int, classes: jax.Array | None = None
) -> jax.Array:
  """Pairs every example with another one.

  Without `classes` the pairing is one random cycle through the whole batch:
  no example is its own partner, each is a partner once. With `classes` it
  is, again once each, one of another class, as long as no class fills more
  than half of the batch; where one does, its examples for which none is left
  are paired with themselves, and mixers leave them as they are.

  Args:
    key: a PRNG key.
    batch: B.
    classes: int32 `[B]`.

  Returns:
    The partner of each example, int32 `[B]`.
  """
  place = jnp.arange(batch, dtype=jnp.int32)
  if classes is None:
    order = jax.random.permutation(key, place)
    return place.at[order].set(jnp.roll(order, -1))
  # Side by side by class, in a random order of classes and within each. A
  # shift by at least the largest class leaves every class.
  order_key, class_key, shift_key = jax.random.split(key, 3)
  order = jax.random.permutation(order_key, place)
  first = jax.random.permutation(class_key, place)
  same = classes[:, None] == classes
  group = jnp.min(jnp.where(same, first, batch), axis=1)
  order = order[jnp.argsort(group[order], stable=True)]
  largest = jnp.max(jnp.sum(same, axis=1))
  shift = jax.random.randint(
    shift_key, (), largest, jnp.maximum(largest, batch - largest) + 1
  )
  shift = jnp.where(2 * largest > batch, batch // 2, shift)
  partners = place.at[order].set(order[(place + shift) % batch])
  return jnp.where(classes[partners] == classes, place, partners)


def _mixed(key, images, labels, enabled, settings, shard):
  mixers, weights, probability, per_example, partner = settings
  local, height, width, _ = images.shape
  batch = shard.count * local
  partner_key, draw_key = jax.random.split(key)
  positions = shard.index * local + jnp.arange(local, dtype=jnp.int32)
  all_labels = shard.gather(labels)
  classes = None if partner == "any" else jnp.argmax(all_labels, axis=1)
  partners = draw_partners(partner_key, batch, classes)[positions]

  def draw(key):
    coin_key, choice_key, mixer_key = jax.random.split(key, 3)
    coin = jax.random.bernoulli(coin_key, probability)
    drawn = _choose(choice_key, mixer_key, mixers, weights, height, width)
    return coin & enabled, drawn

  if per_example:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(draw_key, positions)
    coin, drawn = jax.vmap(draw)(keys)
  else:
    coin, drawn = jax.tree.map(lambda x: x[None], draw(draw_key))
  active = coin & ((partners != positions) | (drawn.source == _BLANK))
  if all(isinstance(mixer, Cutout) for mixer in mixers):
    others = jnp.broadcast_to(_blank(mixers[0], images.dtype), images.shape)
  else:
    others = _others(shard.gather(images)[partners], drawn, mixers)
  images = _blend(images, others, drawn.keep, active[:, None, None, None])
  lam = jnp.where(active, drawn.lam, 1)[:, None]
  mixed_labels = lam * labels + (1 - lam) * all_labels[partners]
  return images, mixed_labels.astype(labels.dtype)


_jitted = jax.jit(
  functools.partial(_mixed, shard=Shard()), static_argnames="settings"
)


def _choose(choice_key, mixer_key, mixers, weights, height, width) -> _Draw:
  if len(mixers) == 1:
    return mixers[0].draw(mixer_key, height, width)
  binary = all(mixer.binary for mixer in mixers)

  def branch(mixer):
    def draw(key):
      drawn = mixer.draw(key, height, width)
      return drawn._replace(
        keep=drawn.keep.astype(bool if binary else jnp.float32)
      )

    return draw

  shares = jnp.ones(len(mixers)) if weights is None else jnp.array(weights)
  choice = jax.random.choice(
    choice_key, len(mixers), p=shares / jnp.sum(shares)
  )
  return jax.lax.switch(choice, [branch(mixer) for mixer in mixers], mixer_key)


def _others(partners, drawn, mixers):
  """The pixels to paste: the partner, as the drawn mixer wants it."""
  if any(isinstance(mixer, ResizeMix) for mixer in mixers):
    resize = functools.partial(_resized, partners, drawn.box)
    resized = drawn.source == _RESIZED
    if len(resized) == 1:
      partners = jax.lax.cond(resized[0], resize, lambda: partners)
    else:
      partners = jnp.where(resized[:, None, None, None], resize(), partners)
  for mixer in mixers:
    if isinstance(mixer, Cutout):
      blank = (drawn.source == _BLANK)[:, None, None, None]
      partners = jnp.where(blank, _blank(mixer, partners.dtype), partners)
  return partners


def _resized(images, box):
  """`images` made small, each in its `box`, or all in one."""
  height, width = images.shape[1:3]
  rows = placement_weights(height, box[:, 0], box[:, 1])
  columns = placement_weights(width, box[:, 2], box[:, 3])
  return resample(images, rows, columns)


def _blank(mixer, dtype):
  scale = 255 if jnp.issubdtype(dtype, jnp.integer) else 1
  return jnp.asarray(mixer.fill * scale, jnp.float32).astype(dtype)


def _blend(images, others, keep, active):
  dtype = images.dtype
  integer = jnp.issubdtype(dtype, jnp.integer)
  if integer and keep.dtype == bool:
    return jnp.where(keep | ~active, images, others)
  # Floats by arithmetic, a mask of zeros and ones too: it is as exact, and on
  # CPUs a third faster than a selection, which XLA compiles to branches.
  keep = jnp.where(active, keep.astype(jnp.float32), 1)
  blend = keep * images.astype(jnp.float32)
  blend += (1 - keep) * others.astype(jnp.float32)
  return (jnp.round(blend) if integer else blend).astype(dtype)


def _clipped_box(key, box_height, box_width, height, width):
  """Centred on a pixel; what sticks out is cut off."""
  y_key, x_key = jax.random.split(key)

  def span(key, side, whole):
    start = jax.random.randint(key, (), 0, whole) - side // 2
    end = jnp.minimum(start + side, whole)
    start = jnp.maximum(start, 0)
    return start, end - start

  vertical = span(y_key, box_height, height)
  horizontal = span(x_key, box_width, width)
  return (*vertical, *horizontal), height, width


def _inner_box(key, box_height, box_width, height, width):
  """Uniform among the places where nothing sticks out."""
  y_key, x_key = jax.random.split(key)
  top = jax.random.randint(y_key, (), 0, height - box_height + 1)
  left = jax.random.randint(x_key, (), 0, width - box_width + 1)
  return (top, box_height, left, box_width), height, width


def _box_draw(box_in_image, source) -> _Draw:
  (top, box_height, left, box_width), height, width = box_in_image
  y, x = jnp.arange(height)[:, None], jnp.arange(width)
  inside = (y >= top) & (y < top + box_height)
  inside &= (x >= left) & (x < left + box_width)
  # Pixels, not the lambda that was drawn: clipping and rounding changed it.
  pixels = (box_height * box_width).astype(jnp.float32)
  return _Draw(
    ~inside[..., None],
    1 - pixels / (height * width),
    jnp.int32(source),
    jnp.stack([top, box_height, left, box_width]).astype(jnp.int32),
  )
