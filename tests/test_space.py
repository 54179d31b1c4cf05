"""The ranges of what a comparison tunes."""

import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import default
from mixaug_jax import config as config_lib
from mixaug_jax.comparison import space
from mixaug_jax.errors import UserError

BASE = default.get_config()


def _range(key, text):
  *parents, leaf = key.split(".")
  tree = {leaf: text}
  for parent in reversed(parents):
    tree = {parent: tree}
  return space.parse(ConfigDict(tree), BASE)[0]


def test_the_places_of_a_range_are_its_values():
  rate = _range("optimizer.learning_rate", "log 0.01 1")
  assert [rate.at(x) for x in (0, 0.5, 0.75)] == ["0.01", "0.1", "0.316"]
  alpha = _range("mix.alpha", "uniform 0.5 1.5")
  assert [alpha.at(x) for x in (0, 0.25)] == ["0.5", "0.75"]
  decay = _range("ema.decay", "uniform 0.99 0.9999")
  assert [decay.at(x) for x in (0, 0.5, 0.9999)] == [
    "0.99",
    "0.99495",
    "0.999899",
  ]
  steps = _range("steps", "log 100 400")
  assert [steps.at(x) for x in (0, 0.5)] == ["100", "200"]
  name = _range("optimizer.name", "choice sgd adamw")
  assert [name.at(x) for x in (0, 0.49, 0.5, 0.999)] == ["sgd"] * 2 + [
    "adamw"
  ] * 2


@pytest.mark.parametrize(
  ("key", "text", "said"),
  [
    ("optimizer.lr", "log 1 2", "optimizer.lr is not a config key"),
    ("optimizer.learning_rate", "log 0 1", "must be above 0: log 0 1"),
    ("optimizer.learning_rate", "log 1 0.1", "low end must be below the high"),
    ("optimizer.learning_rate", "log 0.1", "must be log LOW HIGH, uniform"),
    ("optimizer.learning_rate", "0.1", "must be log LOW HIGH, uniform"),
    ("optimizer.learning_rate", "uniform a b", "must be log LOW HIGH, uniform"),
    ("optimizer.learning_rate", "uniform 0 inf", "low end must be below"),
    ("optimizer.learning_rate", "uniform 0 nan", "low end must be below"),
    ("optimizer.name", "uniform 0 1", "optimizer.name is not a number"),
    ("optimizer.name", "choice sgd sgd", "has a value twice"),
    ("data.image_size", "choice 8 16", "image_size is not a hyperparameter"),
    ("seed", "choice 8 16", "seed is not a hyperparameter"),
  ],
)
def test_a_mistake_in_a_range_is_named(key, text, said):
  with pytest.raises(UserError, match=re.escape(said)):
    _range(key, text)


def _applies(key, **overrides):
  arm = default.get_config()
  config_lib.override(
    arm, {k.replace("__", "."): x for k, x in overrides.items()}
  )
  text = "choice true false" if key.endswith("per_example") else "uniform 0.5 1"
  return bool(space.applying([_range(key, text)], arm))


@pytest.mark.parametrize(
  ("key", "overrides", "applies"),
  [
    ("optimizer.learning_rate", {}, True),
    ("mix.alpha", {}, False),
    ("mix.alpha", {"mix__name": "mixup"}, True),
    ("mix.alpha", {"mix__name": "mixup", "mix__mixup__alpha": "1"}, False),
    (
      "mix.alpha",
      {"mix__name": "cutmix,mixup", "mix__mixup__alpha": "1"},
      True,
    ),
    ("mix.alpha", {"mix__name": "cutout"}, False),
    ("mix.alpha", {"mix__name": "cutout,mixup"}, True),
    ("mix.probability", {"mix__name": "cutout"}, True),
    ("mix.per_example", {}, False),
    ("mix.cutmix.alpha", {"mix__name": "mixup"}, False),
    ("mix.cutmix.alpha", {"mix__name": "cutmix,mixup"}, True),
    ("augment.random_erasing.max_area", {}, False),
    (
      "augment.random_erasing.max_area",
      {"augment__random_erasing__probability": "0.5"},
      True,
    ),
    ("augment.random_erasing.probability", {}, False),
  ],
)
def test_a_range_applies_where_its_key_has_an_effect(key, overrides, applies):
  assert _applies(key, **overrides) == applies


def test_points_fill_every_range_evenly():
  ranges = [
    _range("optimizer.learning_rate", "log 0.01 1"),
    _range("optimizer.weight_decay", "log 0.01 1"),
  ]
  points = space.points(ranges, 36)
  assert points == space.points(ranges, 36)
  rows = np.array([[p[each.key] for each in ranges] for p in points])
  # A Halton sequence puts as many points into each of its boxes: halves of the
  # first range by thirds of the second one.
  boxes = np.floor(rows * [2, 3]).astype(int)
  _, counts = np.unique(boxes, axis=0, return_counts=True)
  assert list(counts) == [6] * 6
  assert len({tuple(row) for row in rows}) == 36


def test_a_range_of_multiples_follows_the_weights_of_the_base():
  tree = ConfigDict({"optimizer": {"learning_rate": "times 0.1 10"}})
  base = default.get_config("folder")
  assert str(space.parse(tree, base)[0]) == "log 0.0003 0.03"
  base.model.pretrained = None
  assert str(space.parse(tree, base)[0]) == "log 0.005 0.5"
  assert base.optimizer.learning_rate is None
  base.optimizer.learning_rate = 0.0
  with pytest.raises(UserError, match=r"learning_rate is 0\.0 in the base"):
    space.parse(tree, base)
