"""Filters against scipy and Pillow, and noise against its moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage, stats
from sklearn import datasets

from mixaug_jax import augment

KEY = jax.random.key(8)


def photograph():
  return datasets.load_sample_image("flower.jpg")[100:141, 200:237]


def noise(shape=(11, 9, 3)):
  return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def blurred(image, size, sigma):
  """Returns torchvision's formula: a kernel of points, reflected borders."""
  at = np.linspace(-(size - 1) / 2, (size - 1) / 2, size)
  kernel = np.exp(-0.5 * (at / sigma) ** 2)
  for axis in (0, 1):
    image = ndimage.correlate1d(
      np.float64(image), kernel / kernel.sum(), axis, mode="mirror"
    )
  return image


@pytest.mark.parametrize(
  ("size", "sigma"), [(1, 2.0), (3, 0.1), (5, 0.8), (9, 3.0), (17, 2.0)]
)
def test_gaussian_blur_equals_scipy(size, sigma):
  run = jax.jit(augment.gaussian_blur, static_argnums=1)
  for image in (photograph(), noise()):
    expected = blurred(image, size, sigma)
    values = run(np.float32(image / 255), size, sigma)
    np.testing.assert_allclose(values, expected / 255, atol=1e-6)
    # Rounded; a half may go either way.
    levels = np.float64(run(image, size, sigma))
    assert np.abs(levels - expected).max() <= 0.5 + 1e-3


def test_a_long_kernel_equals_the_gaussian_filter_of_scipy():
  image = np.float32(photograph() / 255)
  expected = ndimage.gaussian_filter(
    image, 1.5, radius=8, axes=(0, 1), mode="mirror"
  )
  np.testing.assert_allclose(
    augment.gaussian_blur(image, 17, 1.5), expected, atol=1e-5
  )


def test_each_example_is_blurred_by_its_own_sigma():
  """On as many examples as channels, rows and columns."""
  images = jnp.asarray(noise((3, 3, 3, 3)) / 255, jnp.float32)
  sigmas = jnp.array([0.3, 1.0, 4.0])
  together = augment.gaussian_blur(images, 3, sigmas)
  for image, sigma, one in zip(images, sigmas, together, strict=True):
    np.testing.assert_allclose(one, blurred(image, 3, sigma), atol=1e-6)
  with pytest.raises(ValueError, match="sigma must be above 0"):
    augment.gaussian_blur(images, 3, sigmas - 0.3)


def test_random_blur_draws_sigmas_and_examples():
  image = jnp.asarray(photograph()[:12, :12] / 255, jnp.float32)
  images = jnp.broadcast_to(image, (40, *image.shape))
  drawn = augment.random_gaussian_blur(KEY, images, 5, 0.5, 1.5, 0.5)
  spread = np.asarray(drawn.std((1, 2, 3)))
  kept = (drawn == image).all((1, 2, 3))
  assert 0.3 < kept.mean() < 0.7
  low, high = (blurred(image, 5, x).std() for x in (1.5, 0.5))
  changed = spread[~kept]
  assert low <= changed.min() < changed.max() <= high
  assert len(set(changed)) == len(changed)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.8])
def test_sharpness_equals_pillow(factor):
  """Within one level; floats are clipped, as torchvision's."""
  for image in (photograph(), noise()):
    expected = ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor)
    difference = np.int32(augment.adjust_sharpness(image, factor)) - expected
    assert np.abs(difference).max() <= 1
    values = augment.adjust_sharpness(np.float32(image / 255), factor)
    assert 0 <= values.min() <= values.max() <= 1
    assert np.abs(255 * values - np.int32(expected)).max() <= 1.5


def test_images_without_an_inside_stay_sharp():
  image = noise((2, 9, 3))
  np.testing.assert_array_equal(augment.adjust_sharpness(image, 0.0), image)


def test_noise_is_normal_and_drawn_for_each_value():
  images = jnp.full((3, 40, 40, 3), 0.5)
  noisy = augment.random_gaussian_noise(KEY, images, 0.2, 0.1, clip=False)
  added = np.asarray(noisy - images)
  for example in added:
    assert stats.kstest(example.ravel(), stats.norm(0.1, 0.2).cdf).pvalue > 0.01
  assert len(np.unique(added)) > 0.99 * added.size
  clipped = augment.random_gaussian_noise(KEY, images, 0.2, 0.1)
  np.testing.assert_array_equal(clipped, np.clip(noisy, 0, 1))
  levels = augment.random_gaussian_noise(
    KEY, jnp.full(images.shape, 128, jnp.uint8), 0.2, 0.1
  )
  expected = np.clip(np.round(128 + 255 * added), 0, 255)
  assert np.abs(np.int32(levels) - expected).max() <= 1
  still = augment.random_gaussian_noise(KEY, images, 0.0)
  np.testing.assert_array_equal(still, images)


def test_noise_of_each_example_has_its_own_deviation():
  images = jnp.full((3, 3, 3, 3), 0.5)
  stddev = jnp.array([0.0, 0.01, 0.1])
  added = augment.random_gaussian_noise(KEY, images, stddev) - images
  whole = augment.random_gaussian_noise(KEY, images, 0.1) - images
  np.testing.assert_allclose(added[2], whole[2], atol=1e-6)
  np.testing.assert_allclose(added[1], whole[1] / 10, atol=1e-6)
  assert not added[0].any()
