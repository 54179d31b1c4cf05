"""Crops, padding and resizing beside tf.image, NumPy, Pillow, torchvision."""

import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from sklearn import datasets

from mixaug_jax import augment
from mixaug_jax.augment.resizing import random_window

KEY = jax.random.key(7)


def noise(shape, dtype=jnp.uint8, seed=0):
  levels = np.random.default_rng(seed).integers(0, 256, shape)
  scale = 1 if dtype == jnp.uint8 else 255
  return jnp.asarray(levels / scale, dtype)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.7, 0.875, 1])
def test_central_crop_equals_tf_image(fraction):
  tf = pytest.importorskip("tensorflow")
  for shape in ((2, 8, 8, 3), (2, 7, 12, 1), (9, 5, 3), (1, 224, 33, 3)):
    images = noise(shape)
    np.testing.assert_array_equal(
      augment.central_crop(images, fraction),
      tf.image.central_crop(images, fraction),
    )


@pytest.mark.parametrize("size", [4, np.int64(4), (5, 8), np.array([5, 8])])
def test_center_crop_equals_keras(size):
  keras = pytest.importorskip("keras")
  images = noise((2, 10, 13, 3), jnp.float32)
  height, width = np.broadcast_to(size, 2)
  np.testing.assert_array_equal(
    augment.center_crop(images, size),
    keras.layers.CenterCrop(int(height), int(width))(np.asarray(images)),
  )


@hypothesis.given(
  st.integers(0, 2**31 - 1), st.sampled_from([0, 2]), st.sampled_from([5, 7])
)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_a_crop_is_a_window_of_the_padded_image(mode, seed, padding, size):
  image = noise((7, 8, 3), seed=seed)
  key = jax.random.key(seed)
  crop = augment.random_crop(key, image, size, padding, mode)
  around = ((padding, padding), (padding, padding), (0, 0))
  padded = np.pad(image, around, mode)
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


def test_the_size_of_a_crop_may_have_channels_and_examples_as_in_tf_image():
  images = noise((2, 8, 9, 3))
  expected = augment.random_crop(KEY, images, (4, 5))
  for size in ((4, 5, 3), (2, 4, 5, 3), np.array([4, 5, 3])):
    crop = augment.random_crop(KEY, images, size)
    np.testing.assert_array_equal(crop, expected)
  for size in ((4, 5, 1), (3, 4, 5, 3)):
    with pytest.raises(ValueError, match="keeps all examples and channels"):
      augment.random_crop(KEY, images, size)
  with pytest.raises(ValueError, match="size must be a whole number"):
    augment.random_crop(KEY, images[0], (1, 4, 5, 3))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int32, bool])
def test_padding_equals_numpy(mode, dtype):
  images = np.asarray(noise((2, 5, 6, 3))).astype(dtype)
  for padding, rows, columns in (
    (2, (2, 2), (2, 2)),
    ((1, 3), (3, 3), (1, 1)),
    ((1, 2, 3, 4), (2, 4), (1, 3)),
  ):
    padded = augment.pad(images, padding, mode)
    around = ((0, 0), rows, columns, (0, 0))
    np.testing.assert_array_equal(padded, np.pad(images, around, mode))
    assert padded.dtype == dtype
    one = augment.pad(images[0], padding, mode)
    np.testing.assert_array_equal(one, padded[0])


@pytest.mark.parametrize(
  ("dtype", "grey"),
  [("float32", 0.5), ("uint8", 128), ("uint16", 128)],
)
def test_a_fill_is_in_units_of_one_and_of_255(dtype, grey):
  images = jnp.zeros((1, 16, 16, 3), dtype)
  assert (augment.pad(images, 1, fill=0.5)[:, 0] == grey).all()
  crop = augment.random_crop(KEY, images, 34, 9, "constant", 0.5)
  assert (crop[:, 0] == grey).all()
  assert augment.rotate(images, 45, 0.5)[0, 0, 0, 0] == grey
  erased = augment.random_erasing(KEY, images, 1, 1, 1, 1, 1, fill=0.5)
  assert (erased == grey).all()


@pytest.mark.parametrize("size", [(24, 17), (12, 9), (40, 33), 8])
def test_resizing_equals_jax_tf_and_pillow(size):
  sides = (size, size) if size == 8 else size
  images = noise((2, 24, 17, 3), jnp.float32)
  ours = augment.resize(images, size)
  theirs = jax.image.resize(images, (2, *sides, 3), "bilinear")
  np.testing.assert_allclose(ours, theirs, atol=1e-5)
  tf = pytest.importorskip("tensorflow")
  theirs = tf.image.resize(images, sides, antialias=True)
  np.testing.assert_allclose(ours, theirs, atol=1e-5)
  photograph = datasets.load_sample_image("china.jpg")[200:264, 300:400]
  ours = augment.resize(jnp.asarray(photograph), size)
  theirs = Image.fromarray(photograph).resize(sides[::-1], Image.BILINEAR)
  assert np.abs(np.int32(ours) - np.int32(theirs)).max() <= 1


def test_resized_integers_are_rounded_within_their_range():
  values = np.random.default_rng(0).integers(-128, 128, (9, 9, 1))
  for dtype in (jnp.int8, jnp.int32):
    ours = augment.resize(jnp.asarray(values, dtype), 6)
    exact = augment.resize(jnp.asarray(values, jnp.float32), 6)
    np.testing.assert_array_equal(ours, np.round(exact))
  ends = jnp.array([[[65535], [0]]], jnp.uint16)
  assert augment.resize(ends, (1, 8)).max() == 65535
  assert augment.resize(ends.astype(bool), (1, 8))[0, :, 0].tolist() == (
    [True] * 4 + [False] * 4
  )


def test_a_window_resized_equals_the_crop_resized():
  """Pixels outside of the window have no weight."""
  image = noise((20, 20, 3), jnp.float32)
  ours = augment.resized_crop(image, 3, 5, 9, 12, 8)
  theirs = jax.image.resize(image[3:12, 5:17], (8, 8, 3), "bilinear")
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_each_example_may_have_a_window_of_its_own():
  images = noise((3, 20, 20, 3), jnp.float32)
  windows = jnp.array([[3, 0, 1], [5, 6, 7], [9, 8, 7], [12, 13, 11]])
  together = augment.resized_crop(images, *windows, 8)
  for image, window, crop in zip(images, windows.T, together, strict=True):
    alone = augment.resized_crop(image, *window, 8)
    np.testing.assert_allclose(crop, alone, atol=1e-6)
  with pytest.raises(ValueError, match=r"top must be a scalar or \[3\]"):
    augment.resized_crop(images, jnp.zeros(4), 0, 5, 5, 8)


def windows(rows, columns, count, *bounds):
  """Returns top, left, height and width of random windows, `[4, count]`."""
  draw = lambda key: random_window(key, rows, columns, *bounds)
  return np.array(jax.jit(jax.vmap(draw))(jax.random.split(KEY, count)))


def torchvision_windows(rows, columns, count):
  """Follows `RandomResizedCrop.get_params` of torchvision."""
  rng = np.random.default_rng(0)
  drawn = []
  for _ in range(count):
    for _ in range(10):
      area = rows * columns * rng.uniform(0.08, 1)
      aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
      width = round(math.sqrt(area * aspect))
      height = round(math.sqrt(area / aspect))
      if 0 < width <= columns and 0 < height <= rows:
        top = rng.integers(0, rows - height + 1)
        left = rng.integers(0, columns - width + 1)
        break
    else:
      width, height = columns, rows
      if columns / rows < 3 / 4:
        height = round(width / (3 / 4))
      elif columns / rows > 4 / 3:
        width = round(height * (4 / 3))
      top, left = (rows - height) // 2, (columns - width) // 2
    drawn.append((top, left, height, width))
  return np.array(drawn).T


@pytest.mark.parametrize("shape", [(64, 64), (100, 300), (90, 30)])
def test_random_windows_are_those_of_torchvision(shape):
  rows, columns = shape
  ours = windows(rows, columns, 2000, 0.08, 1.0, 3 / 4, 4 / 3)
  theirs = torchvision_windows(rows, columns, 4000)
  top, left, height, width = ours
  assert top.min() >= 0
  assert left.min() >= 0
  assert (top + height).max() <= rows
  assert (left + width).max() <= columns
  assert (np.abs(width - height * 4 / 3) <= 1.2)[width > 4 / 3 * height].all()
  assert (np.abs(height - width * 4 / 3) <= 1.2)[height > 4 / 3 * width].all()
  measures = lambda x: (*x, x[2] * x[3], x[3] / x[2])
  for a, b in zip(measures(ours), measures(theirs), strict=True):
    assert stats.ks_2samp(a, b).pvalue > 1e-3
  # Windows that do not fit ten times give way to the middle.
  middle = {
    (64, 64): (0, 0, 64, 64),
    (100, 300): (0, 83, 100, 133),
    (90, 30): (25, 0, 40, 30),
  }[shape]
  share = lambda x: (np.array(middle) == x.T).all(1).mean()
  assert share(theirs) > 0.01 or rows == columns
  spread = np.sqrt(share(theirs) * (1 / 2000 + 1 / 4000))
  assert abs(share(ours) - share(theirs)) <= 4 * spread


def test_resized_crops_show_their_windows():
  """On a ramp of coordinates, the slope of a crop gives its size."""
  y, x = jnp.meshgrid(jnp.arange(50.0), jnp.arange(150.0), indexing="ij")
  images = jnp.broadcast_to(jnp.stack([y, x], -1), (300, 50, 150, 2))
  crop = lambda key, images: augment.random_resized_crop(
    key, images, 16, 0.1, 0.3, 0.5, 2.0
  )
  crops = jax.jit(crop)(KEY, images)
  # A window beyond the border would end in a fall.
  assert (jnp.diff(crops[..., 0], axis=1) > 0).all()
  assert (jnp.diff(crops[..., 1], axis=2) > 0).all()
  spread = crops[:, -4, -4] - crops[:, 3, 3]
  height, width = spread[:, 0] * 16 / 9, spread[:, 1] * 16 / 9
  area, aspect = height * width / (50 * 150), width / height
  assert 0.09 < area.min() < 0.12
  assert 0.28 < area.max() < 0.31
  assert 0.47 < aspect.min() < 0.55
  assert 1.8 < aspect.max() < 2.1


@pytest.mark.parametrize("crops", [augment.five_crops, augment.ten_crops])
def test_crops_have_the_order_of_torchvision(crops):
  images = noise((2, 12, 20, 3))
  height, width = 7, 8
  made = np.asarray(crops(images, (height, width)))
  source = np.asarray(images)
  sides = [source] if len(made) == 5 else [source, source[:, :, ::-1]]
  expected = [
    x[:, top : top + height, left : left + width]
    for x in sides
    for top, left in ((0, 0), (0, 12), (5, 0), (5, 12), (2, 6))
  ]
  np.testing.assert_array_equal(made, expected)
  np.testing.assert_array_equal(crops(images[1], (height, width)), made[:, 1])


X = jnp.zeros((2, 8, 8, 3))


@pytest.mark.parametrize(
  ("call", "words"),
  [
    (lambda: augment.central_crop(X, 0.0), r"in \(0, 1\], got 0"),
    (lambda: augment.central_crop(X, 4), "center_crop takes a size in pixels"),
    (lambda: augment.central_crop(X, float("nan")), "central_fraction"),
    (lambda: jax.jit(augment.central_crop)(X, 0.5), "cannot be traced"),
    (lambda: augment.center_crop(X, 0.5), "size must be .* got 0.5"),
    (lambda: augment.center_crop(X, 4.0), "size must be"),
    (lambda: augment.center_crop(X, 0), "size must be"),
    (lambda: augment.center_crop(X, (4, -1)), "size must be"),
    (lambda: augment.center_crop(X, (4, 4, 3)), "size must be"),
    (lambda: augment.center_crop(X, None), "size must be"),
    (lambda: augment.center_crop(X, 9), "9x9 does not fit into 8x8"),
    (lambda: augment.five_crops(X, (4, 9)), "4x9 does not fit into 8x8"),
    (lambda: augment.ten_crops(X, 9), "does not fit"),
    (lambda: augment.resize(X, (4,)), "size must be"),
    (lambda: augment.resize(X[0, 0], 4), "images must"),
    (lambda: augment.random_crop(KEY, X, 9), "9x9 does not fit into 8x8"),
    (lambda: augment.random_crop(KEY, X, 4.0), "size must be"),
    (lambda: augment.random_crop(KEY, X, 8, 8), "reflect padding of 8"),
    (lambda: augment.random_crop(KEY, X, 8, -1), "padding must be"),
    (lambda: augment.random_crop(KEY, X, 8, 1, "zeros"), "padding mode must"),
    (lambda: augment.random_crop(KEY, X, 8, 1, "edge", 2.0), "fill"),
    (lambda: augment.pad(X, 1.5), "padding must be .* got 1.5"),
    (lambda: augment.pad(X, (1, 2, 3)), "padding must be"),
    (lambda: augment.pad(X, (0, 0, 9, 0), "symmetric"), "symmetric padding"),
    (lambda: augment.pad(X, 1, fill=-0.1), "fill"),
    (lambda: augment.random_resized_crop(KEY, X, 4, 0.0), "min_area"),
    (lambda: augment.random_resized_crop(KEY, X, 4, 0.9, 0.5), "max_area"),
    (
      lambda: augment.random_resized_crop(KEY, X, 4, 0.1, 1.0, 2.0, 1.0),
      "max_aspect",
    ),
  ],
)
def test_wrong_arguments_are_reported(call, words):
  with pytest.raises(ValueError, match=words) as caught:
    call()
  assert "\n" not in str(caught.value)


def test_crops_compile_once_for_every_key():
  crop = jax.jit(lambda key, images: augment.random_crop(key, images, 4))
  for seed in range(3):
    crop(jax.random.key(seed), X)
  assert crop._cache_size() == 1
