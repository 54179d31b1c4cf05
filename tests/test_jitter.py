"""Color jitter against torchvision's formulas, in every order."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from mixaug_jax import augment

KEY = jax.random.key(6)
FACTORS = {"brightness": 1.3, "contrast": 0.6, "saturation": 1.7, "hue": 0.15}


def photograph():
  return datasets.load_sample_image("flower.jpg")[100:300:25, 200:400:25]


def operate(name, image, factor, rounded):
  """Applies torchvision's formula on float64 in [0, 1].

  Args:
    name: of the operation.
    image: `[H, W, 3]`.
    factor: a factor, or the turn of the hue.
    rounded: truncates to 256 levels, as torchvision does with uint8.
  """
  level = lambda x: np.floor(255 * x + 1e-9) / 255 if rounded else x
  grey = level(image @ [0.2989, 0.587, 0.114])[..., None]
  if name == "hue":
    turned = [
      colorsys.hsv_to_rgb((h + factor) % 1, s, v)
      for h, s, v in (colorsys.rgb_to_hsv(*x) for x in image.reshape(-1, 3))
    ]
    return level(np.reshape(turned, image.shape))
  other = {"brightness": 0, "contrast": grey.mean(), "saturation": grey}[name]
  return level(np.clip(factor * image + (1 - factor) * other, 0, 1))


def in_order(order, image, rounded=False):
  for name in order:
    image = operate(name, image, FACTORS[name], rounded)
  return image


def jitter(images, names=tuple(FACTORS)):
  """Uses ranges of one value, so that only the order is random."""
  fixed = {name: (FACTORS[name], FACTORS[name]) for name in names}
  return jax.jit(lambda x: augment.color_jitter(KEY, x, **fixed))(images)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8])
def test_every_order_is_drawn_and_equals_torchvision(dtype):
  """Floats within 2e-5; uint8, which torchvision truncates, within 6 levels."""
  image = photograph()
  orders = list(itertools.permutations(FACTORS))
  whole = dtype == jnp.uint8
  expected = np.stack([in_order(o, image / 255, whole) for o in orders])
  scale = 255 if whole else 1
  images = jnp.asarray(image if whole else image / 255, dtype)
  drawn = jitter(jnp.broadcast_to(images, (240, *image.shape)))
  error = np.abs(np.float64(drawn)[:, None] - scale * expected).max((2, 3, 4))
  assert error.min(1).max() <= (6 if whole else 2e-5)
  if not whole:  # Rounding makes some orders equal.
    counts = np.bincount(error.argmin(1), minlength=24)
    assert counts.min() > 0
    assert counts.max() < 30


@pytest.mark.parametrize("name", FACTORS)
def test_one_operation_alone_equals_torchvision(name):
  image = photograph()
  expected = in_order([name], image / 255)
  actual = jitter(jnp.asarray(image / 255, jnp.float32), [name])
  np.testing.assert_allclose(actual, expected, atol=2e-6)


def test_numbers_are_the_ranges_of_torchvision():
  grey = jnp.full((400, 2, 2, 3), 0.3)
  factors = augment.color_jitter(KEY, grey, 0.4)[:, 0, 0, 0] / 0.3
  assert 0.6 <= factors.min() < 0.62
  assert 1.38 < factors.max() <= 1.4 + 1e-6
  factors = augment.color_jitter(KEY, grey, 1.5)[:, 0, 0, 0] / 0.3
  assert 0 <= factors.min() < 0.05
  assert 2.4 < factors.max() <= 2.5 + 1e-6
  red = jnp.tile(jnp.array([0.8, 0.2, 0.2]), (400, 2, 2, 1))
  turned = np.asarray(augment.color_jitter(KEY, red, hue=0.1)[:, 0, 0])
  hues = np.array([colorsys.rgb_to_hsv(*x)[0] for x in turned])
  hues = (hues + 0.5) % 1 - 0.5
  assert -0.1 - 1e-6 <= hues.min() < -0.09
  assert 0.09 < hues.max() <= 0.1 + 1e-6


def test_operations_that_are_off_change_no_bit():
  for images in (photograph(), np.float32(photograph() / 255)):
    np.testing.assert_array_equal(augment.color_jitter(KEY, images), images)
