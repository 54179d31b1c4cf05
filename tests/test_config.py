"""Recipes, overrides, and mistakes in one sentence."""

import json
import pathlib

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError

ARMS = ("default", "baseline", "basic", "cutmix", "mixup")
CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


def _load(spec: str = "cutmix.py", **overrides: str):
  return config_lib.load(f"{CONFIGS}/{spec}", overrides)


@pytest.mark.parametrize(
  "dataset", ["", ":digits", ":folder", ":stanford_dogs"]
)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_takes_every_data_set(arm, dataset):
  config = _load(f"{arm}.py{dataset}")
  assert config.data.name == (dataset[1:] or "digits")


def test_every_key_of_the_default_has_a_comment_of_its_own_or_its_group():
  lines = (CONFIGS / "default.py").read_text().splitlines()
  settings = [
    line
    for line in lines
    if line.startswith("  ") and " = " in line and "ConfigDict" not in line
  ]
  before_recipes = settings[: settings.index("  config.steps = 400")]
  uncommented = [line for line in before_recipes if "#" not in line]
  # Where two bounds stand together, one comment speaks for both.
  assert len(uncommented) <= len(before_recipes) / 4, uncommented


def test_every_leaf_can_be_set_from_text():
  config = _load()
  before = config_lib.leaves(config)
  for key in before.keys() - {"steps", "epochs"}:
    text = "none" if before[key] is None else str(before[key])
    assert config_lib.leaves(_load(**{key: text})) == before


@pytest.mark.parametrize(
  ("key", "text", "value"),
  [
    ("batch_size", "1e2", 100),
    ("optimizer.nesterov", "False", False),
    ("optimizer.learning_rate", "1", 1.0),
    ("optimizer.clip_norm", "0.5", 0.5),
    ("mix.alpha", "none", None),
    ("mix.name", "none", "none"),
    ("data.dir", "/a=b", "/a=b"),
  ],
)
def test_text_becomes_the_type_of_the_key(key, text, value):
  assert config_lib.leaves(_load(**{key: text}))[key] == value


def test_an_overridden_length_replaces_the_recipes():
  assert _load(epochs="3").steps is None
  assert _load("cutmix.py:folder", steps="3").epochs is None


@pytest.mark.parametrize(
  ("overrides", "sentence"),
  [
    ({"batch_sze": "3"}, "not a config key; did you mean batch_size"),
    ({"learning_rate": "3"}, "did you mean optimizer.learning_rate"),
    ({"mix": "cutmix"}, "config.mix is a group"),
    ({"batch_size": "many"}, "batch_size must be a whole number"),
    ({"batch_size": "2.5"}, "batch_size must be a whole number"),
    ({"batch_size": "none"}, "batch_size must be a whole number"),
    ({"batch_size": "0"}, "at most 1,000,000, got 0"),
    ({"optimizer.nesterov": "yes"}, "nesterov must be true or false"),
    ({"optimizer.learning_rate": "-1"}, "must be at least 0, got -1"),
    ({"optimizer.learning_rate": "nan"}, "must be finite"),
    ({"optimizer.momentum": "1"}, "at least 0 and below 1"),
    ({"data.validation_fraction": "0"}, "above 0 and at most 0.9"),
    ({"loss.name": "sofmax"}, "did you mean 'softmax'"),
    ({"data.cache_size": "12"}, "smaller than"),
    ({"steps": "3", "epochs": "3"}, "set one of config.steps and"),
    ({"optimizer.accumulate": "5"}, "does not divide into"),
    ({"evaluate.checkpoint": "ema"}, "set config.ema.decay"),
  ],
)
def test_a_mistake_is_one_sentence(overrides, sentence):
  with pytest.raises(UserError) as caught:
    _load(**overrides)
  assert sentence in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("text", "sentence"),
  [
    (None, "there is no file"),
    ("x = 1", "defines no function get_config"),
    ("import nonesuch", "No module named 'nonesuch'"),
    ("def get_config(): return 3", "must return a ConfigDict"),
  ],
)
def test_a_broken_recipe_is_named(tmp_path, text, sentence):
  path = tmp_path / "recipe.py"
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=sentence):
    config_lib.load(str(path))


@pytest.mark.parametrize(
  ("line", "sentence"),
  [
    ("config.mix.alhpa = 0.2", "config.mix.alhpa is not .* mean mix.alpha"),
    ("config.sed = 3", "config.sed is not a config key; did you mean seed"),
    ("config.seed = True", "config.seed must be a whole number, got True"),
    ("config.steps = True", "config.steps must be a whole number, got True"),
  ],
)
def test_a_mistake_in_a_recipe_is_one_sentence(tmp_path, line, sentence):
  path = tmp_path / "recipe.py"
  path.write_text(
    "from mixaug_jax.configs import cutmix\n"
    "def get_config(dataset='digits'):\n"
    "  config = cutmix.get_config(dataset)\n"
    f"  {line}\n"
    "  return config\n"
  )
  with pytest.raises(UserError, match=sentence):
    config_lib.load(str(path))


def test_an_unknown_data_set_names_the_known_ones():
  with pytest.raises(UserError, match="digits, folder, stanford_dogs"):
    _load("cutmix.py:dgits")


def test_a_config_survives_json_and_differences_are_named():
  config = _load()
  again = json.loads(config_lib.to_json(config))
  assert config_lib.differences(config, again) == []
  again["model"]["test_size"] = 224  # A key of older runs that nothing read.
  assert config_lib.differences(config, again) == []
  again["mix"]["alpha"] = 0.2
  again["extra"] = 1
  assert config_lib.differences(config, again) == [
    "extra (there 1, here absent)",
    "mix.alpha (there 0.2, here 1.0)",
  ]


def test_a_config_of_an_older_version_gets_the_defaults_of_newer_keys():
  config = _load()
  older = json.loads(config_lib.to_json(config))
  del older["log"]["writers"], older["ema"], older["mix"]["min_lambda"]
  older["mix"]["partner"] = "other_class"
  assert config_lib.differences(config, config_lib.completed(older)) == [
    "mix.partner (there other_class, here any)"
  ]


def test_writers_may_change_in_the_middle_of_a_run():
  config = _load(**{"log.writers": "tensorboard"})
  before = json.loads(config_lib.to_json(_load()))
  assert config_lib.differences(config, before) == []


@pytest.mark.parametrize(
  ("overrides", "size"),
  [
    ({}, 64),
    ({"augment.random_resized_crop.min_area": "0.3"}, 73),
    ({"augment.random_crop.padding": "0"}, 73),
    # The padding is the margin.
    ({"augment.random_crop.padding": "4"}, 64),
    ({"augment.random_flip_left_right.probability": "0.5"}, 64),
    ({"data.cache_size": "100"}, 100),
  ],
)
def test_the_stored_size_follows_the_image_size(overrides, size):
  overrides = {"data.image_size": "64", **overrides}
  config = config_lib.load(f"{CONFIGS}/baseline.py:folder", overrides)
  assert config.data.cache_size == size


def test_the_usual_sizes_are_224_of_256():
  sizes = lambda name: config_lib.load(f"{CONFIGS}/{name}.py:folder").data
  assert sizes("cutmix").cache_size == sizes("cutmix").image_size == 224
  assert sizes("basic").cache_size == 256


def test_a_stored_config_without_a_stored_size_has_the_image_size():
  stored = config_lib.load(f"{CONFIGS}/basic.py:folder").to_dict()
  stored["data"]["cache_size"] = None
  assert config_lib.completed(stored)["data"]["cache_size"] == 224


FINE_TUNED = {
  "model.freeze_batch_norm": True,
  "model.head_init": "zeros",
  "optimizer.learning_rate": 0.003,
  "optimizer.freeze": "stem",
  "optimizer.head_multiplier": 3.0,
  "optimizer.layer_decay": 0.8,
}
FROM_SCRATCH = {
  "model.freeze_batch_norm": False,
  "model.head_init": "lecun_normal",
  "optimizer.learning_rate": 0.05,
  "optimizer.freeze": None,
  "optimizer.head_multiplier": 1.0,
  "optimizer.layer_decay": 1.0,
}


@pytest.mark.parametrize(
  ("model", "source"),
  [
    ("resnet50", "keras"),
    ("resnet152", "keras"),
    ("resnet18", "torchvision"),
    ("resnet34", "torchvision"),
    ("small_resnet", None),
    ("small_vit", None),
    ("vit_s16", None),
  ],
)
def test_a_folder_is_fine_tuned_where_weights_are_published(model, source):
  config = _load("cutmix.py:folder", **{"model.name": model})
  assert config.model.pretrained == source
  assert FINE_TUNED.keys() == FROM_SCRATCH.keys()
  values = FINE_TUNED if source else FROM_SCRATCH
  assert values.items() <= config_lib.leaves(config).items()


@pytest.mark.parametrize("dataset", ["folder", "stanford_dogs"])
def test_random_weights_need_one_key_alone(dataset):
  spec = f"cutmix.py:{dataset}"
  config = _load(spec, **{"model.pretrained": "none"})
  assert config.model.pretrained is None
  assert FROM_SCRATCH.items() <= config_lib.leaves(config).items()


def test_a_key_that_is_set_does_not_follow_the_weights():
  texts = {
    "model.freeze_batch_norm": "false",
    "model.head_init": "lecun_normal",
    "optimizer.learning_rate": "0.02",
    "optimizer.freeze": "none",
    "optimizer.head_multiplier": "1",
    "optimizer.layer_decay": "0.5",
  }
  values = {
    **FROM_SCRATCH,
    "optimizer.learning_rate": 0.02,
    "optimizer.layer_decay": 0.5,
  }
  config = config_lib.leaves(_load("cutmix.py:folder", **texts))
  assert config["model.pretrained"] == "keras"
  assert values.items() <= config.items()


def test_a_transformer_from_a_file_has_no_batch_norm_to_freeze(tmp_path):
  (tmp_path / "gone").mkdir()
  overrides = {
    "model.name": "small_vit",
    "model.pretrained": str(tmp_path / "gone"),
  }
  config = config_lib.leaves(_load("cutmix.py:folder", **overrides))
  own = {"model.freeze_batch_norm": False, "optimizer.freeze": None}
  assert (FINE_TUNED | own).items() <= config.items()


def test_the_recipe_of_stanford_dogs():
  config = config_lib.leaves(_load("default.py:stanford_dogs"))
  lengths = {
    "epochs": 25.0,
    "steps": None,
    "batch_size": 64,
    "data.validation_fraction": 0.1,
    "evaluate.every_epochs": 1.0,
    "optimizer.warmup_epochs": 2.0,
    "optimizer.head_warmup_epochs": 1.0,
    "model.pretrained": "keras",
  }
  assert (FINE_TUNED | lengths).items() <= config.items()


@pytest.mark.parametrize("dataset", ["folder", "stanford_dogs"])
def test_what_is_unset_in_a_stored_config_may_be_unset(dataset):
  stored = json.loads(config_lib.to_json(_load(f"cutmix.py:{dataset}")))
  config_lib.check_stored(config_lib.completed(stored))
