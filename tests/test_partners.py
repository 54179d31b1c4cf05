"""Groups of partners, on one device and on several."""

import functools
import re

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mixaug_jax import augment

KEY = jax.random.key(5)
MIXERS = (augment.CutMix(),)
seeds = st.integers(0, 2**31 - 1)


def examples(batch, classes=3):
  images = np.random.default_rng(0).random((batch, 8, 12, 3), np.float32)
  labels = jax.nn.one_hot(jnp.arange(batch) % classes, classes)
  return jnp.asarray(images), labels


@hypothesis.given(seeds, st.sampled_from([2, 3, 4, 7, 50]))
def test_no_example_is_its_own_partner_and_each_is_one(seed, batch):
  partners = augment.draw_partners(jax.random.key(seed), batch)
  assert not (partners == jnp.arange(batch)).any()
  assert sorted(partners.tolist()) == list(range(batch))


def test_every_pair_of_partners_is_equally_likely():
  keys = jax.random.split(jax.random.key(0), 6000)
  draw = jax.vmap(lambda key: augment.draw_partners(key, 4))
  partners = np.asarray(jax.jit(draw)(keys))
  for example in range(4):
    counts = np.bincount(partners[:, example], minlength=4)
    expected = np.where(np.arange(4) == example, 0, 2000)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(2000 * 2 / 3)


def test_partners_of_other_libraries():
  draw = lambda how, key=0, batch=5: augment.draw_partners(
    jax.random.key(key), batch, partner=how
  ).tolist()
  assert draw("flip") == [4, 3, 2, 1, 0]
  assert draw("roll") == [4, 0, 1, 2, 3]
  shuffled = [draw("shuffle", key) for key in range(400)]
  assert all(sorted(x) == [0, 1, 2, 3, 4] for x in shuffled)
  own = [any(n == x for n, x in enumerate(row)) for row in shuffled]
  assert abs(np.mean(own) - (1 - 44 / 120)) < 0.1  # 44 have no fixed point.
  free = [draw("replacement", key) for key in range(400)]
  assert 0.9 < np.mean([len(set(row)) < 5 for row in free]) < 1
  counts = np.bincount(np.concatenate(free), minlength=5)
  assert np.abs(counts - 400).max() < 5 * np.sqrt(400)


def test_partners_that_may_return_are_refused_where_several_are_needed():
  images, labels = examples(8)
  with pytest.raises(ValueError, match="Mosaic needs several partners"):
    augment.mix(KEY, images, labels, [augment.Mosaic()], partner="shuffle")


@hypothesis.given(seeds, st.lists(st.integers(0, 3), min_size=9, max_size=9))
def test_partners_of_another_class(seed, classes):
  classes = np.array(classes)
  partners = np.asarray(
    augment.draw_partners(jax.random.key(seed), 9, jnp.asarray(classes))
  )
  assert len(set(partners)) == 9 or np.bincount(classes).max() > 4
  own = partners == np.arange(9)
  assert (classes[partners] != classes)[~own].all()
  assert not own.any() or np.bincount(classes).max() > 4


@pytest.mark.parametrize(
  ("batch", "size"),
  [(1, 1), (48, 48), (50, 50), (64, 32), (72, 36), (100, 50), (251, 251)],
)
def test_the_default_group_is_the_smallest_divisor_from_32_on(batch, size):
  assert augment.partner_group_size(batch) == size


@pytest.mark.parametrize(
  ("batch", "size", "near"),
  [(50, 32, "25 or 50"), (48, 1, "2 or 3"), (8, 2.5, "2 or 4"), (7, 2, "7")],
)
def test_a_group_that_does_not_divide_the_batch_is_refused(batch, size, near):
  with pytest.raises(ValueError, match=f"such as {near}, got {size}"):
    augment.partner_group_size(batch, size)


@pytest.mark.parametrize("partner", ["any", "other_class"])
def test_partners_come_from_the_group_each_once(partner):
  images = jnp.broadcast_to(jnp.arange(24)[:, None, None, None], (24, 4, 4, 1))
  labels = jax.nn.one_hot(jnp.arange(24) % 3, 3)
  draws = []
  for seed in range(3):
    # A whole partner is pasted, so each image shows its partner's number.
    mixed, _ = augment.mix(
      jax.random.key(seed),
      images,
      labels,
      [augment.CutMix(max_lambda=0.0)],
      partner=partner,
      group_size=6,
    )
    partners = np.asarray(mixed[:, 0, 0, 0])
    assert (partners // 6 == np.arange(24) // 6).all()
    assert sorted(partners) == list(range(24))
    assert (partners != np.arange(24)).all()
    if partner == "other_class":
      assert (partners % 3 != np.arange(24) % 3).all()
    draws.append(partners)
  groups = [tuple(x) for x in draws[0].reshape(4, 6) % 6]
  assert len(set(groups)) > 1
  assert not np.array_equal(draws[0], draws[1])


def on_devices(how, settings, images, labels):
  """Mixes on four devices and returns the result as a global batch."""

  def mix(images, labels, shard=None):
    return augment.mix(KEY, images, labels, MIXERS, shard=shard, **settings)

  def of_share(images, labels):
    return mix(images, labels, augment.Shard.over("data"))

  if how == "pmap":
    split = lambda x: x.reshape(4, -1, *x.shape[1:])
    result = jax.pmap(of_share, "data")(split(images), split(labels))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), result)
  kind = AxisType.Explicit if how.startswith("explicit") else AxisType.Auto
  mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
  spec = PartitionSpec("data")
  arrays = jax.device_put((images, labels), NamedSharding(mesh, spec))
  if how == "shard_map":
    specs = {"in_specs": (spec, spec), "out_specs": (spec, spec)}
    return jax.jit(jax.shard_map(of_share, mesh=mesh, **specs))(*arrays)
  return (mix if how.endswith("eager") else jax.jit(mix))(*arrays)


# A group of the four devices' examples lies inside a share, spans two devices,
# or, of 24 examples in shares of 6, is not aligned with the shares.
@pytest.mark.parametrize(
  ("how", "batch", "group"),
  [
    ("pmap", 16, 2),
    ("pmap", 16, 8),
    ("pmap", 24, 4),
    ("pmap", 24, 8),
    ("shard_map", 16, 8),
    ("shard_map", 24, 4),
    ("automatic", 16, 2),
    ("automatic", 16, 8),
    ("explicit", 16, 2),
    ("explicit", 16, 8),
    ("explicit, eager", 16, 2),
  ],
)
def test_the_number_of_devices_changes_nothing(how, batch, group):
  images, labels = examples(batch)
  settings = {"group_size": group}
  if group == 8:
    settings |= {"partner": "other_class", "per_example": True}
  _alike_on_devices(how, settings, images, labels)


@pytest.mark.parametrize(
  ("how", "partner"),
  [
    ("shard_map", "flip"),
    ("automatic", "roll"),
    ("shard_map", "shuffle"),
    ("pmap", "replacement"),
  ],
)
def test_it_changes_no_partner_of_other_libraries(how, partner):
  settings = {"group_size": 8, "partner": partner, "per_example": True}
  _alike_on_devices(how, settings, *examples(24 if how == "pmap" else 16))


def _alike_on_devices(how, settings, images, labels):
  alone = augment.mix(KEY, images, labels, MIXERS, **settings)
  together = on_devices(how, settings, images, labels)
  chex.assert_trees_all_close(together, alone, atol=1e-6)


def test_a_mesh_of_two_axes():
  images, labels = examples(16)
  mesh = jax.make_mesh(
    (2, 2), ("host", "chip"), axis_types=(AxisType.Auto,) * 2
  )
  spec = PartitionSpec(("host", "chip"))

  def mix(images, labels):
    shard = augment.Shard.over(("host", "chip"))
    return augment.mix(KEY, images, labels, MIXERS, group_size=8, shard=shard)

  mixed = jax.jit(
    jax.shard_map(mix, mesh=mesh, in_specs=(spec, spec), out_specs=(spec, spec))
  )(images, labels)
  alone = augment.mix(KEY, images, labels, MIXERS, group_size=8)
  chex.assert_trees_all_close(mixed, alone, atol=1e-6)


def collectives(program: str) -> list[str]:
  """Returns the collective instructions that carry images, `[..., 12, 3]`."""
  names = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
  found = re.findall(rf"= \(?(\S+) (?:{names})(?:-start)?\(", program)
  return [shape for shape in found if re.search(r",12,3\]", shape)]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(
  ("group", "moves"), [(2, False), (4, False), (8, True)]
)
def test_images_travel_only_if_a_group_spans_devices(kind, group, moves):
  images, labels = examples(16)
  mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
  over = NamedSharding(mesh, PartitionSpec("data"))
  mix = functools.partial(augment.mix, mixers=MIXERS, group_size=group)
  arrays = jax.device_put((images, labels), over)
  program = jax.jit(mix).lower(KEY, *arrays).compile()
  assert bool(collectives(program.as_text())) == moves
  assert program.output_shardings[0].spec[0] == "data"

  def of_share(images, labels):
    return mix(KEY, images, labels, shard=augment.Shard.over("data"))

  split = lambda x: x.reshape(4, 4, *x.shape[1:])
  step = jax.pmap(of_share, "data")
  program = step.lower(split(images), split(labels)).compile()
  found = collectives(program.as_text())
  assert bool(found) == moves
  # Two devices share a group, so no device holds more than their images.
  assert all(shape.startswith("f32[8,8,12,3]") for shape in found)
