"""Presets of mixing, against the rules of the libraries that they name."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import preset_parity as parity
from configs import default
from mixaug_jax import augment
from mixaug_jax import config as config_lib
from mixaug_jax.augment import partners, presets
from mixaug_jax.comparison import arms
from mixaug_jax.errors import UserError

RULES = np.random.default_rng(3)


def _centre(height, width):
  return RULES.integers(height), RULES.integers(width)


def _around(lam, height, width, to_whole=int, below=None, above=None):
  """A box around a pixel: rows and columns, and its area if not clipped."""
  y, x = _centre(height, width)
  side = np.sqrt(1 - lam)
  tall, wide = to_whole(height * side), to_whole(width * side)
  below = below or (lambda side: side // 2)
  top, bottom = y - above(tall), y + below(tall)
  left, right = x - above(wide), x + below(wide)
  area = (bottom - top) * (right - left)
  clip = lambda low, high, most: (max(low, 0), min(high, most))
  return clip(top, bottom, height), clip(left, right, width), area


def _half(side):
  return side // 2


def _halves(lam, height, width):
  return _around(lam, height, width, below=_half, above=_half)


def _rounded(lam, height, width):
  to_whole = lambda side: int(np.round(side))
  return _around(lam, height, width, to_whole, below=_half, above=_half)


def _full(lam, height, width):
  return _around(
    lam, height, width, below=lambda side: (side + 1) // 2, above=_half
  )


def _inside(lam, height, width):
  side = np.sqrt(1 - lam)
  tall, wide = int(height * side), int(width * side)
  top = RULES.integers(height - tall + 1)
  left = RULES.integers(width - wide + 1)
  return (top, top + tall), (left, left + wide), tall * wide


def _real(lam, height, width):
  def span(side, most):
    start = RULES.random() * (most - side)
    pixels = [p for p in range(most) if start <= p < start + side]
    return (pixels[0], pixels[-1] + 1) if pixels else (0, 0)

  side = np.sqrt(1 - lam)
  area = (1 - lam) * height * width
  return span(height * side, height), span(width * side, width), area


def _course(lam, height, width):
  del lam
  y, x = _centre(height, width)
  tall = int(height * np.sqrt(1 - RULES.random())) // 2
  wide = int(width * np.sqrt(1 - RULES.random())) // 2
  rows = max(y - tall, 0), min(y + wide, height)
  columns = max(x - wide, 0), min(x + wide, width)
  return rows, columns, None


def _beta(alpha):
  return lambda size: RULES.beta(alpha, alpha, size)


def _random_alpha(size):
  return _beta(RULES.uniform(1e-6, 1))(size)


def _larger(alpha):
  def draw(size):
    lam = RULES.beta(alpha, alpha, size)
    return np.maximum(lam, 1 - lam)

  return draw


PARTNERS = {
  "flip": lambda size: np.arange(size)[::-1],
  "roll": lambda size: np.roll(np.arange(size), 1),
  "shuffle": RULES.permutation,
  "replacement": lambda size: RULES.integers(0, size, size),
}
# Preset, mixer, how partners and lambda are drawn, whether for each example,
# the box, and whether the label ignores clipping.
CASES = [
  ("timm", "cutmix", "flip", _beta(1), False, _full, False),
  ("torchvision", "cutmix", "roll", _beta(1), False, _halves, False),
  ("keras", "cutmix", "shuffle", _random_alpha, True, _real, True),
  ("keras-cv", "cutmix", "shuffle", _beta(1), True, _full, True),
  ("kornia", "cutmix", "shuffle", _beta(1), True, _inside, False),
  ("fastai", "cutmix", "shuffle", _beta(1), False, _rounded, False),
  ("course", "cutmix", "replacement", _beta(1), True, _course, False),
  ("composer", "mixup", "shuffle", _larger(0.2), False, None, False),
  ("fastai", "mixup", "shuffle", _larger(0.4), True, None, False),
]


def _rule(partner, draw, each, box, unclipped):
  """Mixes a batch by a rule, in NumPy."""

  def mix(images, labels):
    size, height, width, _ = images.shape
    partners = PARTNERS[partner](size)
    lams = draw(size if each else 1) * np.ones(size)
    seed = RULES.integers(2**31)
    mixed, weights = images.copy(), np.zeros_like(labels)
    for example, (other, lam) in enumerate(zip(partners, lams, strict=True)):
      if box is None:
        mixed[example] = lam * images[example] + (1 - lam) * images[other]
      else:
        if not each:  # The box of the batch.
          RULES.bit_generator.state = np.random.default_rng(
            seed
          ).bit_generator.state
        rows, columns, area = box(lam, height, width)
        place = np.s_[example, slice(*rows), slice(*columns)]
        mixed[place] = images[(other, *place[1:])]
        pixels = max(0, rows[1] - rows[0]) * max(0, columns[1] - columns[0])
        lam = 1 - (area if unclipped else pixels) / (height * width)
      weights[example] = lam * labels[example] + (1 - lam) * labels[other]
    return mixed, weights

  return mix


@pytest.mark.parametrize("case", CASES, ids=lambda x: f"{x[0]} {x[1]}")
def test_a_preset_draws_by_the_rule_of_its_library(case):
  # The draws do not depend on the tests that run before.
  RULES.bit_generator.state = np.random.default_rng(3).bit_generator.state
  preset, mixer, *rule = case
  here = parity.ours(preset, mixer, 1500)
  there = parity.theirs(_rule(*rule), 1500)
  for name, p in parity.compared(here, there).items():
    assert p > 1e-3, (name, p, here[name].mean(), there[name].mean())


class OneLambda(augment.CutMix):
  """Its box would have the sides 7.6 and 10.64."""

  def draw_share(self, key):
    return jnp.float32(1 - 0.38**2)


@pytest.mark.parametrize(
  ("box", "height", "width", "label"),
  [
    ("centred", 7, 10, "pixels"),
    ("halves", 6, 10, "unclipped"),
    ("rounded_halves", 8, 10, "unclipped"),
    ("inside", 7, 10, "swapped"),
  ],
)
def test_sides_are_made_whole_as_each_library_does(box, height, width, label):
  keys = jax.random.split(jax.random.key(2), 300)
  mixer = OneLambda(box=box, label=label)
  drawn = jax.jit(jax.vmap(lambda key: mixer.draw(key, 20, 28)))(keys)
  pasted = ~np.asarray(drawn.keep)[..., 0]
  sides = pasted.any(2).sum(1), pasted.any(1).sum(1)
  assert (sides[0].max(), sides[1].max()) == (height, width)
  clipped = (sides[0] < height) | (sides[1] < width)
  assert clipped.any() == (box != "inside")
  share = pasted.mean((1, 2))
  lam = {"pixels": 1 - share, "swapped": share}.get(label)
  if lam is None:
    lam = np.full(300, 1 - height * width / 560)
  np.testing.assert_allclose(drawn.lam, lam, atol=1e-6)


def _config(**overrides):
  keys = {k.replace("__", "."): x for k, x in overrides.items()}
  return config_lib.load("baseline", keys)


def test_a_preset_stands_in_the_config_of_the_run():
  config = _config(mix__preset="keras", mix__name="cutmix", batch_size="40")
  stored = json.loads(config_lib.to_json(config))["mix"]
  assert stored["group_size"] == 40
  assert (stored["partner"], stored["per_example"]) == ("shuffle", True)
  assert stored["probability"] == 1  # Not the half of the digits.
  own = {k: x for k, x in stored["cutmix"].items() if x is not None}
  assert own == {
    **{"alpha": 1.0, "distribution": "random_alpha"},
    **{"box": "inside_real", "label": "unclipped"},
  }
  assert (
    config_lib.differences(config, json.loads(config_lib.to_json(config))) == []
  )


def test_the_default_mixers_of_a_library_are_those_of_a_preset():
  config = _config(mix__preset="timm")
  assert config.mix.name == "cutmix,mixup"
  assert config.loss.label_smoothing == 0.1
  assert _config(mix__preset="openmixup").mix.name == "mixup"
  assert _config(mix__preset="timm", mix__name="mixup").mix.name == "mixup"


def test_what_is_set_with_a_preset_wins_over_it_even_if_it_is_a_default():
  config = _config(
    mix__preset="timm",
    mix__name="cutmix",
    mix__partner="any",
    mix__alpha="0.5",
    mix__cutmix__box="halves",
    mix__group_size="24",
    loss__label_smoothing="0",
  )
  assert config.mix.partner == "any"
  assert (config.mix.alpha, config.mix.cutmix.alpha) == (0.5, None)
  assert config.mix.cutmix.box == "halves"
  assert config.mix.group_size == 24
  assert config.loss.label_smoothing == 0
  assert augment.make_mixer(config.mix).keywords["mixers"][0].alpha == 0.5


def test_what_is_set_later_wins_and_the_rest_follows():
  config = config_lib.read("mixup")
  config_lib.override(config, {"mix.preset": "torchvision"})
  assert (config.mix.alpha, config.mix.mixup.alpha) == (None, 1.0)
  config_lib.override(config, {"batch_size": 30, "mix.per_example": True})
  config_lib.override(config, {"mix.name": "cutmix", "mix.alpha": 0.3})
  assert config.mix.group_size == 30
  assert config.mix.per_example
  assert config.mix.partner == "roll"
  assert config.mix.cutmix.box == "halves"
  assert config.mix.mixup.alpha is None
  mixer = augment.make_mixer(config_lib.resolve(config).mix)
  assert float(mixer.keywords["mixers"][0].alpha) == np.float32(0.3)


def test_another_preset_replaces_a_preset_and_none_takes_it_back():
  config = config_lib.read("cutmix")
  before = config_lib.leaves(config)
  config_lib.override(config, {"mix.preset": "timm"})
  config_lib.override(config, {"mix.preset": "course"})
  fresh = config_lib.load("cutmix", {"mix.preset": "course"})
  after = config_lib.leaves(config)
  assert after["loss.label_smoothing"] == 0
  assert {k: x for k, x in after.items() if k.startswith("mix.")} == {
    k: x for k, x in config_lib.leaves(fresh).items() if k.startswith("mix.")
  }
  config_lib.override(config, {"mix.preset": None})
  changed = {k for k, x in config_lib.leaves(config).items() if x != before[k]}
  assert changed == {"mix.alpha"}  # None is the same 1.0 of CutMix.


def test_a_recipe_in_python_may_name_a_preset(tmp_path):
  path = tmp_path / "recipe.py"
  path.write_text(
    "from mixaug_jax.configs import default\n"
    "def get_config(dataset='digits'):\n"
    "  config = default.get_config(dataset)\n"
    "  config.mix.preset = 'torchvision'\n"
    "  config.mix.partner = 'shuffle'\n"
    "  return config\n"
  )
  config = config_lib.load(str(path))
  assert config.mix.name == "cutmix,mixup"
  assert config.mix.partner == "shuffle"
  assert config.mix.cutmix.box == "halves"
  written = config_lib.read("baseline")
  written.mix.preset = "clovaai"
  assert config_lib.resolve(written).mix.cutmix.box == "halves"


def test_an_arm_may_name_a_preset_which_is_then_not_tuned():
  config = config_lib.read("compare")
  config.arms.rival = {"mix": {"preset": "fastai", "name": "mixup"}}
  arm = arms.resolved(config, "rival", 16, {"optimizer.learning_rate": "0.2"})
  assert arm.mix.mixup.distribution == "larger"
  tuned = {each.key for each in arms.ranges(config, "rival")}
  assert "optimizer.learning_rate" in tuned
  assert not [key for key in tuned if key.startswith("mix.")]


@pytest.mark.parametrize(
  ("overrides", "sentence"),
  [
    ({"preset": "tim"}, "must be one of timm, .*; did you mean timm"),
    ({"preset": "keras"}, "needs mix.name=cutmix or mixup"),
    ({"preset": "timm", "name": "fmix"}, "has no mixer fmix"),
    ({"preset": "timm", "name": "none"}, "cannot go with mix.name=none"),
    ({"preset": "clovaai", "name": "mixup"}, "has no mixer mixup"),
    ({"preset": "fastai", "name": "cutmix,mixup"}, "does not choose a mixer"),
  ],
)
def test_what_a_preset_cannot_mean_is_refused(overrides, sentence):
  keys = {f"mix.{key}": text for key, text in overrides.items()}
  with pytest.raises(UserError, match=sentence) as caught:
    config_lib.load("baseline", keys)
  assert "\n" not in str(caught.value)


def test_timm_refuses_an_odd_batch():
  with pytest.raises(UserError, match="even batch_size, got 49"):
    _config(mix__preset="timm", batch_size="49")


@pytest.mark.parametrize(
  ("settings", "sentence"),
  [
    ({"box": "round"}, "box must be one of centred, halves"),
    ({"label": "drawn"}, "label must be one of pixels"),
    ({"distribution": "uniform"}, "distribution must be one of beta"),
    ({"box": "halves", "min_lambda": 0.2}, "box=halves has no bounds"),
    ({"box": "inside", "max_aspect": 2.0}, "box=inside has no bounds"),
  ],
)
def test_settings_that_do_not_fit_are_refused(settings, sentence):
  with pytest.raises(ValueError, match=sentence):
    augment.CutMix(**settings)


def test_every_choice_of_partners_may_be_in_a_config():
  choices = config_lib._CHOICES["mix.partner"]
  assert choices == partners.PARTNERS


def test_every_preset_can_be_expanded_and_names_its_source():
  for name, preset in presets.PRESETS.items():
    assert preset.source
    for mixer in preset.mixers:
      config = _config(mix__preset=name, mix__name=mixer)
      augment.make_mixer(config.mix)


def test_a_traced_alpha_draws_as_a_constant_one():
  key, (images, labels) = jax.random.key(1), parity.batch()
  images, labels = jnp.asarray(images), jnp.asarray(labels)
  settings = {"distribution": "random_alpha", "box": "independent"}

  def mixed(alpha):
    return augment.cutmix(
      key, images, labels, alpha, **settings, per_example=True
    )

  traced, constant = jax.jit(mixed)(0.7), mixed(0.7)
  np.testing.assert_array_equal(traced[0], constant[0])
  np.testing.assert_allclose(traced[1], constant[1], atol=1e-6)


def test_examples_of_a_batch_share_the_alpha_of_keras():
  # With alpha near 0, all lambdas are near 0 or 1; with one alpha for each
  # example, nearly every batch has some that are not.
  images, labels = jnp.zeros((256, 1, 1, 1)), jnp.eye(2)[jnp.arange(256) % 2]
  mix = lambda key: augment.mixup(
    key,
    images,
    labels,
    1.0,
    distribution="random_alpha",
    per_example=True,
    partner="roll",
    group_size=256,
  )[1][:, 0]
  shares = np.asarray(jax.vmap(mix)(jax.random.split(jax.random.key(0), 200)))
  extreme = np.mean(np.minimum(shares, 1 - shares) < 1e-3, axis=1)
  assert 0.1 < np.mean(extreme > 0.5) < 0.4
  assert np.mean(extreme < 0.1) > 0.3


def test_a_preset_that_a_recipe_sets_is_followed_whatever_else_it_sets():
  written = default.get_config()
  written.mix.preset, written.mix.group_size = "torchvision", 16
  config_lib.override(written, {"seed": "1"})
  assert (written.mix.name, written.mix.partner) == ("cutmix,mixup", "roll")
  assert written.mix.group_size == 16
  written.mix.preset = "timm"
  config_lib.override(written, {"seed": "2"})
  assert (written.mix.partner, written.mix.expanded) == ("flip", "timm")


def test_what_is_set_with_a_preset_stays_although_it_is_our_default():
  config = config_lib.load(
    "cutmix",
    {
      "mix.preset": "timm",
      "mix.group_size": "none",
      "mix.partner": "any",
      "mix.alpha": "none",
      "loss.label_smoothing": "0",
    },
  )
  config = config_lib.resolve(config)
  assert (config.mix.partner, config.loss.label_smoothing) == ("any", 0)
  assert config.mix.cutmix.alpha == 1


def test_a_preset_of_the_base_mixes_in_no_arm_without_a_mixer():
  with pytest.raises(UserError, match=r"set config\.arms\.ARM\.mix\.preset"):
    arms.load("compare", {"base.mix.preset": "timm"})


def test_the_key_of_the_expanded_preset_is_not_set_by_hand():
  with pytest.raises(UserError, match=r"is filled in; set config\.mix\.preset"):
    config_lib.load("cutmix", {"mix.expanded": "timm"})


def test_the_values_of_a_run_are_set_as_they_are():
  """As in the command that repeats a run, which leaves our defaults out."""
  run = config_lib.resolve(
    config_lib.load("cutmix", {"mix.preset": "timm", "mix.partner": "any"})
  )
  plain = config_lib.leaves(default.get_config())
  other = {k: x for k, x in config_lib.leaves(run).items() if plain[k] != x}
  assert "mix.partner" not in other
  again = default.get_config()
  config_lib.override(again, {key: str(x) for key, x in other.items()})
  assert again.mix.to_dict() == run.mix.to_dict()
