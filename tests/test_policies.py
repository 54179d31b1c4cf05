import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from sklearn import datasets

from mixaug_jax import augment
from mixaug_jax.augment import (
  autoaugment,
  enhance,
  level_tables,
  policies,
  policy_operations,
)
from mixaug_jax.augment.augmix_policy import draw_augmix

KEY = jax.random.key(5)
OPERATIONS = policy_operations.OPERATIONS
POLICIES = (
  augment.trivial_augment,
  augment.rand_augment,
  augment.auto_augment,
  augment.augmix,
)
every_policy = pytest.mark.parametrize("policy", POLICIES)
short_augmix = functools.partial(augment.augmix, width=2, depth=1)
apply = jax.jit(policy_operations.apply_operation)


def photograph():
  return datasets.load_sample_image("china.jpg")[100:223, 100:257]


def operate(name, value, image):
  index = OPERATIONS.index(name)
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
  settings = {"posterize": [int(value)], "solarize": [value]}
  return function(picture, *settings.get(name, []))


def reference(name, value, image):
  """Applies an operation with Pillow, or with SciPy if Pillow's differs.

  Pillow ends at the border of an image, and SciPy blends with the fill there.
  """
  if name == "identity":
    return image
  if name not in ("shear_x", "shear_y", "rotate"):
    return np.asarray(pillow(name, value, image))
  cos, sin = np.cos(value), np.sin(value)
  # On (y, x).
  matrix = {
    "shear_x": [[1, 0], [value, 1]],
    "shear_y": [[1, value], [0, 1]],
    "rotate": [[cos, sin], [-sin, cos]],
  }[name]
  middle = (np.array(image.shape[:2]) - 1) / 2
  warped = [
    ndimage.affine_transform(
      np.float32(image[..., channel]),
      matrix,
      middle - matrix @ middle,
      order=1,
      mode="grid-constant",
      cval=127.5,
    )
    for channel in range(3)
  ]
  return np.round(np.stack(warped, -1))


def replay(image, operations, values):
  """Applies drawn operations to a uint8 image; checks each by a reference."""
  for operation, value in zip(operations, values, strict=True):
    expected = reference(OPERATIONS[operation], float(value), image)
    image = np.asarray(apply(image, operation, value))
    assert np.abs(np.float32(image) - expected).max() <= 1
  return image


PHOTOMETRIC = [
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
  ("solarize", 0),
  ("auto_contrast", 0),
  ("equalize", 0),
]
GEOMETRIC = [
  ("translate_x", 20),
  ("translate_y", -7),
  ("shear_x", 0.3),
  ("shear_y", -0.7),
  ("rotate", 0.6),
  ("identity", 0),
]


@pytest.mark.parametrize(("name", "value"), PHOTOMETRIC + GEOMETRIC)
def test_operations_equal_pillow(name, value):
  pytest.importorskip("PIL")
  image = photograph()
  expected = np.float32(reference(name, value, image))
  assert np.abs(operate(name, value, image) - expected).max() <= 1


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_the_form_of_accelerators_equals_pillow(products, dtype):
  """GPUs index tables of levels, and TPUs multiply one-hot vectors."""
  pytest.importorskip("PIL")
  names, values = zip(*PHOTOMETRIC, *GEOMETRIC, strict=True)
  image = photograph()[::2, ::2].copy()
  scale = 1 if dtype == jnp.uint8 else 255
  images = jnp.stack([jnp.asarray(image / scale, dtype)] * len(names))
  numbers = jnp.array([OPERATIONS.index(name) for name in names])
  together = functools.partial(
    policy_operations.apply_together, products=products
  )
  results = jax.jit(together)(images, numbers, jnp.float32(jnp.array(values)))
  assert results.dtype == dtype
  for name, value, result in zip(names, values, results, strict=True):
    difference = np.float32(result) * scale - reference(name, value, image)
    assert np.abs(difference).max() <= (1 if scale == 1 else 1.5), name


def test_the_form_of_accelerators_keeps_flat_and_tiny_images():
  """Auto-contrast divides by the range, sharpness needs three pixels."""
  numbers = jnp.arange(len(OPERATIONS))
  values = jnp.where(numbers == OPERATIONS.index("posterize"), 4.0, 0.5)
  images = jnp.full((len(numbers), 2, 2, 3), 100, jnp.uint8)
  together = jax.jit(policy_operations.apply_together)
  one_by_one = jax.jit(jax.vmap(policy_operations.apply_operation))
  np.testing.assert_allclose(
    np.int32(together(images, numbers, values)),
    np.int32(one_by_one(images, numbers, values)),
    atol=1,
  )


@pytest.mark.parametrize("products", [False, True])
def test_both_forms_equalise_levels_out_of_range_alike(products):
  """The operations of tf.image leave floats beyond [0, 1]."""
  levels = jnp.asarray(photograph()[::4, ::4] * 1.4 - 50, jnp.float32)
  np.testing.assert_array_equal(
    level_tables.equalized(levels, products), enhance.equalize(levels, None)
  )


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


@pytest.mark.parametrize(
  ("policy", "dtype"),
  [
    (augment.trivial_augment, jnp.float32),
    (augment.rand_augment, jnp.uint8),
    (augment.rand_augment, jnp.float32),
    (augment.auto_augment, jnp.uint8),
    (short_augmix, jnp.uint8),
  ],
)
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


@pytest.mark.parametrize("policy", [augment.rand_augment, short_augmix])
def test_both_forms_are_the_same(policy, monkeypatch):
  """CPUs map over the examples; GPUs and TPUs compute them together."""
  images = jnp.asarray(np.stack([photograph()[::4, ::4]] * 12))
  mapped = jax.jit(policy)(KEY, images)
  monkeypatch.setattr(
    jax.lax,
    "platform_dependent",
    lambda *args, default, **forms: default(*args),
  )
  together = np.int32(jax.jit(lambda *args: policy(*args))(KEY, images))
  difference = np.abs(np.int32(mapped) - together)
  # A level next to a step of posterise or solarise may fall on its other side.
  assert np.percentile(difference, 99) <= 1


@pytest.mark.parametrize("policy", [augment.trivial_augment, short_augmix])
def test_gradients_are_finite(policy):
  images = jnp.asarray(np.stack([photograph()[::8, ::8]] * 4) / 255, "float32")
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(policy(KEY, x) ** 2)))(images)
  assert np.isfinite(gradient).all()
  assert (gradient != 0).any((1, 2, 3)).all()


def draw_of(function, **settings):
  """Returns operations and values for 4000 keys, without the images."""
  keys = jax.random.split(KEY, 4000)
  draw = functools.partial(function, **settings)
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(draw))(keys))


def near(share, expected):
  return abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / 4000)


def test_every_operation_comes_up_equally_often():
  for draw, settings in (
    (policies.draw_trivial_augment, {}),
    (
      policies.draw_rand_augment,
      {"height": 9, "width": 9, "num_layers": 1, "magnitude": 9},
    ),
  ):
    operations, values = draw_of(draw, **settings)
    counts = np.bincount(operations[:, 0], minlength=14)
    assert np.abs(counts - 4000 / 14).max() < 5 * np.sqrt(4000 / 14)
    signed = (operations >= 1) & (operations <= 9) & (values != 0)
    assert abs((values[signed] < 0).mean() - 0.5) < 0.05


@pytest.mark.parametrize("policy", ["imagenet", "svhn"])
def test_auto_augment_applies_its_draws(policy):
  """By Pillow and SciPy within one level for each operation."""
  pytest.importorskip("PIL")
  image = photograph()[::2, ::2].copy()
  keys = jax.random.split(KEY, 16)
  draw = lambda key: autoaugment.draw_auto_augment(
    key, *image.shape[:2], policy
  )
  operations, values = jax.jit(jax.vmap(draw))(keys)
  images = jnp.stack([jnp.asarray(image)] * 16)
  run = jax.jit(functools.partial(augment.auto_augment, policy=policy))
  results = run(KEY, images)
  for result, *steps in zip(results, operations, values, strict=True):
    np.testing.assert_allclose(
      np.int32(result), np.int32(replay(image, *steps)), atol=1
    )


@pytest.mark.parametrize(
  ("policy", "probabilities", "strengths", "equalized"),
  [
    ("imagenet", (13.8, 17.2), 159, 17),
    ("cifar10", (13.4, 13.1), 187, 9),
    ("svhn", (18.1, 14.8), 143, 6),
  ],
)
def test_the_tables_are_those_of_the_paper(
  policy, probabilities, strengths, equalized
):
  """Sums of the columns as DeepVoltaire's AutoAugment has them."""
  first, second = zip(*autoaugment.POLICIES[policy], strict=True)
  names, shares, bins = zip(*first, *second, strict=True)
  sums = sum(shares[:25]), sum(shares[25:])
  np.testing.assert_allclose(sums, probabilities)
  assert (sum(bins), names.count("equalize")) == (strengths, equalized)


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_auto_augment_draws_sub_policies_signs_and_probabilities(policy):
  """The share of each operation at each value follows from the table."""
  operations, values = draw_of(
    autoaugment.draw_auto_augment, height=331, width=662, policy=policy
  )
  rows = autoaugment.POLICIES[policy]
  assert len(rows) == 25
  bins = np.arange(10)
  ranges = {
    "rotate": np.radians(30) * bins / 9,
    "solarize": 255 * (1 - bins / 9),
    "posterize": [8, 8, 7, 7, 6, 6, 5, 5, 4, 4],
    "translate_x": np.floor(300 * bins / 9 + 1e-9),
    "translate_y": np.floor(150 * bins / 9 + 1e-9),
    "invert": [0] * 10,
    "equalize": [0] * 10,
    "auto_contrast": [0] * 10,
  }
  ranges |= {name: 0.3 * bins / 9 for name in ("shear_x", "shear_y")}
  ranges |= {
    name: 0.9 * bins / 9
    for name in ("brightness", "color", "contrast", "sharpness")
  }
  for place in (0, 1):
    expected = {}
    for row in rows:
      name, probability, strength = row[place]
      value = round(float(ranges[name][strength]), 3)
      name = "solarize" if name == "invert" else name
      key = (OPERATIONS.index(name), value)
      expected[key] = expected.get(key, 0) + probability / 25
    expected[0, 0] = 1 - sum(expected.values())
    drawn = np.where(operations[:, place] == 0, 0, values[:, place])
    pairs = zip(operations[:, place], np.abs(drawn).round(3), strict=True)
    pairs = [(int(number), round(float(size), 3)) for number, size in pairs]
    assert set(pairs) <= {key for key, share in expected.items() if share}
    for key, share in expected.items():
      assert near(pairs.count(key) / 4000, share), key
    signed = (operations[:, place] <= 9) & (drawn != 0)
    if signed.sum() > 100:
      assert abs((drawn[signed] < 0).mean() - 0.5) < 0.1


def augmix_draw(**settings):
  settings = {
    "height": 62,
    "columns": 79,
    "severity": 3,
    "width": 3,
    "depth": -1,
    "alpha": 1.0,
    "all_operations": True,
  } | settings
  return functools.partial(draw_augmix, **settings)


@pytest.mark.parametrize(("dtype", "depth"), [(jnp.uint8, 2), (jnp.float32, 1)])
def test_augmix_mixes_its_chains(dtype, depth):
  """By Pillow and SciPy within one level for each operation."""
  pytest.importorskip("PIL")
  image = photograph()[::2, ::2].copy()
  settings = {"width": 2, "depth": depth}
  drawn = jax.jit(jax.vmap(augmix_draw(**settings)))(jax.random.split(KEY, 6))
  scale = 1 if dtype == jnp.uint8 else 255
  images = jnp.stack([jnp.asarray(image / scale, dtype)] * 6)
  results = jax.jit(functools.partial(augment.augmix, **settings))(KEY, images)
  assert results.dtype == dtype
  for result, weights, *chains in zip(results, *drawn, strict=True):
    pixels = [image, *(replay(image, *x) for x in zip(*chains, strict=True))]
    expected = np.einsum("i,ihwc->hwc", weights, np.float32(pixels))
    difference = np.float32(result) * scale - expected
    # Half a level by rounding: of the result, or of each chain.
    assert np.abs(difference).max() <= 0.51


def test_augmix_draws_weights_depths_and_strengths():
  weights, operations, values = draw_of(augmix_draw())
  np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
  # Of Beta(1, 1), and of a Dirichlet distribution of three ones.
  assert abs(weights[:, 0].mean() - 0.5) < 5 * np.sqrt(1 / 12 / 4000)
  assert abs(weights[:, 0].var() - 1 / 12) < 0.005
  inner = weights[:, 1:] / (1 - weights[:, :1])
  np.testing.assert_allclose(inner.mean(0), 1 / 3, atol=0.02)
  np.testing.assert_allclose(inner.var(0), 1 / 18, atol=0.005)
  depths = (operations > 0).sum(2)
  for depth in (1, 2, 3):
    assert near((depths == depth).mean(), 1 / 3)
  # After its end a chain has identities alone.
  assert ((operations > 0) == (np.arange(3) < depths[..., None])).all()
  counts = np.bincount(operations[operations > 0], minlength=14)[1:]
  assert np.abs(counts / counts.sum() - 1 / 13).max() < 0.01
  degrees = np.degrees(np.abs(values[operations == OPERATIONS.index("rotate")]))
  np.testing.assert_allclose(np.unique(degrees.round(2)), [0, 3.33, 6.67])
  bits = values[operations == OPERATIONS.index("posterize")]
  assert set(np.unique(bits)) == {3, 4}
  pixels = np.abs(values[operations == OPERATIONS.index("translate_x")])
  assert set(np.unique(pixels)) == {0, 2, 5}  # 79 / 3 * (0, 1, 2) / 9.


def test_augmix_of_the_paper_has_no_operations_of_imagenet_c():
  settings = {"all_operations": False, "depth": 2, "width": 2}
  operations = draw_of(lambda key: augmix_draw(**settings)(key)[1])
  names = {OPERATIONS[number] for number in np.unique(operations)}
  assert operations.shape == (4000, 2, 2)
  assert names == set(OPERATIONS[1:]) - {
    "brightness",
    "color",
    "contrast",
    "sharpness",
  }


def test_settings_of_policies_may_be_traced():
  for policy, draw, settings in (
    (
      augment.rand_augment,
      lambda magnitude=9: policies.draw_rand_augment(KEY, 9, 9, 2, magnitude),
      {"magnitude": jnp.float32(9)},
    ),
    (
      augment.augmix,
      lambda **traced: augmix_draw(**traced)(KEY),
      {"severity": jnp.int32(3), "alpha": jnp.float32(1)},
    ),
  ):
    images = jnp.zeros((2, 9, 9, 3))
    assert jax.eval_shape(policy, KEY, images, **settings).shape == images.shape
    run = jax.jit(draw)
    chex.assert_trees_all_close(run(**settings), run(), atol=1e-6)


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


@pytest.mark.parametrize(
  ("policy", "settings", "words"),
  [
    (augment.auto_augment, {"policy": "mnist"}, "imagenet, cifar10, svhn"),
    (augment.augmix, {"severity": 0}, "severity must be a whole number from 1"),
    (augment.augmix, {"width": 0}, "width"),
    (augment.augmix, {"depth": 0}, "depth, unless it is -1, must be a whole"),
    (augment.augmix, {"alpha": 0.0}, "alpha must be above 0"),
  ],
)
def test_settings_of_other_policies_are_reported(policy, settings, words):
  with pytest.raises(ValueError, match=words):
    policy(KEY, jnp.zeros((4, 4, 3)), **settings)


@every_policy
def test_a_wrong_number_of_channels_is_reported(policy):
  with pytest.raises(ValueError, match="3 channels"):
    policy(KEY, jnp.zeros((2, 4, 4, 1)))
