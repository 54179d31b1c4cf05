"""What every model must be, and how a model of the user's own is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import models, runs
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, loop

# The whole of a model family: this file, named on the command line.
MY_NET = '''
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from mixaug_jax import models


class MyNet(nn.Module):
  """Two convolutions and batch norm, for one image size."""

  num_classes: int
  dropout: float = 0.0
  frozen: tuple[str, ...] = ()
  dtype: Any = jnp.float32

  stages = ("input", "body", "head")

  @nn.compact
  def __call__(self, x, *, train, start="input", stop="head"):
    def stage(name):
      if name == "input":
        return nn.Conv(8, (3, 3), dtype=self.dtype, name=name)
      if name == "body":
        return Body(train and name not in self.frozen, self.dtype, name=name)
      return lambda x: models.linear_head(
        x,
        self.num_classes,
        init="zeros",
        dropout=self.dropout,
        train=train,
      )

    return models.run_stages(self, stage, x, start, stop)


class Body(nn.Module):
  train: bool
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(16, (3, 3), (2, 2), use_bias=False, dtype=self.dtype)(x)
    if x.shape[1:] != (8, 8, 16):
      raise ValueError("this network takes images of 16 pixels a side")
    return nn.relu(nn.BatchNorm(not self.train, dtype=self.dtype)(x))


class NoModel(nn.Module):
  num_classes: int
  dtype: Any = jnp.float32
  frozen: tuple[str, ...] = ()


class Careless(MyNet):
  @nn.compact
  def __call__(self, x, *, train, start="input", stop="head"):
    return nn.Dense(self.num_classes)(x.mean((1, 2)))


a_number = 3
'''


@pytest.fixture
def my_net(tmp_path, monkeypatch):
  (tmp_path / "my_net.py").write_text(MY_NET)
  monkeypatch.syspath_prepend(tmp_path)


def _config(name, **overrides):
  settings = {"model.name": name, "steps": "4", "batch_size": "8"}
  settings |= {"evaluate.every_epochs": "1"}
  return config_lib.load("configs/cutmix.py", settings | overrides)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_runs_in_stages(name):
  model = models.create_model(name, 7)
  assert isinstance(model, models.Model)
  assert model.stages[-1] == "head"
  variables = models.abstract_variables(model, 32)
  for tree in variables.values():
    assert tree.keys() <= set(model.stages)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}
  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  for stage in model.stages:
    x = jax.eval_shape(
      lambda v, x, stage=stage: model.apply(
        v, x, train=False, start=stage, stop=stage
      ),
      variables,
      x,
    )
    assert len(x.shape) == (2 if stage == "head" else 4)
  assert (x.shape, x.dtype) == ((2, 7), jnp.float32)


def test_a_model_of_the_users_own_trains_and_predicts(my_net, tmp_path):
  workdir = tmp_path / "run"
  config = _config("my_net:MyNet", **{"model.dropout": "0.1"})
  assert loop.train(config, workdir).steps == 4
  network = runs.open_run(workdir).classifier()
  images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
  assert network.predictor()(images).shape == (1, 3, 10)
  for stage, side in ((None, 8), ("input", 16)):
    maps = network.activation_maps(images, np.arange(3), stage)
    assert maps.shape == (3, side, side)


@pytest.mark.parametrize(
  ("name", "settings", "sentence"),
  [
    ("my_net:MyNet", {"model.version": "v1"}, "model.version means nothing"),
    ("my_net:MyNet", {"model.remat": "true"}, "model.remat means nothing"),
    ("small_vit", {"model.bn_epsilon": "0.1"}, "model.bn_epsilon means"),
    ("small_vit", {"model.last_stage": "block2"}, "model.last_stage means"),
    (
      "small_vit",
      {"model.zero_init_residual": "false"},
      "model.zero_init_residual means nothing to the model small_vit; leave",
    ),
    (
      "small_vit",
      {"model.sync_batch_norm": "true"},
      "model.sync_batch_norm means nothing to the model small_vit",
    ),
    ("my_net:NoModel", {}, "is not a model: it lacks stages; see mixaug_jax"),
    ("my_net:a_number", {}, "my_net:a_number is not a class or a function"),
    ("my_net:Careless", {}, "outside of its stages, Dense_0"),
  ],
)
def test_a_setting_or_a_class_that_does_not_fit_is_named(
  my_net, name, settings, sentence
):
  with pytest.raises(UserError, match=sentence):
    experiment.build(_config(name, **settings))


@pytest.mark.parametrize(
  ("name", "sentence"),
  [
    ("small_vti", "config.model.name must be .*; did you mean 'small_vit'"),
    ("my_net:YourNet", "config.model.name=my_net:YourNet: module 'my_net' has"),
    ("your_net:YourNet", "there is no module 'your_net'"),
  ],
)
def test_a_name_that_is_not_found_is_reported_with_the_config(
  my_net, name, sentence
):
  with pytest.raises(UserError, match=sentence):
    _config(name)


def test_a_setting_that_no_model_has_is_refused():
  with pytest.raises(ValueError, match=r"model\.versoin means nothing"):
    models.create_model("small_vit", 10, versoin="v1")
