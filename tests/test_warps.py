"""Warps beside Pillow, SciPy and the formulas of torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn import datasets

from mixaug_jax import augment
from mixaug_jax.augment.warp_elastic import smoothing

KEY = jax.random.key(7)
RNG = np.random.default_rng(0)
NOISE = jnp.asarray(RNG.random((2, 21, 30, 3)), jnp.float32)
PHOTOGRAPH = Image.fromarray(datasets.load_sample_image("china.jpg"))
PHOTOGRAPH = np.asarray(PHOTOGRAPH.resize((96, 64)))


def sampled(image, x, y, fill=0.5):
  """Samples by SciPy, which blends with the fill at the border."""
  image = np.asarray(image, np.float64)
  channels = [
    ndimage.map_coordinates(
      image[..., c], [y, x], order=1, mode="grid-constant", cval=fill
    )
    for c in range(image.shape[-1])
  ]
  return np.stack(channels, -1)


def coordinates(matrix, rows, columns):
  """Returns x, y where a map `[3, 3]` of pixel edges sends pixel centres."""
  y, x = np.mgrid[:rows, :columns] + 0.5
  x, y, depth = np.einsum(
    "ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)])
  )
  return x / depth - 0.5, y / depth - 0.5


def inside(x, y, rows, columns):
  return (x > 0) & (x < columns - 1) & (y > 0) & (y < rows - 1)


def torchvision_affine(rows, columns, angle, translate, scale, shear):
  """Returns the map of torchvision's `affine` from output to input."""
  a, sx, sy = np.radians([angle, *shear])
  turned = scale * np.array(
    [
      [
        np.cos(a - sy) / np.cos(sy),
        -np.cos(a - sy) * np.tan(sx) / np.cos(sy) - np.sin(a),
      ],
      [
        np.sin(a - sy) / np.cos(sy),
        -np.sin(a - sy) * np.tan(sx) / np.cos(sy) + np.cos(a),
      ],
    ]
  )
  middle = np.array([columns, rows]) / 2
  forward = np.eye(3)
  forward[:2, :2] = turned
  forward[:2, 2] = middle + translate - turned @ middle
  return np.linalg.inv(forward)


AFFINES = [
  (25.0, (0.0, 0.0), 1.0, (0.0, 0.0)),
  (0.0, (3.5, -4.25), 1.0, (0.0, 0.0)),
  (0.0, (0.0, 0.0), 1.7, (0.0, 0.0)),
  (0.0, (0.0, 0.0), 1.0, (20.0, 0.0)),
  (0.0, (0.0, 0.0), 1.0, (0.0, -15.0)),
  (-70.0, (2.0, 5.0), 0.6, (10.0, 25.0)),
]


@pytest.mark.parametrize(("degrees", "translate", "scale", "shear"), AFFINES)
def test_affine_equals_torchvisions_formula(degrees, translate, scale, shear):
  settings = (translate, scale, shear)
  ours = augment.affine(NOISE, degrees, *settings)
  matrix = torchvision_affine(21, 30, -degrees, *settings)
  places = coordinates(matrix, 21, 30)
  for image, warped in zip(NOISE, ours, strict=True):
    np.testing.assert_allclose(warped, sampled(image, *places), atol=1e-4)
  ours = augment.affine(jnp.asarray(PHOTOGRAPH), degrees, *settings)
  matrix = torchvision_affine(64, 96, -degrees, *settings)
  theirs = Image.fromarray(PHOTOGRAPH).transform(
    (96, 64), Image.AFFINE, matrix[:2].ravel(), Image.BILINEAR
  )
  within = inside(*coordinates(matrix, 64, 96), 64, 96)
  assert within.mean() > 0.2
  difference = np.abs(np.int32(ours) - np.int32(theirs))
  assert difference[within].max() <= 1


def test_rotation_is_that_of_pillow_and_of_affine():
  ours = augment.rotate(jnp.asarray(PHOTOGRAPH), 25.0)
  theirs = Image.fromarray(PHOTOGRAPH).rotate(25, Image.BILINEAR)
  difference = np.abs(np.int32(ours) - np.int32(theirs))
  assert difference[20:44, 20:76].max() <= 1
  np.testing.assert_allclose(
    augment.affine(NOISE, 25.0), augment.rotate(NOISE, 25.0), atol=1e-5
  )


def test_quarter_turns_equal_rot90():
  images = NOISE[:, :, :21]
  for turns in (1, 2, 3):
    np.testing.assert_allclose(
      augment.rotate(images, 90.0 * turns),
      jnp.rot90(images, turns, (1, 2)),
      atol=1e-4,
    )


def torchvision_perspective(startpoints, endpoints):
  """Solves for the map from output to input, as torchvision does."""
  rows, values = [], []
  for (x, y), (u, v) in zip(endpoints, startpoints, strict=True):
    rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
    rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    values += [u, v]
  solution = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
  return np.append(solution, 1).reshape(3, 3)


@pytest.mark.parametrize("shape", [(21, 30), (64, 96)])
def test_perspective_equals_torchvisions_formula(shape):
  rows, columns = shape
  start = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)])
  start = start + RNG.uniform(-3, 3, (4, 2))
  end = np.array([(0.1, 0.2), (0.7, 0), (0.95, 0.9), (0.2, 0.8)])
  end = end * [columns, rows]
  matrix = torchvision_perspective(start, end)
  x, y = coordinates(matrix, rows, columns)
  if rows == 21:
    ours = augment.perspective(NOISE[0], start, end, 0.2)
    np.testing.assert_allclose(ours, sampled(NOISE[0], x, y, 0.2), atol=1e-4)
    return
  ours = augment.perspective(jnp.asarray(PHOTOGRAPH), start, end)
  theirs = Image.fromarray(PHOTOGRAPH).transform(
    (columns, rows),
    Image.PERSPECTIVE,
    matrix.ravel()[:8],
    Image.BILINEAR,
  )
  within = inside(x, y, rows, columns)
  assert within.mean() > 0.2
  assert np.abs(np.int32(ours) - np.int32(theirs))[within].max() <= 1


def test_elastic_samples_displaced_places():
  displacement = RNG.normal(0, 2, (21, 30, 2))
  y, x = np.mgrid[:21, :30]
  places = x + displacement[..., 0], y + displacement[..., 1]
  ours = augment.elastic(NOISE, displacement)
  for image, warped in zip(NOISE, ours, strict=True):
    np.testing.assert_allclose(warped, sampled(image, *places), atol=1e-4)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0])
def test_thesmoothing_is_scipys(sigma):
  theirs = ndimage.gaussian_filter1d(
    np.eye(32), sigma, 0, mode="mirror", truncate=4
  )
  np.testing.assert_allclose(smoothing(32, sigma), theirs, atol=1e-6)


def test_random_elastic_is_smooth_noise_of_half_alpha():
  noise = jax.random.uniform(KEY, (21, 30, 2), minval=-1, maxval=1)
  smooth = ndimage.gaussian_filter(
    np.float64(noise), (2, 2, 0), mode="mirror", truncate=4
  )
  np.testing.assert_allclose(
    augment.random_elastic(KEY, NOISE[0], 30.0, 2.0),
    augment.elastic(NOISE[0], 15 * smooth),
    atol=1e-4,
  )


def ramps(count, rows=40, columns=60):
  """Returns images whose two channels are their coordinates."""
  y, x = np.mgrid[:rows, :columns] / 100
  return jnp.broadcast_to(
    jnp.asarray(np.stack([x, y], -1), jnp.float32), (count, rows, columns, 2)
  )


def slopes(images):
  """Returns the matrix `[2, 2]` and the middle of each warped ramp."""
  images = 100 * np.asarray(images, np.float64)
  middle = images[:, 18:22, 28:32]
  along_x = np.diff(middle, axis=2).mean((1, 2))
  along_y = np.diff(middle, axis=1).mean((1, 2))
  return np.stack([along_x, along_y], -1), middle.mean((1, 2))


def test_rotations_fill_their_range():
  for settings, low, high in (
    ({"max_degrees": 30.0}, -30, 30),
    ({"max_degrees": 50.0, "min_degrees": 20.0}, 20, 50),
  ):
    turned = jax.jit(augment.random_rotation)(KEY, ramps(200), **settings)
    matrices, _ = slopes(turned)
    degrees = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert low - 0.1 < degrees.min() < low + 2
    assert high - 2 < degrees.max() < high + 0.1
    assert abs(degrees.mean() - (low + high) / 2) < 4


def test_random_affine_fills_its_ranges():
  zoom = lambda m: 1 / np.sqrt(np.linalg.det(m))
  for settings, measure, low, high in (
    ({"max_degrees": 30.0}, lambda m, _: np.degrees(m[:, 1, 0]), -29, 29),
    ({"min_scale": 0.5, "max_scale": 2.0}, lambda m, _: zoom(m), 0.5, 2.0),
    ({"max_translate": 0.2}, lambda _, c: 29.5 - c[:, 0], -12, 12),
    ({"max_translate": 0.2}, lambda _, c: 19.5 - c[:, 1], -8, 8),
    (
      {"max_shear": 20.0},
      lambda m, _: np.degrees(np.arctan(m[:, 0, 1])),
      -20,
      20,
    ),
  ):
    values = measure(
      *slopes(augment.random_affine(KEY, ramps(200), **settings))
    )
    width = high - low
    assert low - 0.01 * width < values.min() < low + 0.06 * width
    assert high - 0.06 * width < values.max() < high + 0.01 * width


def test_random_perspective_moves_corners_inwards():
  images = jnp.ones((300, 20, 30, 1))
  warped = jax.jit(augment.random_perspective)(KEY, images, 0.5, 0.4, 0.0)
  changed = np.asarray((warped != 1).any((1, 2, 3)))
  assert abs(changed.mean() - 0.4) < 5 * np.sqrt(0.24 / 300)
  # A corner moves by up to a quarter of the side, so the middle is kept.
  assert (warped[:, 5:15, 8:22] == 1).all()
  shares = np.asarray(warped.mean((1, 2, 3)))[changed]
  assert 0.25 < shares.min() < shares.max() < 1
  np.testing.assert_array_equal(
    jax.jit(augment.random_perspective)(KEY, NOISE, 0.5, 0.0), NOISE
  )


PER_EXAMPLE = {
  "rotate": (augment.rotate, [np.array([20.0, -70.0])]),
  "affine": (
    augment.affine,
    [
      np.array([20.0, -70.0]),
      np.array([[1.0, 2.0], [-3.0, 0.5]]),
      np.array([0.8, 1.3]),
      np.array([[1.0, 20.0], [-10.0, 5.0]]),
    ],
  ),
  "perspective": (
    augment.perspective,
    [
      np.array([[(0, 0), (30, 0), (30, 21), (0, 21)]] * 2),
      np.array(
        [
          [(1, 2), (25, 0), (30, 21), (0, 15)],
          [(5, 2), (28, 1), (29, 14), (3, 20)],
        ]
      ),
    ],
  ),
  "elastic": (augment.elastic, [RNG.normal(0, 1, (2, 21, 30, 2))]),
}


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_settings_may_be_traced_and_differ_between_examples(name):
  function, settings = PER_EXAMPLE[name]
  together = jax.jit(function)(NOISE, *settings)
  for n, image in enumerate(NOISE):
    alone = function(image, *(value[n] for value in settings))
    np.testing.assert_allclose(together[n], alone, atol=1e-4)
  assert not np.allclose(together[1], function(NOISE[1], *settings_of(name, 0)))
  for n, value in enumerate(settings):
    wrong = list(settings_of(name, 0))
    wrong[n] = np.concatenate([value, value])
    with pytest.raises(ValueError, match=r"must be .*, got shape"):
      function(NOISE, *wrong)


def settings_of(name, n):
  return [value[n] for value in PER_EXAMPLE[name][1]]


RANDOM = {
  "rotation": (augment.random_rotation, (30.0, 0.2, -10.0)),
  "affine": (augment.random_affine, (30.0, 0.1, 0.8, 1.2, 10.0, 0.2)),
  "perspective": (augment.random_perspective, (0.4, 0.9, 0.2)),
  "elastic": (augment.random_elastic, (20.0, 2.0, 0.2)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_settings_of_random_warps_may_be_traced(name):
  function, settings = RANDOM[name]
  np.testing.assert_allclose(
    jax.jit(function)(KEY, NOISE, *settings),
    function(KEY, NOISE, *settings),
    atol=1e-4,
  )


def test_bool_images_are_warped_to_the_nearer_value():
  mask = NOISE > 0.5
  turned = augment.rotate(mask, 30.0, 0.0)
  smooth = augment.rotate(mask.astype(jnp.float32), 30.0, 0.0)
  np.testing.assert_array_equal(turned, smooth > 0.5)


@pytest.mark.parametrize(
  ("call", "words"),
  [
    (lambda: augment.random_rotation(KEY, NOISE, 200.0), "max_degrees"),
    (lambda: augment.random_rotation(KEY, NOISE, -1.0), "max_degrees"),
    (
      lambda: augment.random_rotation(KEY, NOISE, 10.0, min_degrees=20.0),
      "min_degrees",
    ),
    (lambda: augment.rotate(NOISE, 3.0, 2.0), "fill"),
    (lambda: augment.affine(NOISE, scale=0.0), "scale"),
    (lambda: augment.random_affine(KEY, NOISE, 181.0), "max_degrees"),
    (lambda: augment.random_affine(KEY, NOISE, 0.0, 1.1), "max_translate"),
    (lambda: augment.random_affine(KEY, NOISE, min_scale=0.0), "min_scale"),
    (lambda: augment.random_affine(KEY, NOISE, max_scale=0.5), "max_scale"),
    (lambda: augment.random_affine(KEY, NOISE, max_shear=90.0), "max_shear"),
    (lambda: augment.random_perspective(KEY, NOISE, 1.1), "distortion"),
    (lambda: augment.random_perspective(KEY, NOISE, 0.5, 2.0), "probability"),
    (lambda: augment.random_elastic(KEY, NOISE, -1.0), "alpha"),
    (lambda: augment.random_elastic(KEY, NOISE, 1.0, 0.0), "sigma"),
    (lambda: augment.random_elastic(KEY, NOISE, 1.0, 1.0, -1.0), "fill"),
  ],
)
def test_settings_out_of_range_are_reported(call, words):
  with pytest.raises(ValueError, match=words) as caught:
    call()
  assert "\n" not in str(caught.value)
