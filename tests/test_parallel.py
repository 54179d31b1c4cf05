"""Several devices give the results of one device."""

import dataclasses
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, parallel, step

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
BATCH = 24
SEED = np.uint32(0)


class _Linear(nn.Module):
  """A network without batch norm, whose gradients are plain means."""

  @nn.compact
  def __call__(self, x, *, train: bool, start="stem", stop="head"):
    del train, start, stop
    x = nn.relu(nn.Conv(8, (3, 3))(x)).mean((1, 2))
    return nn.Dense(10)(x)


def _experiment(model=None, **overrides):
  overrides = {"data.placement": "host", "batch_size": str(BATCH), **overrides}
  overrides["evaluate.batch_size"] = "8"
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
    model = exp.recipe.model
    if getattr(model, "bn_axis_name", None):  # No axis outside pmap.
      model = model.clone(bn_axis_name=None)
    recipe = dataclasses.replace(exp.recipe, model=model)
    run = jax.jit(step.make_train_step(recipe, step.Devices()))
    batch = host
  for _ in range(2):
    state, measured = run(state, SEED, {}, batch)
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


def test_four_devices_equal_one_with_synchronised_batch_norm():
  overrides = {"model.sync_batch_norm": "true", "mix.name": "cutmix"}
  four = _one_step(_experiment(**overrides, **{"model.remat": "true"}), True)
  one = _one_step(_experiment(**overrides), False)
  chex.assert_trees_all_close(four, one, rtol=1e-3, atol=2e-4)


def test_unsynchronised_batch_norm_differs():
  """Shows that the test above can fail."""
  exp = _experiment(**{"mix.name": "cutmix"})
  many, _ = _one_step(exp, True)
  one, _ = _one_step(exp, False)
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
    lowered = run.lower(exp.initial_state()[0], SEED, {}, _batch(exp))
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert memory("3") < 0.7 * memory("1")


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
  state, _ = run(state, SEED, {}, parallel.shard(_batch(exp)))
  for array in jax.tree.leaves(state):
    shards = [np.asarray(shard.data) for shard in array.addressable_shards]
    assert len(shards) == 4
    for other in shards[1:]:
      np.testing.assert_array_equal(shards[0], other)


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
  with pytest.raises(UserError, match="does not divide over 4 devices; try 48"):
    parallel.check_batch_size("batch_size", 50)
