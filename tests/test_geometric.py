import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mixaug_jax import augment

KEY = jax.random.key(7)
RANDOM = {
  "flip_left_right": augment.random_flip_left_right,
  "flip_up_down": augment.random_flip_up_down,
  "crop": lambda k, x: augment.random_crop(k, x, (5, 6), 3),
  "resized_crop": lambda k, x: augment.random_resized_crop(k, x, 6),
  "rotation": lambda k, x: augment.random_rotation(k, x, 90),
  "erasing": augment.random_erasing,
}
every_operation = pytest.mark.parametrize("name", RANDOM)


def noise(shape, dtype=jnp.uint8, seed=0):
  levels = np.random.default_rng(seed).integers(0, 256, shape)
  scale = 1 if dtype == jnp.uint8 else 255
  return jnp.asarray(levels / scale, dtype)


@every_operation
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_examples_draw_for_themselves(name, dtype):
  operation = jax.jit(RANDOM[name])
  images = noise((6, 9, 11, 3), dtype)
  together = operation(KEY, images)
  assert together.dtype == dtype
  keys = jax.random.split(KEY, 6)
  # A tie of rounding may fall differently in another program.
  alone = jax.jit(jax.vmap(RANDOM[name]))(keys, images)
  tolerance = 1 if dtype == jnp.uint8 else 1e-6
  np.testing.assert_allclose(together, alone, atol=tolerance)
  others = images.at[1:].set(images[1:][::-1])
  chex.assert_trees_all_equal(operation(KEY, others)[0], together[0])
  same = operation(KEY, jnp.broadcast_to(images[0], images.shape))
  assert len({np.asarray(x).tobytes() for x in same}) > 1
  one = jax.eval_shape(RANDOM[name], KEY, images[0])
  assert one.shape == together.shape[1:]
  if dtype == jnp.float32:
    assert -1e-6 <= together.min() <= together.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", ["flip_left_right", "flip_up_down"])
def test_flips_equal_tf_image(name):
  tf = pytest.importorskip("tensorflow")
  images = noise((2, 5, 6, 3))
  np.testing.assert_array_equal(
    getattr(augment, name)(images), getattr(tf.image, name)(images)
  )


def test_flips_happen_with_their_probability():
  images = jnp.broadcast_to(noise((1, 2, 3)), (2000, 1, 2, 3))
  flipped = augment.random_flip_left_right(KEY, images, 0.3)
  share = (flipped != images).any((1, 2, 3)).mean()
  assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2000)


def test_central_crop_equals_tf_image():
  tf = pytest.importorskip("tensorflow")
  images = noise((2, 8, 8, 3))
  np.testing.assert_array_equal(
    augment.central_crop(images, 4), tf.image.central_crop(images, 0.5)
  )


@hypothesis.given(
  st.integers(0, 2**31 - 1), st.sampled_from([0, 2]), st.sampled_from([5, 7])
)
def test_a_crop_is_a_window_of_the_padded_image(seed, padding, size):
  image = noise((7, 8, 3), seed=seed)
  crop = augment.random_crop(jax.random.key(seed), image, size, padding)
  around = ((padding, padding), (padding, padding), (0, 0))
  padded = np.pad(image, around, "reflect")
  windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size, 3))
  assert (windows == np.asarray(crop)).all((-1, -2, -3)).any()


def test_every_place_of_a_crop_comes_up():
  image = jnp.arange(16.0).reshape(4, 4, 1)
  images = jnp.broadcast_to(image, (900, 4, 4, 1))
  corners = augment.random_crop(KEY, images, 2)[:, 0, 0, 0]
  counts = np.bincount(np.asarray(corners, int), minlength=16)
  places = counts.reshape(4, 4)[:3, :3]
  assert places.sum() == 900
  assert np.abs(places - 100).max() < 50


def test_the_whole_image_resized_equals_jax_image():
  images = noise((2, 24, 17, 3), jnp.float32)
  for size in ((24, 17), (12, 9), (40, 33)):
    ours = augment.crop_and_resize(images, 0, 0, 24, 17, size)
    theirs = jax.image.resize(images, (2, *size, 3), "bilinear")
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_window_resized_equals_the_crop_resized():
  """Pixels outside of the window have no weight."""
  image = noise((20, 20, 3), jnp.float32)
  ours = augment.crop_and_resize(image, 3, 5, 9, 12, 8)
  theirs = jax.image.resize(image[3:12, 5:17], (8, 8, 3), "bilinear")
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_resized_crops_keep_area_and_aspect():
  """On a ramp of coordinates, the slope of a crop gives its size."""
  y, x = jnp.meshgrid(jnp.arange(64.0), jnp.arange(64.0), indexing="ij")
  images = jnp.broadcast_to(jnp.stack([y, x], -1), (300, 64, 64, 2))
  crops = augment.random_resized_crop(KEY, images, 16, 0.2, 0.5, 0.5, 2.0)
  # A window beyond the border would end in a fall.
  assert (jnp.diff(crops[..., 0], axis=1) > 0).all()
  assert (jnp.diff(crops[..., 1], axis=2) > 0).all()
  spread = crops[:, -4, -4] - crops[:, 3, 3]
  height, width = spread[:, 0] * 16 / 9, spread[:, 1] * 16 / 9
  area, aspect = height * width / 64**2, width / height
  assert area.min() > 0.19
  assert area.max() < 0.51
  assert 0.47 < aspect.min() < 0.6
  assert 1.7 < aspect.max() < 2.12
  assert abs(area.mean() - 0.35) < 0.02


def test_quarter_turns_equal_rot90():
  images = noise((2, 9, 9, 3), jnp.float32)
  for turns in (1, 2, 3):
    np.testing.assert_allclose(
      augment.rotate(images, 90.0 * turns),
      jnp.rot90(images, turns, (1, 2)),
      atol=1e-4,
    )


def test_rotation_equals_pillow_inside():
  image_module = pytest.importorskip("PIL.Image")
  image = np.asarray(augment.central_crop(noise((40, 40, 3)), 40))
  smooth = np.asarray(
    image_module.fromarray(image).resize((80, 80), 3)
  )  # Noise would amplify differences of place in the last bit.
  theirs = image_module.fromarray(smooth).rotate(25, 2)
  ours = augment.rotate(jnp.asarray(smooth), 25.0)
  middle = slice(20, 60)
  difference = np.int32(ours) - np.int32(theirs)
  assert np.abs(difference[middle, middle]).max() <= 1


def test_erased_boxes_have_the_area_asked_for():
  images = jnp.full((400, 32, 32, 3), 2.0)
  erased = augment.random_erasing(KEY, images, 0.5, 0.1, 0.2)
  share = np.asarray((erased != images).all(-1).mean((1, 2)))
  hit = share > 0
  assert abs(hit.mean() - 0.5) < 5 * np.sqrt(0.25 / 400)
  assert 0.08 < share[hit].min() < share[hit].max() < 0.22
  noise_values = np.asarray(erased)[np.asarray(erased) != 2]
  assert abs(noise_values.mean() - 0.5) < 0.01
  assert abs(noise_values.std() - np.sqrt(1 / 12)) < 0.01


def test_erasing_noise_is_independent():
  """Of its neighbours and of other examples' noise."""
  erased = augment.random_erasing(
    KEY, jnp.zeros((50, 32, 32, 3)), 1.0, 1.0, 1.0, 1.0, 1.0
  )
  flat = np.asarray(erased).reshape(50, -1)
  for shift in (1, 3, 96):
    assert abs(np.corrcoef(flat[0, shift:], flat[0, :-shift])[0, 1]) < 0.1
  correlations = np.corrcoef(flat)[np.triu_indices(50, 1)]
  assert np.abs(correlations).max() < 0.1


@pytest.mark.parametrize(
  ("operation", "settings", "words"),
  [
    (augment.random_flip_left_right, {"probability": 1.2}, "probability"),
    (augment.random_flip_up_down, {"probability": -0.1}, "probability"),
    (augment.random_crop, {"size": 9}, "9x9 does not fit into 8x8"),
    (augment.random_crop, {"size": 8, "padding": 8}, "padding"),
    (augment.random_resized_crop, {"size": 4, "min_area": 0.0}, "min_area"),
    (
      augment.random_resized_crop,
      {"size": 4, "min_area": 0.9, "max_area": 0.5},
      "max_area",
    ),
    (
      augment.random_resized_crop,
      {"size": 4, "min_aspect": 2.0, "max_aspect": 1.0},
      "max_aspect",
    ),
    (augment.random_rotation, {"max_degrees": 200.0}, "max_degrees"),
    (augment.random_erasing, {"probability": 2.0}, "probability"),
    (augment.random_erasing, {"max_area": 1.5}, "max_area"),
  ],
)
def test_settings_out_of_range_are_reported(operation, settings, words):
  with pytest.raises(ValueError, match=words):
    operation(KEY, jnp.zeros((8, 8, 3)), **settings)


@every_operation
def test_a_wrong_rank_is_reported(name):
  with pytest.raises(ValueError, match="images must"):
    RANDOM[name](KEY, jnp.zeros((8, 8)))


def test_crops_compile_once_for_every_key():
  crop = jax.jit(functools.partial(augment.random_crop, size=4))
  for seed in range(3):
    crop(jax.random.key(seed), jnp.zeros((8, 8, 3)))
  assert crop._cache_size() == 1
