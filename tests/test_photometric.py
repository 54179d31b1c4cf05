import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn import datasets

from mixaug_jax import augment

ADJUSTMENTS = {
  "brightness": (-0.3, 0.0, 0.4),
  "contrast": (0.0, 0.6, 1.7),
  "hue": (-0.5, -0.13, 0.31, 0.5),
  "saturation": (0.0, 0.4, 1.0, 3.0),
}
RANDOM = (
  lambda k, x: augment.random_brightness(k, x, 0.3),
  lambda k, x: augment.random_contrast(k, x, 0.5, 1.5),
  lambda k, x: augment.random_hue(k, x, 0.4),
  lambda k, x: augment.random_saturation(k, x, 0.2, 2.0),
  lambda k, x: augment.random_grayscale(k, x, 0.5),
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
  ],
)
def test_settings_out_of_range_raise(operation, settings, words):
  with pytest.raises(ValueError, match=words):
    getattr(augment, operation)(
      jax.random.key(0), jnp.zeros((4, 4, 3)), *settings
    )


@pytest.mark.parametrize(
  "images",
  [jnp.zeros((4, 4)), jnp.zeros((4, 4, 3), int), jnp.zeros((2, 4, 4, 1))],
)
def test_invalid_images_raise(images):
  with pytest.raises(ValueError, match="images must"):
    augment.adjust_hue(images, 0.1)
