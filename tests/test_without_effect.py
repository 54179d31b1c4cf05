"""Settings that nothing reads are reported."""

import dataclasses

import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.configs import default
from mixaug_jax.training import experiment, provenance


@pytest.mark.parametrize(
  ("values", "reports"),
  [
    ({"optimizer.name": "adamw"}, []),
    ({"optimizer.momentum": "0"}, []),
    ({"optimizer.momentum": "0.8", "optimizer.nesterov": "false"}, []),
    (
      {"optimizer.name": "adamw", "optimizer.momentum": "0.8"},
      [("optimizer.momentum", "optimizer.name is adamw")],
    ),
    (
      {"optimizer.nesterov": "false", "optimizer.momentum": "0"},
      [("optimizer.nesterov", "optimizer.momentum is 0.0")],
    ),
    (
      {
        "optimizer.nesterov": "false",
        "optimizer.momentum": "0",
        "optimizer.name": "adamw",
      },
      [
        ("optimizer.momentum", "optimizer.name is adamw"),
        ("optimizer.nesterov", "optimizer.name is adamw"),
      ],
    ),
    (
      {"model.allow_partial": "true"},
      [("model.allow_partial", "model.pretrained is unset")],
    ),
  ],
)
def test_settings_of_what_is_off_are_reported(values, reports):
  config = config_lib.load("baseline", values)
  assert config_lib.without_effect(config) == [
    f"config.{key} has no effect, because config.{reason}"
    for key, reason in reports
  ]


def test_partial_weights_are_an_effect():
  config = config_lib.load("baseline:stanford_dogs", {})
  with config.unlocked():
    config.model.allow_partial = True
  assert config.model.pretrained
  assert not config_lib.without_effect(config)


@pytest.mark.parametrize("dataset", default.DATASETS)
@pytest.mark.parametrize("recipe", ["baseline", "basic", "cutmix", "mixup"])
def test_a_recipe_sets_nothing_in_vain(recipe, dataset):
  config = config_lib.load(f"{recipe}:{dataset}", {})
  assert not config_lib.without_effect(config)


class _Images:
  """Two classes in turn, each image of a colour of its own."""

  class_names = ("a", "b")

  def __init__(self, first):
    self.labels = np.tile(np.array([0, 1], np.int32), 6)
    self.ids = [str(first + n) for n in range(12)]

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    image = np.full((8, 8, 3), int(self.ids[index]), np.uint8)
    return {"image": image, "label": index % 2, "id": self.ids[index]}

  def fingerprint(self):
    return self.ids[0]


_FRACTIONS = {
  "data.validation_fraction": "0.25",
  "data.test_fraction": "0.3",
  "data.test_seed": "1",
}


@pytest.mark.parametrize(
  ("names", "values", "keys"),
  [
    ("all", _FRACTIONS, []),
    ("train test", _FRACTIONS, ["test_fraction", "test_seed"]),
    (
      "train validation test",
      _FRACTIONS,
      ["validation_fraction", "test_fraction", "test_seed"],
    ),
    ("train validation test", {}, []),
    ("train", {"data.test_fraction": "0.3"}, ["test_fraction"]),
  ],
)
@pytest.mark.parametrize("recipe", ["baseline", "baseline:folder"])
def test_shares_of_splits_that_the_data_have_are_reported(
  recipe, names, values, keys
):
  config = config_lib.load(
    recipe, {**values, "data.image_size": "8", "model.pretrained": "none"}
  )
  sources = {x: _Images(50 * n) for n, x in enumerate(names.split())}
  sets = data.load(config.data, 0, sources=sources)
  reports = config_lib.shares_without_effect(config, sets.given)
  some = "splits" if " " in names else "split"
  reason = f"the data come with the {some} {names.replace(' ', ' and ')}"
  assert reports == [
    f"config.data.{key} has no effect, because {reason}" for key in keys
  ]


def test_a_run_reports_shares_that_are_not_held_out():
  plain = experiment.build(config_lib.load("baseline", {}))
  other = config_lib.load("baseline", {"data.test_seed": "1"})
  report = "warning: config.data.test_seed has no effect, because"
  for exp in (plain, dataclasses.replace(plain, config=other)):
    lines = provenance.describe(exp, None, 0, None)
    assert (report in lines) == (exp is not plain)
