import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_cases import PHOTOMETRIC
from hypothesis import strategies as st
from sklearn import datasets

from mixaug_jax import augment

ADJUSTMENTS = {
  "brightness": (-0.3, 0.0, 0.4),
  "contrast": (0.0, 0.6, 1.7),
  "gamma": (0.0, 0.4, 1.0, 2.2),
  "hue": (-0.5, -0.13, 0.31, 0.5),
  "saturation": (0.0, 0.4, 1.0, 3.0),
}
RANDOM = (
  lambda k, x: augment.random_brightness(k, x, 0.3),
  lambda k, x: augment.random_contrast(k, x, 0.5, 1.5),
  lambda k, x: augment.random_hue(k, x, 0.4),
  lambda k, x: augment.random_saturation(k, x, 0.2, 2.0),
  lambda k, x: augment.random_grayscale(k, x, 0.5),
  lambda k, x: augment.random_sharpness(k, x, 0.0, 2.0),
  lambda k, x: augment.random_gaussian_blur(k, x, 5, probability=0.5),
  lambda k, x: augment.random_gaussian_noise(k, x, 0.2),
  lambda k, x: augment.color_jitter(k, x, 0.4, 0.4, 0.4, 0.2),
)


def noise(shape=(13, 8, 3), seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pictures():
  """Returns a photograph, noise, and greys, whose hue is not defined."""
  photograph = datasets.load_sample_image("flower.jpg")[::4, ::4]
  greys = np.repeat(np.arange(240, dtype=np.uint8).reshape(16, 15, 1), 3, -1)
  return {"photograph": photograph, "noise": noise(), "greys": greys}


@pytest.mark.parametrize("name", ADJUSTMENTS)
@pytest.mark.parametrize("picture", ["photograph", "noise", "greys"])
def test_adjustments_equal_tf_image(name, picture):
  tf = pytest.importorskip("tensorflow")
  levels = pictures()[picture]
  ours = jax.jit(getattr(augment, f"adjust_{name}"))
  theirs = getattr(tf.image, f"adjust_{name}")
  values = levels.astype(np.float32) / 255
  for setting in ADJUSTMENTS[name]:
    np.testing.assert_allclose(
      ours(values, setting), theirs(values, setting), atol=1e-5
    )
    difference = np.int32(ours(levels, setting)) - theirs(levels, setting)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("name", ["hue", "saturation"])
def test_negative_and_mixed_values_equal_tf_image(name):
  tf = pytest.importorskip("tensorflow")
  values = np.random.default_rng(0).uniform(-1, 1, (30, 9, 3))
  values[:9] = -np.abs(values[:9])  # No positive channel.
  values[9:12] = 0
  values[12:15, :, 0] = 0
  values = values.astype(np.float32)
  for setting in ADJUSTMENTS[name]:
    ours = getattr(augment, f"adjust_{name}")(values, setting)
    theirs = getattr(tf.image, f"adjust_{name}")(values, setting)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_the_gain_of_gamma_equals_tf_image():
  tf = pytest.importorskip("tensorflow")
  difference = np.int32(augment.adjust_gamma(noise(), 1.3, 1.4)) - np.int32(
    tf.image.adjust_gamma(noise(), 1.3, 1.4)
  )
  assert np.abs(difference).max() <= 1


BY_EXAMPLE = {
  "adjust_brightness": (-0.2, 0.0, 0.3),
  "adjust_contrast": (0.0, 0.7, 1.6),
  "adjust_gamma": (0.5, 1.0, 2.0),
  "adjust_hue": (-0.4, 0.0, 0.2),
  "adjust_saturation": (0.0, 0.7, 1.6),
  "adjust_sharpness": (0.0, 1.0, 2.0),
  "posterize": (1, 3, 8),
  "solarize": (0.1, 0.5, 1.0),
}


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_settings_by_example_equal_each_example_alone(name):
  """On as many examples as channels, rows and columns."""
  operation, settings = getattr(augment, name), jnp.array(BY_EXAMPLE[name])
  images = jnp.asarray(noise((3, 3, 3, 3)))
  for traced in (operation, jax.jit(operation)):
    together = traced(images, settings)
    for image, setting, one in zip(images, settings, together, strict=True):
      chex.assert_trees_all_equal(operation(image, setting), one)
  for wrong in (settings[:2], settings[:1], settings[:, None]):
    with pytest.raises(ValueError, match=r"must be a scalar or \[3\], got"):
      operation(images, wrong)
  with pytest.raises(ValueError, match="must be a scalar, got"):
    operation(images[0], settings)


COLOURED = [
  x for x in PHOTOMETRIC if x.endswith(("grayscale", "hue", "saturation"))
]
# The other random operations apply one of these.
OWN = frozenset(x for x in PHOTOMETRIC if not x.startswith("random"))
OWN |= {"random_gaussian_noise"}


@functools.partial(jax.jit, static_argnums=0)
def of_each(names, images):
  return {n: PHOTOMETRIC[n](jax.random.key(2), images, None) for n in names}


def test_alpha_is_not_changed_and_changes_nothing():
  images = jnp.asarray(noise((2, 8, 9, 4)))
  with_alpha, without = of_each(OWN, images), of_each(OWN, images[..., :3])
  for name, changed in with_alpha.items():
    chex.assert_trees_all_equal(changed[..., 3], images[..., 3])
    difference = np.int32(changed[..., :3]) - without[name]
    assert np.abs(difference).max() <= 1, name


def test_one_channel_is_that_channel_of_three():
  """Saturation and hue leave grey images as they are."""
  images = jnp.asarray(noise((2, 8, 9, 1)))
  names = OWN - {*COLOURED, "random_gaussian_noise", "adjust_jpeg_quality"}
  three = of_each(OWN, jnp.repeat(images, 3, -1))
  for name, changed in of_each(names, images).items():
    assert changed.shape == images.shape
    difference = np.int32(three[name]) - changed
    assert np.abs(difference).max() <= 1, name


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_other_channels_are_refused(name):
  wrong = [2, 5] + [1] * (name in COLOURED)
  for channels in wrong:
    with pytest.raises(ValueError, match="the last axis of images must have"):
      PHOTOMETRIC[name](jax.random.key(0), jnp.ones((2, 8, 9, channels)), None)


def test_traced_settings_equal_known_ones():
  """So that a schedule can change them without compiling."""
  key, images = jax.random.key(3), jnp.asarray(noise((2, 8, 9, 3)) / 255)
  run = lambda x: [
    augment.random_brightness(key, images, x),
    augment.random_contrast(key, images, 1 - x, 1 + x),
    augment.random_gamma(key, images, 1 - x, 1 + x),
    augment.random_hue(key, images, x),
    augment.random_sharpness(key, images, 1 - x, 1 + x),
    augment.random_solarize(key, images, x, x),
    augment.random_posterize(key, images, 6 * x, x),
    augment.random_gaussian_blur(key, images, 5, x, 2 * x, x),
    augment.random_gaussian_noise(key, images, x, x),
    augment.color_jitter(key, images, x, (x, 2 * x), x, (-x, x)),
  ]
  for traced, known in zip(jax.jit(run)(0.5), run(0.5), strict=True):
    np.testing.assert_allclose(traced, known, atol=1e-5)
    assert (np.abs(known - images).max((1, 2, 3)) > 1e-3).any()


@pytest.mark.parametrize("picture", ["photograph", "noise"])
def test_grayscale_equals_tf_image(picture):
  tf = pytest.importorskip("tensorflow")
  levels = pictures()[picture]
  values = levels.astype(np.float32) / 255
  ours = augment.rgb_to_grayscale
  expected = np.repeat(tf.image.rgb_to_grayscale(values), 3, -1)
  np.testing.assert_allclose(ours(jnp.asarray(values)), expected, atol=1e-5)
  expected = np.repeat(tf.image.rgb_to_grayscale(levels), 3, -1)
  difference = np.int32(ours(jnp.asarray(levels))) - expected
  assert np.abs(difference).max() <= 1


@hypothesis.given(
  st.integers(0, 2**31 - 1), st.floats(0, 4), st.floats(-0.5, 0.5)
)
def test_colours_stay_in_range(seed, factor, delta):
  values = jnp.asarray(noise(seed=seed) / 255, jnp.float32)
  for adjusted in (
    augment.adjust_saturation(values, factor),
    augment.adjust_hue(values, delta),
  ):
    assert -1e-6 <= adjusted.min() <= adjusted.max() <= 1 + 1e-6


@hypothesis.given(st.integers(0, 2**31 - 1), st.floats(-0.5, 0.5))
def test_a_hue_rotation_can_be_reversed(seed, delta):
  values = jnp.asarray(noise(seed=seed) / 255, jnp.float32)
  turned = augment.adjust_hue(augment.adjust_hue(values, delta), -delta)
  np.testing.assert_allclose(turned, values, atol=1e-5)


@pytest.mark.parametrize("operation", RANDOM)
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_each_example_draws_independently(operation, dtype):
  levels = noise((4, 9, 7, 3))
  scale = 1 if dtype == jnp.uint8 else 255
  images = jnp.asarray(levels / scale, dtype)
  key = jax.random.key(11)
  together = operation(key, images)
  assert (together.shape, together.dtype) == (images.shape, dtype)
  # A batch equals a vmap over its images; the other images have no effect.
  keys = jax.random.split(key, 4)
  chex.assert_trees_all_equal(together, jax.vmap(operation)(keys, images))
  others = images.at[1:].set(images[1:][::-1])
  chex.assert_trees_all_equal(operation(key, others)[0], together[0])
  same = operation(key, jnp.broadcast_to(images[0], images.shape))
  assert len({np.asarray(x, np.float32).tobytes() for x in same}) > 1


@pytest.mark.parametrize("operation", RANDOM)
def test_gradients_are_finite_on_greys(operation):
  greys = jnp.full((4, 4, 3), 0.5)
  total = lambda x: operation(jax.random.key(0), x).sum()
  assert np.isfinite(jax.grad(total)(greys)).all()


@pytest.mark.parametrize(
  ("operation", "settings", "words"),
  [
    ("random_brightness", (-0.1,), "max_delta"),
    ("random_contrast", (1.5, 0.5), "lower and upper"),
    ("random_contrast", (-0.5, 0.5), "lower and upper"),
    ("random_hue", (0.6,), r"max_delta must be in \[0, 0.5\], got 0.6"),
    ("random_saturation", (2.0, 1.0), "lower and upper"),
    ("random_grayscale", (1.2,), "probability"),
    ("random_gamma", (-1.0, 1.0), "lower and upper"),
    ("random_sharpness", (1.5, 0.5), "lower and upper"),
    ("random_invert", (1.2,), "probability"),
    ("random_solarize", (128,), r"threshold must be in \[0, 1\], got 128"),
    ("random_posterize", (9,), "bits must be a whole number from 0 to 8"),
    ("random_gaussian_noise", (-0.1,), "stddev must be at least 0"),
    ("random_gaussian_blur", (4,), "kernel_size must be odd"),
    ("random_gaussian_blur", (9,), "kernel_size must be a whole number"),
    ("random_gaussian_blur", (3, 0.0), "min_sigma must be above 0"),
    ("random_gaussian_blur", (3, 2.0, 1.0), "min_sigma and max_sigma"),
    ("color_jitter", (-0.1,), "brightness must be at least 0"),
    ("color_jitter", (0, (0.9, 0.1)), r"contrast\[0\] and contrast\[1\]"),
    ("color_jitter", (0, 0, 0, 0.6), r"hue must be in \[0, 0.5\]"),
  ],
)
def test_settings_out_of_range_raise(operation, settings, words):
  with pytest.raises(ValueError, match=words):
    getattr(augment, operation)(
      jax.random.key(0), jnp.zeros((4, 4, 3)), *settings
    )


@pytest.mark.parametrize(
  "images",
  [
    jnp.zeros((4, 4)),
    jnp.zeros((4, 4, 3), int),
    jnp.zeros((2, 4, 4, 1)),
    jnp.zeros((2, 2, 4, 4, 3)),
  ],
)
@pytest.mark.parametrize("name", COLOURED)
def test_invalid_images_raise(images, name):
  with pytest.raises(ValueError, match="images must"):
    PHOTOMETRIC[name](jax.random.key(0), images, None)


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_other_ranks_are_refused(name):
  for shape in ((8, 3), (2, 2, 8, 8, 3)):
    with pytest.raises(ValueError, match=r"images must be .* got shape"):
      PHOTOMETRIC[name](jax.random.key(0), jnp.zeros(shape), None)
