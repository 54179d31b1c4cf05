"""The length of a run, its periods and its warm-up follow the images."""

import dataclasses
import pathlib

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, length, provenance

ROOT = pathlib.Path(__file__).parent.parent


def _config(**overrides):
  return config_lib.load(f"{ROOT}/configs/cutmix.py:folder", overrides)


@pytest.mark.parametrize(
  ("images", "steps"),
  [
    (12_000, 4688),  # 25 passes, the recipe of Stanford Dogs.
    (1280, 500),
    (1000, 500),  # As many as BiT-HyperRule gives small sets.
    (160, 500),
    (64, 200),  # 200 passes.
    (1, 4),
  ],
)
def test_the_length_follows_the_images(images, steps):
  assert length.steps(_config(), images) == steps
  random = _config(**{"model.pretrained": "none"})
  assert length.steps(random, images) == pytest.approx(4 * steps, abs=4)


def test_a_length_that_is_set_stays():
  assert length.steps(_config(steps="7"), 100) == 7
  assert length.steps(_config(epochs="3"), 100) == 5  # Of 4.7.
  assert not length.is_derived(_config(epochs="3"))
  assert length.is_derived(_config())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Two classes of 40 images, without splits."""
  root = tmp_path_factory.mktemp("photos")
  rng = np.random.default_rng(0)
  for name in "ab":
    (root / name).mkdir()
    for number in range(40):
      pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
      Image.fromarray(pixels).save(root / name / f"{number}.png")
  return root


def _build(photos, **overrides):
  small = {
    "data.dir": str(photos),
    "data.cache_dir": str(photos.parent / "cache"),
    "data.image_size": "32",
    "model.name": "resnet18",
  }
  config = _config(**(small | overrides))
  return experiment.build(config, fetch_weights=False)


def test_a_set_smaller_than_a_batch_is_trained_on(photos):
  exp = _build(photos)
  sizes = [len(split) for split in exp.datasets.by_name().values()]
  assert sizes == [48, 16, 16]
  assert (exp.steps, exp.steps_per_epoch) == (150, 0.75)
  steps = range(exp.steps + 1)
  assert len([x for x in steps if exp.evaluate_at(x)]) == 20
  assert [x for x in steps if exp.save_at(x)][-1] == 150
  rates = [float(exp.recipe.schedule(step)) for step in steps]
  assert int(np.argmax(rates)) == 12  # 8 % of the run.
  lines = provenance.describe(exp, None, 0, None).splitlines()
  assert "; resnet18 from torchvision; " in lines[0]
  assert "; validation takes 25% of the training images; " in lines[0]
  for share in (0.1, None):
    sets = dataclasses.replace(exp.datasets, chosen_share=share)
    other = dataclasses.replace(exp, datasets=sets)
    assert "takes" not in provenance.describe(other, None, 0, None)
  assert lines[1].startswith("the length, 200 epochs, follows the number of")
  # 1.96 sqrt(0.25 / 16) = 0.245.
  assert lines[2:] == [
    f"warning: {split} has only 16 images, so an accuracy measured on them is "
    "uncertain by up to 24 points; add images"
    for split in ("validation", "test")
  ]


def test_a_short_run_is_evaluated_after_every_epoch(photos):
  exp = _build(photos, epochs="4", batch_size="24")
  assert [x for x in range(9) if exp.evaluate_at(x)] == [2, 4, 6, 8]


def test_a_run_of_two_steps_has_no_warm_up(photos):
  exp = _build(photos, steps="2")
  assert float(exp.recipe.schedule(0)) == pytest.approx(0.003)


def test_random_weights_are_named_in_the_first_line(photos):
  exp = _build(photos, **{"model.name": "small_vit"})
  first = provenance.describe(exp, None, 0, None).splitlines()[0]
  assert "; small_vit from random weights; " in first


def test_a_wrong_folder_is_reported_before_a_download(monkeypatch):
  class Source:
    def fetch(self):
      raise AssertionError("downloads")

  config = _config()
  monkeypatch.setattr(experiment.pretrained, "resolve", lambda *_: Source())
  with pytest.raises(UserError, match=r"config\.data\.dir must name"):
    experiment.build(config)
