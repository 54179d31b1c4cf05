"""Tone operations against Pillow's ImageOps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn import datasets

from mixaug_jax import augment

KEY = jax.random.key(4)
OPERATIONS = {
  "invert": [()],
  "solarize": [(0.0,), (0.3,), (128 / 255,), (1.0,)],
  "posterize": [(bits,) for bits in range(1, 9)],
  "equalize": [()],
  "autocontrast": [()],
}


def pictures():
  """Returns uint8 images; some channels hold one or two levels."""
  rng = np.random.default_rng(1)
  noise = rng.integers(30, 200, (41, 29, 3), dtype=np.uint8)
  flat, few = np.full_like(noise, 77), noise.copy()
  few[..., 1] = 9
  few[..., 2] = np.where(few[..., 2] > 150, 255, 3)
  photograph = datasets.load_sample_image("china.jpg")[::5, ::5]
  return {"photograph": photograph, "noise": noise, "few": few, "flat": flat}


def pillow(name, image, *settings):
  if name == "solarize":
    settings = [np.ceil(255 * x) for x in settings]
  function = getattr(ImageOps, name)
  return np.int32(function(Image.fromarray(image), *settings))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("picture", pictures())
def test_results_equal_pillow(name, picture):
  """Exactly, but for the rounding of auto-contrast."""
  image = pictures()[picture]
  run = jax.jit(getattr(augment, name))
  least = 1 if name == "autocontrast" else 0
  for settings in OPERATIONS[name]:
    expected = pillow(name, image, *settings)
    actual = np.int32(run(image, *settings))
    assert np.abs(actual - expected).max() <= least
    values = run(np.float32(image / 255), *settings)
    assert np.abs(255 * values - expected).max() <= least + 1e-3


def test_floats_below_a_threshold_keep_their_bits():
  values = jax.random.uniform(KEY, (2, 8, 8, 3))
  expected = np.where(values < 0.5, values, 1 - values)
  np.testing.assert_array_equal(augment.solarize(values, 0.5), expected)


def test_a_batch_equals_its_images():
  """Histograms and ranges are those of one image."""
  image = pictures()["photograph"]
  images = jnp.stack([jnp.asarray(image), jnp.asarray(image // 2)])
  for operation in (augment.equalize, augment.autocontrast):
    together = operation(images)
    for one, other in zip(images, together, strict=True):
      np.testing.assert_array_equal(operation(one), other)


@pytest.mark.parametrize("name", OPERATIONS)
def test_random_operations_keep_or_change_an_example(name):
  image = jnp.asarray(pictures()["noise"])
  images = jnp.broadcast_to(image, (64, *image.shape))
  run = getattr(augment, f"random_{name}")
  settings = {"solarize": {"threshold": 0.5}, "posterize": {"bits": 4}}
  settings = settings.get(name, {})
  changed = getattr(augment, name)(image, **settings)
  drawn = run(KEY, images, **settings, probability=0.3)
  kept = (drawn == image).all((1, 2, 3))
  assert (kept | (drawn == changed).all((1, 2, 3))).all()
  assert 0.5 < kept.mean() < 0.9
  for probability, expected in ((0.0, image), (1.0, changed)):
    always = run(KEY, images, **settings, probability=probability)
    assert (always == expected).all()
