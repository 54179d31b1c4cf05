import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from mixaug_jax import augment
from mixaug_jax.augment import policies

KEY = jax.random.key(5)
POLICIES = (augment.trivial_augment, augment.rand_augment)
every_policy = pytest.mark.parametrize("policy", POLICIES)
apply = jax.jit(policies.apply_operation)


def photograph():
  return datasets.load_sample_image("china.jpg")[100:223, 100:257]


def operate(name, value, image):
  index = policies.OPERATIONS.index(name)
  return np.int32(apply(image, jnp.int32(index), jnp.float32(value)))


def pillow(name, value, image):
  """Applies an operation with Pillow."""
  from PIL import Image, ImageEnhance, ImageOps

  picture = Image.fromarray(image)
  affine = {
    "translate_x": (1, 0, value, 0, 1, 0),
    "translate_y": (1, 0, 0, 0, 1, value),
  }
  if name in affine:
    place, grey = Image.Transform.AFFINE, (128, 128, 128)
    return picture.transform(
      picture.size, place, affine[name], Image.BILINEAR, fillcolor=grey
    )
  enhance = getattr(ImageEnhance, name.title(), None)
  if enhance is not None:
    return enhance(picture).enhance(1 + value)
  function = getattr(ImageOps, name.replace("_", ""))
  takes_value = name in ("posterize", "solarize")
  return function(picture, *([int(value)] if takes_value else []))


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("brightness", 0.5),
    ("brightness", -0.9),
    ("color", -0.6),
    ("color", 0.9),
    ("contrast", 0.7),
    ("contrast", -0.5),
    ("sharpness", 0.9),
    ("sharpness", -0.9),
    ("posterize", 3),
    ("posterize", 8),
    ("solarize", 100),
    ("auto_contrast", 0),
    ("equalize", 0),
    ("translate_x", 20),
    ("translate_y", -7),
  ],
)
def test_operations_equal_pillow(name, value):
  pytest.importorskip("PIL")
  image = photograph()
  expected = np.asarray(pillow(name, value, image))
  assert np.abs(operate(name, value, image) - expected).max() <= 1


def test_identity_and_zero_strength_change_nothing():
  image = photograph()
  for name in ("identity", "shear_x", "shear_y", "rotate", "translate_x"):
    np.testing.assert_array_equal(operate(name, 0, image), image)


def test_shears_move_rows_and_columns_about_the_middle():
  image = np.zeros((21, 21, 3), np.uint8)
  image[:, 10] = 255
  sheared = operate("shear_x", 0.5, image)[..., 0]
  assert [int(sheared[y].argmax()) for y in (8, 10, 12)] == [11, 10, 9]
  np.testing.assert_array_equal(
    operate("shear_y", 0.5, image.swapaxes(0, 1))[..., 0], sheared.T
  )


def test_rotation_turns_as_rotate_does():
  image = photograph()
  np.testing.assert_allclose(
    operate("rotate", np.radians(25), image),
    np.int32(augment.rotate(jnp.asarray(image), 25.0)),
    atol=1,
  )


@every_policy
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_examples_draw_for_themselves(policy, dtype):
  scale = 1 if dtype == jnp.uint8 else 255
  image = jnp.asarray(photograph()[::4, ::4] / scale, dtype)
  images = jnp.stack([image, image[::-1], image[:, ::-1], *[image] * 9])
  run = jax.jit(policy)
  together = run(KEY, images)
  assert (together.shape, together.dtype) == (images.shape, dtype)
  assert together.min() >= 0
  assert together.max() <= (255 if scale == 1 else 1)
  others = images.at[1:].set(images[1:][::-1])
  chex.assert_trees_all_equal(run(KEY, others)[0], together[0])
  chex.assert_trees_all_equal(run(KEY, images), together)
  assert len({np.asarray(x).tobytes() for x in together}) > 6


@every_policy
def test_mapped_and_vmapped_are_the_same(policy, monkeypatch):
  """CPUs map over the examples, GPUs and TPUs vmap."""
  images = jnp.asarray(np.stack([photograph()[::4, ::4]] * 12))
  mapped = jax.jit(policy)(KEY, images)
  monkeypatch.setattr(
    policies, "_each", lambda function, *args: jax.vmap(function)(*args)
  )
  vmapped = jax.jit(lambda *args: policy(*args))(KEY, images)
  np.testing.assert_allclose(np.int32(mapped), np.int32(vmapped), atol=1)


def test_every_operation_comes_up_equally_often():
  """Repeats the draw of an operation with its key."""
  draw = lambda key: jax.random.randint(
    jax.random.split(jax.random.split(key)[0])[0], (), 0, 14
  )
  keys = jax.random.split(KEY, 4000)
  counts = np.bincount(jax.vmap(draw)(keys), minlength=14)
  assert np.abs(counts - 4000 / 14).max() < 5 * np.sqrt(4000 / 14)


def test_rand_augment_at_magnitude_zero_is_gentle():
  """Only auto-contrast and equalise, which have no strength, change images."""
  image = jnp.asarray(photograph()[::4, ::4])
  images = jnp.stack([image] * 60)
  same = augment.rand_augment(KEY, images, 1, 0) == image
  share = float(same.all((1, 2, 3)).mean())
  assert abs(share - 12 / 14) < 5 * np.sqrt(12 / 14 * 2 / 14 / 60)


@pytest.mark.parametrize(
  ("settings", "words"),
  [
    ({"num_layers": 0}, "num_layers must be a whole number"),
    ({"num_layers": 1.5}, "num_layers"),
    ({"magnitude": 31}, "magnitude must be a whole number from 0 to 30"),
    ({"magnitude": -1}, "magnitude"),
  ],
)
def test_settings_out_of_range_are_reported(settings, words):
  with pytest.raises(ValueError, match=words):
    augment.rand_augment(KEY, jnp.zeros((4, 4, 3)), **settings)


@every_policy
def test_a_wrong_number_of_channels_is_reported(policy):
  with pytest.raises(ValueError, match="3 channels"):
    policy(KEY, jnp.zeros((2, 4, 4, 1)))
