"""The contract of all mixers: draws, blending and labels.

`images` are `[B, H, W, C]` of any real dtype, including uint8 in 0..255.
`labels` are probabilities `[B, classes]`, float. Both are returned with their
shapes and dtypes. Each example keeps a share of itself and takes the rest from
its partner, another example of the batch. The sum is computed in float32 and
needs finite pixels; integers are rounded:

    images = keep * images + (1 - keep) * images[partner]
    labels = lam * labels + (1 - lam) * labels[partner]

`keep` is in [0, 1] for each pixel, and `lam`, float32, is the mean of `keep` as
applied, so label mass equals pixel mass. A mixer with a `weigh` of its own may
mix more than two images, or look at them, and weigh labels by another rule,
which it documents. All functions can be jitted, vmapped and differentiated with
respect to images and labels. A setting is a number, which is checked before
tracing, or it is traced, such as an alpha that follows a schedule; the range of
a traced setting is not checked.

The layout is NHWC. A mixer cannot tell it from NCHW: there it would cut its
boxes out of rows and channels.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.dtypes import from_float32
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.partners import (
  MAY_RETURN,
  PARTNERS,
  Partners,
  Shard,
  partner_group_size,
)
from mixaug_jax.augment.remix import Remix, check_mixers

M = TypeVar("M", bound="Mixer")
# What the network shows of images: `(images, labels) -> [B, h, w]` by name.
Network = Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]


class Drawn(NamedTuple):
  """The draw of a mixer for one example, or once for a batch.

  Attributes:
    keep: weight of the first image at each pixel, bool or float32
      `[H, W, 1]`.
    lam: weight of the first label, float32 scalar.
    extra: further numbers that `Mixer.pixels` needs, a pytree of arrays.
  """

  keep: jax.Array
  lam: jax.Array
  extra: Any = ()


class Pair(NamedTuple):
  """The examples of a batch and their partners, for `Mixer.weigh`.

  Attributes:
    images: `[B, H, W, C]` of any dtype.
    partners: the same of the partners.
    maps: for each name in `Mixer.needs`, what the network shows of the
      examples and of their partners, two arrays float32 `[B, h, w]`.
  """

  images: jax.Array
  partners: jax.Array
  maps: Mapping[str, tuple[jax.Array, jax.Array]]


class Weights(NamedTuple):
  """The weights of pixels and labels, with a leading axis of size B or 1.

  Attributes:
    keep: as in `Drawn`, `[B, H, W, 1]`; the last axis may also be C.
    lam: weights of the own labels, float32 `[B]`.
    others: weights of the labels of each partner, float32 `[B, partners]`.
    pasted: the pixels to paste, `[B, H, W, C]`; None: those of `Mixer.pixels`.
  """

  keep: jax.Array
  lam: jax.Array
  others: jax.Array
  pasted: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Mixer(abc.ABC):
  """Base class of mixers.

  A mixer is a frozen dataclass. Its fields are its settings, which
  `__post_init__` checks unless they are traced. Outside `jit`, `mix` compiles a
  program for each value of the settings, if they can be hashed:

      @dataclasses.dataclass(frozen=True)
      class LeftMix(Mixer):
        share: float = 0.5  # Part of the width that the partner fills.

        def draw(self, key, height, width):
          keep = jnp.arange(width)[:, None] >= round(self.share * width)
          keep = jnp.broadcast_to(keep, (height, width, 1))
          return Drawn(keep, jnp.mean(keep, dtype=jnp.float32))

  Attributes:
    uses_partner: true if the pasted pixels come from the partner. If not, an
      example without a partner is changed as well, and images are not gathered
      from other devices.
    partners: number of partners of an example. The second is the partner of the
      first, and so on: in a group of more examples, they are all different.
    needs: names of what the mixer looks at in the network, see `mix`.
    between_stages: true if a train step applies the mixer to activations, at
      one of the first places between stages; their number is a setting
      `stages`.
    at_input: name of the mixer that acts at the input in its stead, if any.
    keeps_mass: true if the weights of the labels add up to 1.
  """

  uses_partner: ClassVar[bool] = True
  partners: ClassVar[int] = 1
  needs: ClassVar[tuple[str, ...]] = ()
  between_stages: ClassVar[bool] = False
  at_input: ClassVar[str] = ""
  keeps_mass: ClassVar[bool] = True

  def __init_subclass__(cls, **kwargs: Any):
    """Registers the settings as leaves of a pytree, because they may be traced.

    They are then arguments of a function that is mapped over a mesh. A text is
    a part of the tree instead of a leaf.
    """
    super().__init_subclass__(**kwargs)
    jax.tree_util.register_pytree_node(
      cls, _flattened, functools.partial(_restored, cls)
    )

  def for_batch(self, key: jax.Array) -> "Mixer":
    """Returns the mixer with what all examples of a batch share drawn.

    Args:
      key: the key of the draws of the batch, which is folded with positions.
    """
    del key
    return self

  @abc.abstractmethod
  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    """Draws the weights of the pixels and of the label for one image."""

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    """Returns the pixels to paste, by default those of the partner.

    Args:
      partners: `[B, H, W, C]` of any dtype; the examples themselves if
        `uses_partner` is false. With several partners, `[1 + partners, B, H, W,
        C]`: the examples themselves and then each partner.
      extra: the result of `draw` with a leading axis of size B, or of size 1 if
        the draw is for the whole batch.

    Returns:
      `[B, H, W, C]` of the dtype of `partners`, or a shape that broadcasts to
      it.
    """
    del extra
    return partners

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    """Returns the weights of pixels and labels, by default those of the draw.

    Args:
      drawn: the result of `draw` with a leading axis, as in `pixels`.
      pair: the images and what the network shows of them.
    """
    del pair
    return Weights(drawn.keep, drawn.lam, 1 - drawn.lam[:, None])


def _flattened(mixer: Mixer) -> tuple[tuple[Any, ...], Any]:
  """Returns the numbers of a mixer; and all names, with the texts by name."""
  settings = vars(mixer)
  texts = {k: x for k, x in settings.items() if isinstance(x, str)}
  numbers = tuple(x for k, x in settings.items() if k not in texts)
  return numbers, (tuple(settings), tuple(texts.items()))


def _restored(kind: type[M], structure: Any, numbers: Any) -> M:
  """Returns a mixer with settings that were checked before."""
  names, texts = structure[0], dict(structure[1])
  left = iter(numbers)
  mixer = object.__new__(kind)
  settings = {k: texts[k] if k in texts else next(left) for k in names}
  vars(mixer).update(settings)
  return mixer


@on_any_mesh
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
  remix: Remix | None = None,
  enabled: jax.Array | bool = True,
  group_size: int | None = None,
  shard: Shard | None = None,
  network: Network | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Applies one of several mixers, drawn by weight.

      mix(key, images, labels, [CutMix(), Mixup(alpha=0.2)], [0.7, 0.3])

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    mixers: the mixers with their settings, such as `CutMix(alpha=0.5)`.
    weights: relative frequency of each mixer, not negative; None: equal.
    probability: probability of mixing; otherwise the example or batch is
      returned as it is.
    per_example: draw mixer, lambda and position for each example, which costs
      the mask of every mixer for every example, instead of once for the batch,
      which costs only the mixer that is drawn.
    partner: `any`, `other_class`, `flip`, `roll`, `shuffle` or `replacement`;
      see `draw_partners`.
    remix: gives a rare class the whole label of a pair, see `Remix`. The class
      of an example is that of its largest label. Each mixer with a partner must
      have one, and label weights that add up to 1.
    enabled: bool, or a traced scalar; False returns the batch unchanged.
    group_size: partners are drawn among that many consecutive examples of the
      global batch; None: the smallest divisor of the batch that is at least 32,
      or the whole batch. A multiple or a divisor of a device's share keeps the
      images of a group on the fewest devices.
    shard: this device's place in the global batch, inside `pmap` and
      `shard_map`; None: `images` is the global batch, on one device or sharded
      over a mesh.
    network: what mixers may need of the network: functions `(images, labels) ->
      [B, h, w]`, such as `{"attention": function}`. Only those in the `needs`
      of a mixer are called, once for the batch.

  Returns:
    Images and labels of the given shapes and dtypes.

  Raises:
    ValueError: a setting is out of range, the group does not divide the batch,
      an argument has the wrong rank or dtype, or `network` lacks a need.
  """
  if not isinstance(mixers, Sequence):
    raise ValueError(f"mixers must be a sequence of mixers, got {mixers!r}")
  mixers = tuple(_concrete(mixer) for mixer in mixers)
  weights = None if weights is None else tuple(map(_python_number, weights))
  probability = _python_number(probability)
  check_settings(mixers, weights, probability, partner)
  check.key(key)
  check.batch(images)
  check.labels(labels, len(images))
  if remix is not None:
    check_mixers(mixers)
    remix.check(labels.shape[1])
  group = partner_group_size(
    len(images) * (1 if shard is None else shard.count), group_size
  )
  settings = (mixers, weights, probability, per_example, partner, group)
  if jnp.ndim(enabled):
    raise ValueError(
      f"enabled must be a scalar, got shape {jnp.shape(enabled)}"
    )
  enabled = jnp.asarray(enabled).astype(bool)
  maps = _seen(mixers, images, labels, network or {})
  if shard is None and _is_hashable(settings):
    return _jitted(key, images, labels, enabled, maps, remix, settings)
  return _mixed(
    key, images, labels, enabled, maps, remix, settings, shard or Shard()
  )


def _seen(mixers, images, labels, network) -> dict[str, jax.Array]:
  """Returns the maps that the mixers need, float32 `[B, h, w]`."""
  maps = {}
  for mixer in mixers:
    for name in mixer.needs:
      if name not in network:
        raise ValueError(
          f"{type(mixer).__name__} looks at the network; pass "
          f'network={{"{name}": function}}'
        )
      if name not in maps:
        seen = jax.lax.stop_gradient(network[name](images, labels))
        maps[name] = seen.astype(jnp.float32)
  return maps


def _python_number(x: Any) -> Any:
  """Returns the Python number of a scalar array, unless it is traced."""
  is_array = isinstance(x, (jax.Array, np.ndarray, np.generic))
  is_known = is_array and jnp.ndim(x) == 0 and check.known(x)
  return x.item() if is_known else x


def _concrete(mixer: Any) -> Any:
  """Replaces scalar arrays by numbers, so that the mixer can be hashed."""
  if not isinstance(mixer, Mixer):
    raise ValueError(f"mixers must be instances of Mixer, got {mixer!r}")
  return jax.tree.map(_python_number, mixer)


def _is_hashable(settings: Any) -> bool:
  """Returns whether no setting is traced or an array."""
  try:
    hash(settings)
  except TypeError:
    return False
  return True


def check_settings(
  mixers: Sequence[Mixer],
  weights: Sequence[float] | None,
  probability: float,
  partner: str,
) -> None:
  """Raises ValueError if `mix` does not accept the settings."""
  if not mixers:
    raise ValueError("mixers must hold at least one mixer")
  if weights is not None:
    if len(weights) != len(mixers):
      raise ValueError(
        f"weights has {len(weights)} numbers for {len(mixers)} mixers"
      )
    if check.known(*weights) and not (
      min(weights) >= 0 and 0 < sum(weights) < math.inf
    ):
      raise ValueError(
        f"weights must not be negative or all zero, got {list(weights)}"
      )
  check.within("probability", probability, 0, 1)
  check.choice("partner", partner, PARTNERS)
  several = [type(x).__name__ for x in mixers if x.partners > 1]
  if several and partner in MAY_RETURN:
    raise ValueError(
      f"partner={partner} may lead back to the example, and {several[0]} needs "
      "several partners; use any, other_class or roll"
    )


def _mixed(key, images, labels, enabled, maps, remix, settings, shard):
  mixers, weights, probability, per_example, partner, group = settings
  local, height, width, _ = images.shape
  partner_key, draw_key = jax.random.split(key)
  classes = None
  if partner == "other_class":
    classes = jnp.argmax(labels, axis=1).astype(jnp.int32)
  partners = Partners(partner_key, local, shard, group, classes, partner)
  mixers = tuple(mixer.for_batch(draw_key) for mixer in mixers)

  def draw_one(key):
    coin_key, choice_key, mixer_key = jax.random.split(key, 3)
    coin = draw.coin(coin_key, probability)
    choice = _choose(choice_key, len(mixers), weights)
    drawn = _draw(mixer_key, choice, mixers, height, width)
    return coin & enabled, choice, drawn

  if per_example:
    positions = shard.index * local + jnp.arange(local, dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(draw_key, positions)
    coin, choice, drawn = jax.vmap(draw_one)(keys)
  else:
    coin, choice, drawn = jax.tree.map(lambda x: x[None], draw_one(draw_key))
  uses_partner = jnp.array([mixer.uses_partner for mixer in mixers])
  active = coin & (partners.found | ~uses_partner[choice])
  count = max(mixer.partners for mixer in mixers)
  others = [images]
  if any(mixer.uses_partner for mixer in mixers):
    others = partners.chain(images, count)
  pair = Pair(
    images, others[0], {name: (x, partners.of(x)) for name, x in maps.items()}
  )
  pasted = _pasted(images, others, choice, drawn.extra, mixers)
  weights = _weights(drawn, choice, mixers, pair, pasted)
  pasted = weights.pasted
  images = _blend(images, pasted, weights.keep, active[:, None, None, None])
  active = active[:, None]
  lam = jnp.where(active, weights.lam[:, None], 1)
  rest = jnp.where(active, weights.others, 0)
  if remix is not None:
    classes = jnp.argmax(labels, axis=1).astype(jnp.int32)
    others = partners.of(classes)
    lam = remix.lam(lam[:, 0], classes, others)[:, None]
    rest = jnp.pad(1 - lam, ((0, 0), (0, count - 1)))
  return images, _blend_labels(labels, partners.chain(labels, count), lam, rest)


def _weights(drawn, choice, mixers, pair, pasted) -> Weights:
  """Returns the weights of the drawn mixer, with all partners' labels."""
  found = Weights(drawn.keep, drawn.lam, 1 - drawn.lam[:, None], pasted)
  count = max(mixer.partners for mixer in mixers)
  for number, mixer in enumerate(mixers):
    if type(mixer).weigh is Mixer.weigh:
      continue
    own = mixer.weigh(drawn._replace(extra=drawn.extra[number]), pair)
    if own.pasted is None:
      own = own._replace(pasted=found.pasted)
    if len(mixers) == 1:
      return own
    chosen = choice == number
    found = jax.tree.map(
      lambda new, old, chosen=chosen: jnp.where(
        jnp.expand_dims(chosen, range(1, new.ndim)), new, old
      ),
      _alike(own, count),
      _alike(found, count),
    )
  return found


def _alike(weights, count) -> Weights:
  """Returns the weights with `keep` in float32 and for `count` partners."""
  missing = count - weights.others.shape[1]
  others = jnp.pad(weights.others, ((0, 0), (0, missing)))
  keep = weights.keep.astype(jnp.float32)
  return weights._replace(keep=keep, others=others)


def _blend_labels(labels, others, lam, rest):
  """Returns `lam * labels` and the rest, `[B, partners]`, of the others."""
  dtype = wide(labels.dtype)
  mixed = lam.astype(dtype) * labels.astype(dtype)
  for number, other in enumerate(others):
    mixed += rest[:, number, None].astype(dtype) * other.astype(dtype)
  return mixed.astype(labels.dtype)


def wide(dtype):
  """Returns the dtype in which values of `dtype` are blended."""
  return jnp.float64 if dtype == jnp.float64 else jnp.float32


_jitted = jax.jit(
  functools.partial(_mixed, shard=Shard()), static_argnames="settings"
)


def _choose(key, count, weights):
  """Returns the number of the mixer to draw, int32 scalar."""
  if count == 1:
    return jnp.int32(0)
  shares = jnp.array(weights or [1] * count, jnp.float32)
  choice = jax.random.choice(key, count, p=shares / jnp.sum(shares))
  return choice.astype(jnp.int32)


def _draw(key, choice, mixers, height, width) -> Drawn:
  """Lets one mixer draw; `extra` is a list with zeros for the other mixers."""
  draws = [lambda key, m=m: m.draw(key, height, width) for m in mixers]
  shapes = [jax.eval_shape(draw, key) for draw in draws]
  for mixer, shape in zip(mixers, shapes, strict=True):
    got = [jnp.shape(x) for x in (shape.keep, shape.lam)]
    if got != [(height, width, 1), ()]:
      raise ValueError(
        f"{type(mixer).__name__}.draw must return keep [{height}, {width}, 1] "
        f"and a scalar lam, got shapes {got[0]} and {got[1]}"
      )
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
      return Drawn(keep.astype(dtype), jnp.asarray(lam, jnp.float32), extras)

    return draw

  return jax.lax.switch(choice, [branch(n) for n in range(len(mixers))], key)


def _pasted(images, others, choice, extras, mixers):
  """Returns the pixels that the drawn mixer pastes."""

  def sources(mixer):
    if not mixer.uses_partner:
      return images
    if mixer.partners == 1:
      return others[0]
    return jnp.stack([images, *others[: mixer.partners]])

  makers = [
    functools.partial(mixer.pixels, sources(mixer), extra)
    for mixer, extra in zip(mixers, extras, strict=True)
  ]
  if len(mixers) == 1:
    return makers[0]()
  whole = [jax.eval_shape(make).shape == images.shape for make in makers]
  pasted = others[0]
  # Single colours come last, because XLA fuses their selection with the blend.
  for number in sorted(range(len(mixers)), key=lambda n: not whole[n]):
    if type(mixers[number]).pixels is Mixer.pixels:
      continue
    drawn = choice == number
    if whole[number] and len(drawn) == 1:
      # A draw for the whole batch computes only the pixels that it needs.
      pasted = jax.lax.cond(drawn[0], makers[number], lambda x=pasted: x)
    else:
      drawn = drawn[:, None, None, None]
      pasted = jnp.where(drawn, makers[number](), pasted)
  return pasted


def _blend(images, others, keep, active):
  dtype = images.dtype
  if keep.dtype == bool and not jnp.issubdtype(dtype, jnp.floating):
    return jnp.where(keep | ~active, images, others)
  # For finite floats, arithmetic with a mask of zeros and ones is as exact as a
  # selection and a third faster on CPUs, where XLA compiles that to branches.
  blended = wide(dtype)
  keep = jnp.where(active, keep.astype(blended), 1)
  blend = keep * images.astype(blended) + (1 - keep) * others.astype(blended)
  return from_float32(blend, dtype)
