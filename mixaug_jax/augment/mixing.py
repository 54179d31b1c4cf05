"""The contract of CutMix, Mixup and their relatives: two images, one label.

Every mixer follows it. `images` are `[B, H, W, C]` of any dtype, uint8 in
0..255 too; `labels` are probabilities `[B, classes]`, float; both come back
with their shapes and dtypes. Each example keeps a share of itself and takes the
rest from its partner, another example of the batch:

    images = keep * images + (1 - keep) * images[partner]
    labels = lam * labels + (1 - lam) * labels[partner]

with `keep` in [0, 1] for every pixel and `lam`, float32, the mean of `keep` as
it was applied: label mass equals pixel mass. All functions jit, vmap and
differentiate with respect to images and labels; settings are plain numbers,
checked before tracing.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check


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


class Drawn(NamedTuple):
  """The draw of a mixer for one example, or once for a batch.

  Attributes:
    keep: the first image's weight of each pixel, bool or float32 `[H, W, 1]`.
    lam: the first label's weight, float32 scalar.
    extra: numbers that `Mixer.pixels` needs as well, a pytree of arrays.
  """

  keep: jax.Array
  lam: jax.Array
  extra: Any = ()


@dataclasses.dataclass(frozen=True)
class Mixer(abc.ABC):
  """A way to mix an example with its partner.

  A mixer is a frozen dataclass; its fields are its settings, plain numbers
  that `__post_init__` checks:

      @dataclasses.dataclass(frozen=True)
      class LeftMix(Mixer):
        share: float = 0.5  # Of the width that comes from the partner.

        def draw(self, key, height, width):
          keep = jnp.arange(width)[:, None] >= round(self.share * width)
          keep = jnp.broadcast_to(keep, (height, width, 1))
          return Drawn(keep, jnp.mean(keep, dtype=jnp.float32))

  Attributes:
    uses_partner: whether the pasted pixels come from the partner. Where they
      do not, an example without a partner is mixed as well, and partners are
      not gathered.
  """

  uses_partner: ClassVar[bool] = True

  @abc.abstractmethod
  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    """Draws the weights of an image of `height` times `width` pixels."""

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    """Returns the pixels to paste, by default those of the partner.

    Args:
      partners: `[B, H, W, C]`, any dtype; the examples themselves where
        `uses_partner` is False.
      extra: that of `draw` with one more axis in front, B long if each example
        drew for itself and else 1.

    Returns:
      `[B, H, W, C]` of the partners' dtype, or what broadcasts to it.
    """
    del extra
    return partners


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
    mixers: such as `CutMix(alpha=0.5)`.
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
  for mixer in mixers:
    if not isinstance(mixer, Mixer):
      raise ValueError(f"mixers must be instances of Mixer, got {mixer!r}")
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
    choice = _choose(choice_key, len(mixers), weights)
    drawn = _draw(mixer_key, choice, mixers, height, width)
    return coin & enabled, choice, drawn

  if per_example:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(draw_key, positions)
    coin, choice, drawn = jax.vmap(draw)(keys)
  else:
    coin, choice, drawn = jax.tree.map(lambda x: x[None], draw(draw_key))
  uses_partner = jnp.array([mixer.uses_partner for mixer in mixers])
  active = coin & ((partners != positions) | ~uses_partner[choice])
  others = images
  if any(mixer.uses_partner for mixer in mixers):
    others = shard.gather(images)[partners]
  others = _pasted(images, others, choice, drawn.extra, mixers)
  images = _blend(images, others, drawn.keep, active[:, None, None, None])
  lam = jnp.where(active, drawn.lam, 1)[:, None]
  mixed_labels = lam * labels + (1 - lam) * all_labels[partners]
  return images, mixed_labels.astype(labels.dtype)


_jitted = jax.jit(
  functools.partial(_mixed, shard=Shard()), static_argnames="settings"
)


def _choose(key, count, weights):
  """Returns the number of the mixer to draw, int32 scalar."""
  if count == 1:
    return jnp.int32(0)
  shares = jnp.ones(count) if weights is None else jnp.array(weights)
  return jax.random.choice(key, count, p=shares / jnp.sum(shares))


def _draw(key, choice, mixers, height, width) -> Drawn:
  """The draw of one mixer; `extra` is a list, zeros for the other mixers."""
  draws = [lambda key, m=m: m.draw(key, height, width) for m in mixers]
  shapes = [jax.eval_shape(draw, key) for draw in draws]
  dtype = jnp.float32
  if all(shape.keep.dtype == bool for shape in shapes):
    dtype = bool
  zeros = [
    jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape.extra)
    for shape in shapes
  ]

  def branch(number):
    def draw(key):
      keep, lam, extra = draws[number](key)
      extras = [*zeros[:number], extra, *zeros[number + 1 :]]
      return Drawn(keep.astype(dtype), lam, extras)

    return draw

  return jax.lax.switch(choice, [branch(n) for n in range(len(mixers))], key)


def _pasted(images, partners, choice, extras, mixers):
  """The pixels to paste, as the drawn mixer makes them."""
  makers = [
    functools.partial(
      mixer.pixels, partners if mixer.uses_partner else images, extra
    )
    for mixer, extra in zip(mixers, extras, strict=True)
  ]
  if len(mixers) == 1:
    return makers[0]()
  whole = [jax.eval_shape(make).shape == partners.shape for make in makers]
  pasted = partners
  # Colours last: XLA fuses their selection with the blend.
  for number in sorted(range(len(mixers)), key=lambda n: not whole[n]):
    if type(mixers[number]).pixels is Mixer.pixels:
      continue
    drawn = choice == number
    if whole[number] and len(drawn) == 1:
      # Once a batch: the pixels of a mixer that is not drawn cost nothing.
      pasted = jax.lax.cond(drawn[0], makers[number], lambda x=pasted: x)
    else:
      drawn = drawn[:, None, None, None]
      pasted = jnp.where(drawn, makers[number](), pasted)
  return pasted


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
