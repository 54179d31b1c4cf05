import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from mixaug_jax import augment

QUALITIES = (10, 30, 50, 75, 95)
adjust = jax.jit(augment.adjust_jpeg_quality)


def photographs():
  """Returns crops of two photographs, two in three not multiples of 16."""
  parts = []
  for name in ("china.jpg", "flower.jpg"):
    image = datasets.load_sample_image(name)
    parts += [
      image[:224, :224],
      image[100:223, 200:357],
      image[50:147, 300:511],
    ]
  return parts


def psnr(x, y):
  error = np.mean(np.square(np.float64(x) - np.float64(y)))
  return 10 * np.log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize("quality", QUALITIES)
def test_output_is_close_to_libjpeg(quality):
  tf = pytest.importorskip("tensorflow")
  scores = [
    psnr(adjust(x, quality), tf.image.adjust_jpeg_quality(x, quality))
    for x in photographs()
  ]
  assert np.median(scores) >= 50
  assert min(scores) >= 45


def test_floats_are_coded_like_their_uint8_levels():
  tf = pytest.importorskip("tensorflow")
  values = photographs()[1].astype(np.float32) / 255
  ours = adjust(values, 50)
  theirs = tf.image.adjust_jpeg_quality(values, 50)
  assert ours.dtype == jnp.float32
  assert psnr(255 * ours, 255 * theirs) >= 45
  levels = adjust(photographs()[1], 50)
  np.testing.assert_allclose(255 * ours, np.float32(levels), atol=1e-3)


def test_a_lower_quality_loses_more():
  image = photographs()[0]
  kept = [psnr(adjust(image, quality), image) for quality in (5, *QUALITIES)]
  assert (np.diff(kept) > 0).all()


def test_each_example_uses_its_own_quality():
  images = jnp.asarray(np.stack([photographs()[0][:33, :50]] * 3))
  together = adjust(images, jnp.array([10, 50, 90]))
  for image, quality, coded in zip(images, (10, 50, 90), together, strict=True):
    chex.assert_trees_all_equal(adjust(image, quality), coded)


def test_a_quality_for_each_pixel_is_refused():
  images = jnp.zeros((2, 8, 8, 3))
  for wrong in (jnp.ones(3), jnp.ones((2, 1)), jnp.ones((2, 8, 8, 3))):
    with pytest.raises(ValueError, match=r"jpeg_quality must be a scalar or "):
      adjust(images, wrong)


@pytest.mark.parametrize("quality", [10, 75])
def test_one_channel_is_coded_as_tf_image(quality):
  tf = pytest.importorskip("tensorflow")
  image = photographs()[1].mean(-1, keepdims=True).astype(np.uint8)
  theirs = tf.image.adjust_jpeg_quality(image, quality)
  assert psnr(adjust(image, quality), theirs) >= 45


def test_quality_zero_equals_quality_one():
  image = photographs()[2]
  chex.assert_trees_all_equal(adjust(image, 0), adjust(image, 1))


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 5)])
def test_a_uniform_image_is_unchanged(shape):
  image = jnp.full((*shape, 3), 128, jnp.uint8)
  chex.assert_trees_all_equal(adjust(image, 75), image)


def test_random_quality_stays_in_its_range():
  images = jnp.asarray(np.stack([photographs()[0][:32, :32]] * 40))
  coded = jax.jit(lambda key: augment.random_jpeg_quality(key, images, 30, 33))(
    jax.random.key(0)
  )
  expected = [np.asarray(adjust(images[0], q)).tobytes() for q in range(30, 34)]
  assert {np.asarray(x).tobytes() for x in coded} == set(expected)


@pytest.mark.parametrize("bounds", [(50, 101), (-1, 50), (60, 50)])
def test_qualities_out_of_range_raise(bounds):
  with pytest.raises(ValueError, match="min_jpeg_quality"):
    augment.random_jpeg_quality(
      jax.random.key(0), jnp.zeros((8, 8, 3)), *bounds
    )


@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (20, 5), (24, 24)])
def test_sides_of_few_pixels_and_even_heights_are_coded_as_tf_image(shape):
  tf = pytest.importorskip("tensorflow")
  image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  theirs = tf.image.adjust_jpeg_quality(image, 30)
  assert psnr(adjust(image, 30), theirs) >= 45
