"""Several devices give the results of one device."""

import dataclasses
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import dropout, experiment, parallel, step

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
BATCH = 24
SEED = np.uint32(0)


class _Linear(nn.Module):
  """A network without batch norm, whose gradients are plain means."""

  @nn.compact
  def __call__(self, x, *, train: bool, start="stem", stop="head"):
    del start, stop
    drop = nn.Dropout(0.5, deterministic=not train)
    channels = nn.Dropout(0.2, (1, 2), deterministic=not train)
    x = drop(channels(nn.relu(nn.Conv(8, (3, 3))(x))).mean((1, 2)))
    return nn.Dense(10)(drop(x))


def _experiment(model=None, **overrides):
  overrides = {"data.placement": "host", "batch_size": str(BATCH), **overrides}
  config = config_lib.load(f"{CONFIGS}/basic.py", overrides)
  exp = experiment.build(config)
  if model is not None:
    recipe = dataclasses.replace(
      exp.recipe, model=model, optimizer=optax.sgd(0.1, 0.9)
    )
    exp = dataclasses.replace(exp, recipe=recipe)
  return exp


def _batch(exp):
  rng = np.random.default_rng(0)
  return {
    "image": rng.integers(0, 256, (BATCH, 16, 16, 3), np.uint8),
    "label": rng.integers(0, 10, BATCH).astype(np.int32),
  }


def _one_step(exp, many: bool):
  """Returns state and metrics after two steps, on four devices or on one."""
  state, _ = exp.initial_state()
  host = _batch(exp)
  if many:
    run = parallel.train_step(
      step.make_train_step(exp.recipe, parallel.devices())
    )
    batch = parallel.shard(host)
  else:
    run = jax.jit(step.make_train_step(exp.recipe, step.Devices()))
    batch = host
  values = exp.recipe.hyperparameters()
  for _ in range(2):
    state, measured = run(state, SEED, values, {}, batch)
  return jax.device_get((state, measured))


MIXES = [
  {"mix.name": "none"},
  {"mix.name": "cutmix"},
  {"mix.name": "cutmix", "mix.per_example": "true"},
  {"mix.name": "mixup", "mix.probability": "0.7"},
]


@pytest.mark.parametrize("mix", MIXES)
def test_four_devices_equal_one_without_batch_norm(mix):
  exp = _experiment(_Linear(), **mix)
  assert jax.device_count() == 4
  chex.assert_trees_all_close(
    _one_step(exp, True), _one_step(exp, False), rtol=2e-5, atol=2e-6
  )


@pytest.fixture(scope="module")
def one_device():
  """State and metrics of a network with batch norm on one device."""
  return _one_step(_experiment(**{"mix.name": "cutmix"}), False)


def test_four_devices_equal_one_with_synchronised_batch_norm(one_device):
  overrides = {"model.sync_batch_norm": "true", "mix.name": "cutmix"}
  four = _one_step(_experiment(**overrides, **{"model.remat": "true"}), True)
  chex.assert_trees_all_close(four, one_device, rtol=1e-3, atol=2e-4)


def test_unsynchronised_batch_norm_differs(one_device):
  """Shows that the test above can fail."""
  many, _ = _one_step(_experiment(**{"mix.name": "cutmix"}), True)
  one, _ = one_device
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(many.params, one.params, rtol=1e-3, atol=2e-4)


def test_accumulated_parts_equal_the_whole_batch():
  whole = _experiment(_Linear(), **{"mix.name": "cutmix"})
  parts = _experiment(
    _Linear(), **{"mix.name": "cutmix", "optimizer.accumulate": "3"}
  )
  chex.assert_trees_all_close(
    _one_step(parts, True), _one_step(whole, True), rtol=2e-5, atol=2e-6
  )


def test_parts_of_a_batch_take_less_memory():
  def memory(parts):
    exp = _experiment(_Linear(), **{"optimizer.accumulate": parts})
    run = jax.jit(step.make_train_step(exp.recipe, step.Devices()))
    values = exp.recipe.hyperparameters()
    lowered = run.lower(exp.initial_state()[0], SEED, values, {}, _batch(exp))
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert memory("3") < 0.7 * memory("1")


@pytest.mark.parametrize(("group", "travel"), [("6", False), ("24", True)])
def test_no_images_leave_a_device_whose_share_holds_whole_groups(group, travel):
  overrides = {"mix.name": "cutmix", "mix.group_size": group}
  exp = _experiment(_Linear(), **overrides)
  run = parallel.train_step(
    step.make_train_step(exp.recipe, parallel.devices())
  )
  state, _ = exp.initial_state()
  batch = parallel.shard(_batch(exp))
  values = exp.recipe.hyperparameters()
  program = run.lower(state, SEED, values, {}, batch).compile().as_text()
  collectives = re.findall(r"= .*\b(?:all-\w+|collective-permute)\(", program)
  assert collectives  # Those of the gradients.
  images = [text for text in collectives if ",16,16,3]" in text]
  assert bool(images) == travel


def test_the_input_of_the_network_does_not_depend_on_the_devices():
  exp = _experiment(**{"mix.name": "cutmix", "mix.per_example": "true"})
  host = _batch(exp)

  def inputs(devices):
    return lambda images, ids: step.network_input(
      exp.recipe, SEED, jnp.int32(5), images, ids, devices
    )

  one = jax.jit(inputs(step.Devices()))(host["image"], host["label"])
  split = {name: x.reshape(4, -1, *x.shape[1:]) for name, x in host.items()}
  four = jax.pmap(inputs(parallel.devices()), axis_name=parallel.AXIS)(
    split["image"], split["label"]
  )
  for a, b in zip(one, four, strict=True):
    np.testing.assert_allclose(a, b.reshape(a.shape), atol=1e-6)


def test_mixing_stops_at_its_epoch():
  exp = _experiment(**{"mix.name": "cutmix", "mix.off_after_epoch": "10"})
  host = _batch(exp)
  last = int(exp.recipe.mix_until)
  assert last == pytest.approx(10 * 50 / BATCH, abs=1)
  soft = lambda n: step.network_input(
    exp.recipe, SEED, jnp.int32(n), host["image"], host["label"], step.Devices()
  )[1]
  assert any((soft(n).max(-1) < 1).any() for n in range(last - 3, last))
  for n in range(last + 1, last + 6):
    np.testing.assert_array_equal(soft(n), jax.nn.one_hot(host["label"], 10))


def test_replicated_outputs_are_equal_on_every_device():
  exp = _experiment(**{"mix.name": "mixup"})
  state, _ = exp.initial_state()
  run = parallel.train_step(
    step.make_train_step(exp.recipe, parallel.devices())
  )
  values = exp.recipe.hyperparameters()
  state, _ = run(state, SEED, values, {}, parallel.shard(_batch(exp)))
  for array in jax.tree.leaves(state):
    shards = [np.asarray(shard.data) for shard in array.addressable_shards]
    assert len(shards) == 4
    for other in shards[1:]:
      np.testing.assert_array_equal(shards[0], other)


class _Masks(nn.Module):
  """Returns masks of dropout: two of one module, and one of another."""

  @nn.compact
  def __call__(self, x):
    drop = nn.Dropout(0.5, deterministic=False)
    channels = nn.Dropout(0.5, (1,), deterministic=False)
    alone = jax.random.key_data(self.make_rng("dropout"))
    return drop(x), drop(x), channels(x), alone


def _masks(positions):
  with dropout.by_position(positions):
    return _Masks().apply(
      {},
      jnp.ones((len(positions), 8, 8)),
      rngs=dropout.streams(jax.random.key(1), positions),
    )


def test_every_mask_of_dropout_differs_but_for_its_position():
  *whole, alone = _masks(jnp.arange(6))
  flat = np.concatenate([x.reshape(6, -1) for x in whole])
  assert len(np.unique(flat, axis=0)) == 18
  assert set(np.unique(flat)) == {0, 2}
  np.testing.assert_array_equal(whole[2], whole[2][:, :1].repeat(8, 1))
  *part, other = _masks(jnp.arange(4, 6))
  for a, b in zip(whole, part, strict=True):
    np.testing.assert_array_equal(a[4:], b)
  # A module that draws for itself does not repeat that on other devices.
  assert (alone != other).any()


def test_dropout_over_another_axis_than_the_batch_is_that_of_flax():
  class Tokens(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dropout(0.5, deterministic=False)(x)

  x = jnp.ones((3, 8))
  streams = dropout.streams(jax.random.key(1), jnp.arange(6))
  expected = Tokens().apply({}, x, rngs={"dropout": streams["dropout"]})
  with dropout.by_position(jnp.arange(6)):
    np.testing.assert_array_equal(Tokens().apply({}, x, rngs=streams), expected)


@pytest.mark.parametrize(
  ("size", "parts", "sizes"),
  [
    (50, 1, "4 devices; try 48 or 52"),
    (3, 1, "4 devices; try 4"),
    (50, 3, "4 devices in 3 parts each; try 48 or 60"),
  ],
)
def test_a_batch_that_does_not_divide_is_refused_with_those_that_do(
  size, parts, sizes
):
  with pytest.raises(UserError, match=f"{size} does not divide over {sizes}$"):
    parallel.check_batch_size("batch_size", size, parts)


@pytest.mark.parametrize("size", [1, 7, 8])
def test_images_of_any_number_are_spread_in_equal_shares(size):
  images = np.arange(size * 3, dtype=np.uint8).reshape(size, 3)
  placed = parallel.spread(images)
  assert len({len(shard.data) for shard in placed.addressable_shards}) == 1
  assert len(placed) == parallel.eval_batch_size(size) == (8 if size > 4 else 4)
  np.testing.assert_array_equal(placed[:size], images)
