"""Mixers that look at the network in training, or mix between its stages."""

import dataclasses
import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mixaug_jax import augment
from mixaug_jax import config as config_lib
from mixaug_jax.analysis import cam, contact_sheet
from mixaug_jax.comparison import arms
from mixaug_jax.errors import UserError
from mixaug_jax.models import linear_head, run_stages
from mixaug_jax.training import (
  experiment,
  network_maps,
  parallel,
  stage_mixing,
  step,
)

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
BATCH = 24
SEED = np.uint32(0)
LOOKING = ("attentive_cutmix", "snapmix", "puzzlemix")
BETWEEN = ("manifold_mixup", "patchup")


class Staged(nn.Module):
  """Two convolutions and a head, without batch norm."""

  num_classes: int = 10
  stages: tuple[str, ...] = ("stem", "stage1", "stage2", "head")
  frozen: tuple[str, ...] = ()

  @nn.compact
  def __call__(self, x, *, train: bool, start="stem", stop="head"):
    def stage(name):
      if name == "head":
        return functools.partial(
          linear_head,
          num_classes=self.num_classes,
          init="lecun_normal",
          dropout=0.5,
          train=train,
        )
      stride = 2 if name == "stem" else 1
      return nn.Sequential(
        [nn.Conv(6, (3, 3), stride, name=f"{name}_conv"), nn.relu]
      )

    return run_stages(self, stage, x, start, stop)


def build(name, model=None, **overrides):
  overrides = {
    "data.placement": "host",
    "batch_size": str(BATCH),
    "mix.name": name,
    "mix.probability": "1",
    **({"mix.puzzlemix.cells": "4"} if name == "puzzlemix" else {}),
    **overrides,
  }
  exp = experiment.build(config_lib.load(f"{CONFIGS}/basic.py", overrides))
  if model is not None:
    recipe = dataclasses.replace(
      exp.recipe, model=model, optimizer=optax.sgd(0.1, 0.9)
    )
    exp = dataclasses.replace(exp, recipe=recipe)
  return exp


def batch():
  rng = np.random.default_rng(0)
  return {
    "image": rng.integers(0, 256, (BATCH, 16, 16, 3), np.uint8),
    "label": rng.integers(0, 10, BATCH).astype(np.int32),
  }


def state_of(exp):
  state, _ = exp.initial_state()
  return state


@pytest.mark.parametrize("name", LOOKING)
def test_what_the_network_sees_does_not_depend_on_the_devices(name):
  exp = build(name, Staged())
  state, host = state_of(exp), batch()
  recipe = exp.recipe
  network = network_maps.of(recipe.model, recipe.preprocess, state, recipe.loss)

  def inputs(devices):
    return lambda images, ids: step.network_input(
      recipe, SEED, jnp.int32(5), images, ids, devices, network
    )

  images, labels = jax.jit(inputs(step.Devices()))(host["image"], host["label"])
  split = {key: x.reshape(4, -1, *x.shape[1:]) for key, x in host.items()}
  four = jax.pmap(inputs(parallel.devices()), axis_name=parallel.AXIS)(
    split["image"], split["label"]
  )
  np.testing.assert_allclose(images, four[0].reshape(images.shape), atol=1e-5)
  np.testing.assert_allclose(labels, four[1].reshape(labels.shape), atol=1e-5)
  assert (np.asarray(labels).max(1) < 0.999).sum() > BATCH // 3


@pytest.mark.parametrize("name", BETWEEN)
def test_a_step_does_not_depend_on_the_devices(name):
  exp, host = build(name, Staged()), batch()
  recipe = exp.recipe
  values = recipe.hyperparameters()
  one = jax.jit(step.make_train_step(recipe, step.Devices()))
  expected = one(state_of(exp), SEED, values, {}, host)
  four = parallel.train_step(step.make_train_step(recipe, parallel.devices()))
  found = four(state_of(exp), SEED, values, {}, parallel.shard(host))
  chex.assert_trees_all_close(
    jax.device_get((found[0].params, found[1])),
    jax.device_get((expected[0].params, expected[1])),
    atol=1e-5,
  )


@pytest.mark.parametrize("name", BETWEEN)
def test_the_drawn_place_alone_is_mixed(name):
  exp = build(name, Staged())
  model, mixer = exp.recipe.model, exp.recipe.mixer
  params = state_of(exp).params
  images = jnp.asarray(batch()["image"] / 255, jnp.float32)
  labels = jnp.eye(BATCH)
  settings = {k: x for k, x in mixer.keywords.items() if k != "at_input"}
  seen = set()
  for seed in (2, 3, 4):  # They draw each of the places.
    key = jax.random.key(seed)
    x, soft = mixer(key, images, labels)
    between = stage_mixing.bound(mixer, key, True, augment.Shard())
    rngs = {"dropout": jax.random.key(1)}
    run = functools.partial(model.apply, train=True, rngs=rngs)
    logits, mixed, _ = stage_mixing.apply(
      model, {"params": params, "batch_stats": {}}, x, soft, between, rngs
    )
    if not np.array_equal(x, images):
      seen.add("input")
      chex.assert_trees_all_equal(mixed, soft)
      expected = run({"params": params}, x)
    else:
      found = []
      for place in (1, 2):
        h = run({"params": params}, images, stop=model.stages[place])
        h, own = augment.mix(key, h, labels, **settings)
        h = run({"params": params}, h, start=model.stages[place + 1])
        found.append(np.allclose(h, logits, atol=1e-5))
        chex.assert_trees_all_close(own, mixed, atol=1e-6)
        if found[-1]:
          expected = h
      assert sum(found) == 1
      seen.add(found.index(True))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
  assert seen == {"input", 0, 1}


def test_the_class_map_is_the_class_activation_map():
  exp = build("snapmix", Staged())
  state, model = state_of(exp), exp.recipe.model
  images = jnp.asarray(batch()["image"] / 255, jnp.float32)
  ids = batch()["label"]
  network = network_maps.of(model, lambda x: x, state, exp.recipe.loss)
  maps = network["class_map"](images, jax.nn.one_hot(ids, 10))
  expected = cam.class_activation_map(
    model, {"params": state.params}, images, ids
  )
  np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_other_recipes_do_not_run_the_network_twice():
  """The door is open for every mixer, and no program pays for it."""
  flops = {}
  for name in ("cutmix", "attentive_cutmix"):
    recipe = (exp := build(name, Staged())).recipe
    run = jax.jit(step.make_train_step(recipe, step.Devices()))
    program = run.lower(
      state_of(exp), SEED, recipe.hyperparameters(), {}, batch()
    ).as_text()
    flops[name] = program.count("stablehlo.convolution")
  assert flops["attentive_cutmix"] == flops["cutmix"] + 3


def test_an_arm_trains_the_shipped_network():
  exp = build("manifold_mixup")  # Its batch norm sees mixed activations.
  run = parallel.train_step(
    step.make_train_step(exp.recipe, parallel.devices())
  )
  state = state_of(exp)
  values = exp.recipe.hyperparameters()
  for _ in range(2):
    state, found = run(state, SEED, values, {}, parallel.shard(batch()))
  assert float(np.ravel(found["finite"])[0]) == 1


def test_every_mixer_can_be_an_arm():
  config = arms.load(f"{CONFIGS}/compare.py", {})
  size = config.base.data.image_size
  for name in augment.MIXERS:
    config.arms.cutmix.mix.name = name
    assert arms.resolved(config, "cutmix", size, {}).mix.name == name


@pytest.mark.parametrize(
  ("name", "overrides", "words"),
  [
    ("manifold_mixup", {"mix.manifold_mixup.stages": "4"}, "lower it"),
    ("patchup", {"optimizer.accumulate": "2"}, "accumulate must be 1"),
    ("patchup,cutmix", {}, "name it alone"),
    ("snapmix", {"loss.name": "sigmoid"}, "set loss.name=softmax"),
    ("gridmix", {"mix.gridmix.cells": "0"}, "cells must be a whole number"),
    ("jigsaw", {"mix.jigsaw.cells": "5"}, "cells must divide the sides"),
    ("puzzlemix", {"data.image_size": "9"}, "puzzlemix needs even sides"),
  ],
)
def test_what_does_not_fit_is_reported(name, overrides, words):
  with pytest.raises(UserError, match=words) as caught:
    build(name, **overrides)
  assert "\n" not in str(caught.value)


def test_a_preview_without_a_network_is_refused():
  config = config_lib.load(f"{CONFIGS}/basic.py", {"mix.name": "snapmix"})
  with pytest.raises(UserError, match="needs the network in training"):
    contact_sheet.training_batch(config, 0)


def test_a_missing_network_is_reported():
  arguments = jax.random.key(0), jnp.ones((2, 4, 4, 3)), jnp.eye(2)
  with pytest.raises(ValueError, match="SnapMix looks at the network; pass"):
    augment.mix(*arguments, [augment.SnapMix()])
