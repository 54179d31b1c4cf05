"""Partners: with which example each example of the global batch is mixed.

Partners come from groups of consecutive positions in the global batch. The size
of a group does not depend on the number of devices, and neither do the
partners. Images travel no further than the devices that share a group.
"""

import math
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp

_LEAST_GROUP = 32
# How partners are drawn, see `draw_partners`.
PARTNERS = ("any", "other_class", "flip", "roll", "shuffle", "replacement")
# A chain of them may lead back to the example.
MAY_RETURN = ("flip", "shuffle", "replacement")


class Shard(NamedTuple):
  """The place of this device's examples in the global batch.

  `Shard.over("data")` makes it inside `pmap` and `shard_map`.

  Attributes:
    count: number of devices that share the batch equally.
    index: place of this device among them.
    gather: `(x, span) -> [span * b, ...]`, for `x` of `[b, ...]`: concatenates
      the arrays of every `span` consecutive devices on each of them, in order.
      `span` divides `count`.
  """

  # They hide methods of a tuple, which nobody calls.
  count: int = 1  # type: ignore[assignment]
  index: jax.Array | int = 0  # type: ignore[assignment]
  gather: Callable[[jax.Array, int], jax.Array] = lambda x, span: x

  @classmethod
  def over(cls, axis_name: Hashable) -> "Shard":
    """Returns the shard of this device inside `pmap` or `shard_map`.

    The key of a mixer must be the same on all devices:

        @functools.partial(jax.pmap, axis_name="data", in_axes=(None, 0, 0))
        def step(key, images, labels):
          shard = Shard.over("data")
          images, labels = cutmix(key, images, labels, shard=shard)

    Args:
      axis_name: name of the mapped axis over which the batch is split, or a
        tuple of names, the first of which varies slowest.
    """
    count = jax.lax.axis_size(axis_name)

    def gather(x: jax.Array, span: int) -> jax.Array:
      starts = range(0, count, span)
      blocks = [list(range(start, start + span)) for start in starts]
      return jax.lax.all_gather(
        x,
        axis_name,
        # jax.vmap knows only the case without groups.
        axis_index_groups=None if span == count else blocks,
        tiled=True,
      )

    return cls(count, jax.lax.axis_index(axis_name), gather)


def partner_group_size(batch: int, requested: int | None = None) -> int:
  """Returns the number of examples among which partners are drawn.

  Args:
    batch: examples of the global batch.
    requested: a divisor of `batch` above 1; None: the smallest divisor that is
      at least 32, or the whole batch. A batch of one is a group of one.

  Raises:
    ValueError: `requested` does not divide the batch, or the batch is empty.

  Example:
    >>> partner_group_size(100)
    50
  """
  if batch < 1:
    raise ValueError("a batch must hold at least one example")
  if requested is None:
    large = range(min(_LEAST_GROUP, batch), batch + 1)
    return next(size for size in large if batch % size == 0)
  if batch == 1:
    return 1
  sizes = [n for n in range(2, batch + 1) if batch % n == 0]
  if requested not in sizes:
    near = sorted(sorted(sizes, key=lambda n: abs(n - requested))[:2])
    raise ValueError(
      f"group_size must be a divisor above 1 of the batch of {batch}, such as "
      f"{' or '.join(map(str, near))}, got {requested}"
    )
  return int(requested)


def devices_in_group(local: int, group: int) -> int:
  """Returns the number of devices that exchange images.

  Their examples fill whole groups together.

  Args:
    local: examples on a device.
    group: examples in a group.

  Example:
    >>> devices_in_group(local=16, group=32)
    2
  """
  return math.lcm(local, group) // local


def draw_partners(
  key: jax.Array,
  batch: int,
  classes: jax.Array | None = None,
  partner: str = "any",
) -> jax.Array:
  """Pairs every example with another one.

  Without `classes`, the pairing is one random cycle through the batch: no
  example is its own partner, and each is a partner once. With `classes`, the
  partner is of another class, and each example is again a partner once, as long
  as no class fills more than half of the batch. Where one does, those of its
  examples that find no partner are paired with themselves, and mixers leave
  them as they are.

  Other libraries pair in other ways, which may pair an example with itself:

  - `flip`: example i with B - 1 - i; the middle one of an odd batch with
    itself.
  - `roll`: example i with i - 1, and the first with the last.
  - `shuffle`: by a uniform permutation. One example on average is its own
    partner, and 63 % of batches have such an example.
  - `replacement`: each with a uniform one, drawn independently. An example may
    be the partner of several or of none.

  Args:
    key: a PRNG key.
    batch: number of examples, B; for `mix`, those of one group.
    classes: class of each example, int32 `[B]`; goes with `any` alone.
    partner: `any`, `flip`, `roll`, `shuffle` or `replacement`.

  Returns:
    The index of each example's partner, int32 `[B]`.
  """
  place = jnp.arange(batch, dtype=jnp.int32)
  if partner == "flip":
    return batch - 1 - place
  if partner == "roll":
    return (place - 1) % batch
  if partner == "shuffle":
    return jax.random.permutation(key, place)
  if partner == "replacement":
    return jax.random.randint(key, (batch,), 0, batch, jnp.int32)
  if classes is None:
    order = jax.random.permutation(key, place)
    return place.at[order].set(jnp.roll(order, -1))
  # Sort by class, with the classes and the examples of a class in random order.
  # A shift by at least the size of the largest class leaves every class.
  order_key, class_key, shift_key = jax.random.split(key, 3)
  order = jax.random.permutation(order_key, place)
  first = jax.random.permutation(class_key, place)
  same = classes[:, None] == classes[None]
  group = jnp.min(jnp.where(same, first[None], batch), axis=1)
  order = order[jnp.argsort(group[order], stable=True)]
  largest = jnp.max(jnp.sum(same, axis=1, dtype=jnp.int32))
  most = jnp.maximum(largest, batch - largest) + 1
  shift = jax.random.randint(shift_key, (), largest, most, jnp.int32)
  shift = jnp.where(2 * largest > batch, batch // 2, shift)
  partners = place.at[order].set(order[(place + shift) % batch])
  return jnp.where(classes[partners] == classes, place, partners)


class Partners:
  """The partners of this device's examples."""

  def __init__(
    self,
    key: jax.Array,
    local: int,
    shard: Shard,
    group: int,
    classes: jax.Array | None,
    partner: str = "any",
  ):
    """Draws the partners of all groups of which this device has examples.

    Args:
      key: the same key on all devices.
      local: number of this device's examples, b.
      shard: the place of this device.
      group: number of examples in a group.
      classes: classes of this device's examples, int32 `[b]`, if partners must
        be of another class.
      partner: see `draw_partners`.
    """
    batch = shard.count * local
    self._shard = shard
    self._span = devices_in_group(local, group)
    groups = self._span * local // group
    if batch == group:
      keys = key[None]
    else:
      first = shard.index // self._span * groups
      numbers = first + jnp.arange(groups, dtype=jnp.int32)
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    if classes is not None:
      classes = self._block(classes).reshape(groups, group)
    draw = jax.vmap(
      lambda key, classes: draw_partners(key, group, classes, partner),
      (0, None if classes is None else 0),
    )
    self._in_group = draw(keys, classes)
    starts = group * jnp.arange(groups, dtype=jnp.int32)
    places = (self._in_group + starts[:, None]).reshape(-1)
    start = shard.index % self._span * local
    self._places = jax.lax.dynamic_slice(places, (start,), (local,))
    own = start + jnp.arange(local, dtype=jnp.int32)
    self.found = self._places != own  # bool [b]: the partner is another one.

  def _block(self, x: jax.Array) -> jax.Array:
    return self._shard.gather(x, self._span) if self._span > 1 else x

  def of(self, x: jax.Array) -> jax.Array:
    """Returns the rows `[b, ...]` of the partners, from `x` of `[b, ...]`."""
    groups, group = self._in_group.shape
    if self._span > 1 or groups == 1:
      return self._block(x)[self._places]
    # The compiler keeps a batched gather on the device that has the group.
    grouped = x.reshape(groups, group, *x.shape[1:])
    rows = jax.vmap(lambda rows, places: rows[places])(grouped, self._in_group)
    return rows.reshape(x.shape)

  def chain(self, x: jax.Array, count: int) -> list[jax.Array]:
    """Returns the rows of the partners, of their partners, and so on."""
    rows = []
    for _ in range(count):
      x = self.of(x)
      rows.append(x)
    return rows
