import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import augment

KEY = jax.random.key(7)
RANDOM = {
  "flip_left_right": augment.random_flip_left_right,
  "flip_up_down": augment.random_flip_up_down,
  "crop": lambda k, x: augment.random_crop(k, x, (5, 6), 3),
  "resized_crop": lambda k, x: augment.random_resized_crop(k, x, 6),
  "rotation": lambda k, x: augment.random_rotation(k, x, 90),
  "affine": lambda k, x: augment.random_affine(k, x, 90, 0.2, 0.5, 2, 20),
  "perspective": lambda k, x: augment.random_perspective(k, x, 0.5, 0.8),
  "elastic": lambda k, x: augment.random_elastic(k, x, 20, 2),
  "rot90": augment.random_rot90,
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


@pytest.mark.parametrize("dtype", ["bool", "uint16", "int32", "float16"])
def test_pixels_of_any_dtype_change_places(dtype):
  images = noise((2, 5, 5, 3)).astype(dtype)
  for operation, expected in (
    (augment.flip_left_right, images[:, :, ::-1]),
    (augment.flip_up_down, images[:, ::-1]),
    (augment.rot90, np.rot90(images, 1, (1, 2))),
  ):
    np.testing.assert_array_equal(operation(images), expected)
    assert operation(images).dtype == dtype


@pytest.mark.parametrize("k", [-1, 0, 1, 2, 3, 6, np.int64(1)])
def test_rot90_equals_tf_image(k):
  tf = pytest.importorskip("tensorflow")
  for images in (noise((2, 5, 6, 3)), noise((6, 5, 3)), noise((2, 5, 5, 3))):
    expected = tf.image.rot90(images, int(k))
    np.testing.assert_array_equal(augment.rot90(images, k), expected)
  np.testing.assert_array_equal(jax.jit(augment.rot90)(images, k), expected)


def test_each_example_may_have_its_own_quarter_turn():
  images = noise((5, 4, 4, 3))
  turned = augment.rot90(images, jnp.arange(5))
  for k in range(5):
    np.testing.assert_array_equal(turned[k], np.rot90(images[k], k))


@pytest.mark.parametrize(
  ("images", "k", "words"),
  [
    (jnp.zeros((2, 4, 4, 3)), 0.5, "k must be a whole number"),
    (jnp.zeros((2, 4, 4, 3)), jnp.zeros(2), "k must be whole numbers"),
    (jnp.zeros((2, 4, 4, 3)), jnp.arange(3), "k must be a scalar or"),
    (jnp.zeros((2, 4, 5, 3)), jnp.arange(2), "images that are not square"),
  ],
)
def test_turns_that_cannot_be_are_reported(images, k, words):
  with pytest.raises(ValueError, match=words):
    augment.rot90(images, k)


def test_all_quarter_turns_are_equally_likely():
  image = noise((3, 3, 1))
  turned = augment.random_rot90(KEY, jnp.broadcast_to(image, (800, 3, 3, 1)))
  shares = [
    np.mean((np.asarray(turned) == np.rot90(image, k)).all((1, 2, 3)))
    for k in range(4)
  ]
  np.testing.assert_allclose(shares, 0.25, atol=5 * np.sqrt(0.19 / 800))
  wide = noise((3, 4, 1))
  turned = augment.random_rot90(KEY, jnp.stack([wide] * 800), 0.3)
  half = (np.asarray(turned) == np.rot90(wide, 2)).all((1, 2, 3))
  kept = (np.asarray(turned) == wide).all((1, 2, 3))
  assert (half | kept).all()
  assert abs(half.mean() - 0.3) < 5 * np.sqrt(0.21 / 800)


def test_flips_happen_with_their_probability():
  images = jnp.broadcast_to(noise((1, 2, 3)), (2000, 1, 2, 3))
  flipped = augment.random_flip_left_right(KEY, images, 0.3)
  share = (flipped != images).any((1, 2, 3)).mean()
  assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2000)


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


@pytest.mark.parametrize(
  ("dtype", "least", "most"),
  [("uint8", 0, 255), ("uint16", 0, 255), ("int8", 0, 127), ("bool", 0, 1)],
)
def test_erasing_noise_covers_the_range_of_the_dtype(dtype, least, most):
  images = jnp.zeros((1, 32, 32, 3), dtype)
  erased = augment.random_erasing(KEY, images, 1.0, 1.0, 1.0, 1.0, 1.0)
  values = np.asarray(erased, int)
  assert (values.min(), values.max()) == (least, most)
  assert abs(values.mean() - (least + most) / 2) < 0.03 * most


def test_erasing_with_a_constant_changes_the_same_pixels():
  images = noise((20, 16, 16, 3), jnp.float32) + 2
  erased = augment.random_erasing(KEY, images)
  grey = augment.random_erasing(KEY, images, fill=0.25)
  np.testing.assert_array_equal(grey, jnp.where(erased != images, 0.25, images))


SETTINGS = {
  "flip": (augment.random_flip_left_right, (0.3,)),
  "rot90": (augment.random_rot90, (0.3,)),
  "erasing": (augment.random_erasing, (0.9, 0.1, 0.3, 0.5, 2.0, 0.4)),
  "resized_crop": (
    lambda k, x, *bounds: augment.random_resized_crop(k, x, 6, *bounds),
    (0.2, 0.8, 0.5, 2.0),
  ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_may_be_traced(name):
  operation, settings = SETTINGS[name]
  images = noise((4, 9, 9, 3), jnp.float32)
  np.testing.assert_allclose(
    jax.jit(operation)(KEY, images, *settings),
    operation(KEY, images, *settings),
    atol=1e-5,
  )


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
    (augment.random_erasing, {"probability": 2.0}, "probability"),
    (augment.random_erasing, {"max_area": 1.5}, "max_area"),
    (augment.random_erasing, {"min_aspect": 0.0}, "min_aspect"),
    (augment.random_erasing, {"fill": 1.5}, "fill"),
    (augment.random_rot90, {"probability": 1.5}, "probability"),
  ],
)
def test_settings_out_of_range_are_reported(operation, settings, words):
  with pytest.raises(ValueError, match=words):
    operation(KEY, jnp.zeros((8, 8, 3)), **settings)


@every_operation
def test_a_wrong_rank_is_reported(name):
  with pytest.raises(ValueError, match="images must"):
    RANDOM[name](KEY, jnp.zeros((8, 8)))
