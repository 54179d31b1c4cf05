"""Wrong arguments of mixaug_jax.augment raise ValueErrors that name them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import augment as A

KEY = jax.random.key(0)
X = jnp.zeros((3, 6, 8, 3))
SQUARE = jnp.zeros((3, 6, 6, 3))
THREE = jnp.array([0.0, 1.0, 0.0])
NAN, INF = float("nan"), float("inf")
CORNERS = [(0, 0), (8, 0), (8, 6), (0, 6)]
FACTORS = {
  "delta": A.adjust_brightness,
  "contrast_factor": A.adjust_contrast,
  "gamma": A.adjust_gamma,
  "saturation_factor": A.adjust_saturation,
  "sharpness_factor": A.adjust_sharpness,
  "threshold": A.solarize,
  "bits": A.posterize,
  "jpeg_quality": A.adjust_jpeg_quality,
  "sigma": lambda x, value: A.gaussian_blur(x, 3, value),
  "degrees": A.rotate,
  "scale": lambda x, value: A.affine(x, scale=value),
  "displacement": A.elastic,
  "endpoints": lambda x, value: A.perspective(x, CORNERS, value),
  "stddev": lambda x, value: A.random_gaussian_noise(KEY, x, value),
  "top": lambda x, value: A.resized_crop(x, value, 0, 3, 3, 4),
}
PROBABILITIES = {
  "random_apply": lambda p: A.random_apply([A.invert], p)(KEY, X),
  "random_erasing": lambda p: A.random_erasing(KEY, X, p),
  "random_flip_left_right": lambda p: A.random_flip_left_right(KEY, X, p),
  "random_gaussian_blur": lambda p: A.random_gaussian_blur(
    KEY, X, 3, probability=p
  ),
  "random_invert": lambda p: A.random_invert(KEY, X, p),
  "random_perspective": lambda p: A.random_perspective(KEY, X, probability=p),
  "random_rot90": lambda p: A.random_rot90(KEY, X, p),
}
FILLS = {
  "affine": lambda fill: A.affine(X, fill=fill),
  "elastic": lambda fill: A.elastic(X, jnp.zeros((6, 8, 2)), fill),
  "pad": lambda fill: A.pad(X, 1, fill=fill),
  "perspective": lambda fill: A.perspective(X, CORNERS, CORNERS, fill),
  "random_crop": lambda fill: A.random_crop(KEY, X, 6, 1, "constant", fill),
  "random_elastic": lambda fill: A.random_elastic(KEY, X, fill=fill),
  "random_erasing": lambda fill: A.random_erasing(KEY, X, fill=fill),
  "random_rotation": lambda fill: A.random_rotation(KEY, X, 20, fill),
}
# Bounds of random functions, which are scalars.
BOUNDS = {
  "max_delta": lambda b: A.random_brightness(KEY, X, b),
  "lower": lambda b: A.random_contrast(KEY, X, b, 1),
  "upper": lambda b: A.random_gamma(KEY, X, 0.5, b),
  "max_degrees": lambda b: A.random_rotation(KEY, X, b),
  "min_degrees": lambda b: A.random_rotation(KEY, X, 20, min_degrees=b),
  "max_scale": lambda b: A.random_affine(KEY, X, max_scale=b),
  "max_area": lambda b: A.random_resized_crop(KEY, X, 4, max_area=b),
  "min_aspect": lambda b: A.random_erasing(KEY, X, min_aspect=b),
  "max_sigma": lambda b: A.random_gaussian_blur(KEY, X, 3, 0.1, b),
  "alpha": lambda b: A.random_elastic(KEY, X, b),
  "sigma": lambda b: A.random_elastic(KEY, X, 2, b),
  "min_jpeg_quality": lambda b: A.random_jpeg_quality(KEY, X, b, 90),
}


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize(
  ("value", "words"),
  [
    (None, "a number, got None"),
    ("a", "a number, got 'a'"),
    ([1, [2, 3]], "a number"),
    (NAN, "finite"),
    (jnp.array([0.5, INF, 1.0]), "finite"),
  ],
)
def test_factors_are_finite_numbers(name, value, words):
  with pytest.raises(ValueError, match=f"{name} must be {words}"):
    FACTORS[name](X, value)


@pytest.mark.parametrize(
  ("call", "name"),
  [(call, "probability") for call in PROBABILITIES.values()]
  + [(call, name) for name, call in BOUNDS.items()],
  ids=[*PROBABILITIES, *BOUNDS],
)
def test_settings_of_random_functions_are_scalars(call, name):
  with pytest.raises(
    ValueError, match=rf"{name} must be a scalar, got shape \(3,\)"
  ):
    call(THREE)
  with pytest.raises(ValueError, match=f"{name} must be a scalar"):
    jax.eval_shape(call, THREE)
  with pytest.raises(ValueError, match=f"{name} must be a scalar"):
    jax.eval_shape(lambda traced: call([traced, 1.0]), 0.5)
  with pytest.raises(ValueError, match=f"{name} must be a number, got 'a'"):
    call("a")
  with pytest.raises(ValueError, match=f"{name} must be finite, got inf"):
    call(INF)
  jax.eval_shape(call, 0.5)


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("fill", [THREE[:2], (0.1, 0.2, 0.3), "a", -0.1, NAN])
def test_a_fill_is_one_grey_value(name, fill):
  with pytest.raises(ValueError, match=r"one grey value in \[0, 1\], got"):
    FILLS[name](fill)


@pytest.mark.parametrize("name", FILLS)
def test_a_traced_fill_is_one_grey_value(name):
  with pytest.raises(ValueError, match="fill must be one grey value"):
    jax.eval_shape(FILLS[name], THREE)
  jax.eval_shape(FILLS[name], 0.5)


@pytest.mark.parametrize(
  "value", [None, "a", (1, 2, 3), THREE, ("a", 1), (1, None), (NAN, 1)]
)
def test_a_jitter_is_a_number_or_two(value):
  words = "must be (a number or|finite)"
  with pytest.raises(ValueError, match=f"brightness {words}"):
    A.color_jitter(KEY, X, value)
  with pytest.raises(ValueError, match=f"hue {words}"):
    A.color_jitter(KEY, X, hue=value)


def test_a_jitter_takes_any_pair_and_known_arrays():
  expected = A.color_jitter(KEY, X + 0.3, (0.5, 1.5))
  for pair in ([0.5, 1.5], np.array([0.5, 1.5]), jnp.array([0.5, 1.5])):
    np.testing.assert_array_equal(A.color_jitter(KEY, X + 0.3, pair), expected)


@pytest.mark.parametrize(
  ("value", "words"),
  [
    ((3, 3), r"a scalar, got shape \(2,\)"),
    (NAN, "finite"),
    ("3", "a number, got '3'"),
    (None, "a number"),
    (2.5, "a whole number from 1 to 11, got 2.5"),
  ],
)
def test_a_kernel_size_is_one_whole_number(value, words):
  with pytest.raises(ValueError, match=f"kernel_size must be {words}"):
    A.gaussian_blur(X, value, 1.0)


@pytest.mark.parametrize(
  ("call", "words"),
  [
    (lambda: A.adjust_gamma(X, -1), "gamma must be at least 0, got -1"),
    (lambda: A.adjust_jpeg_quality(X, 500), "whole number from 0 to 100"),
    (lambda: A.adjust_jpeg_quality(X, THREE / 2), "whole number from 0 to"),
    (lambda: A.random_jpeg_quality(KEY, X, 50.9, 50.95), "min_jpeg_quality mu"),
    (lambda: A.random_jpeg_quality(KEY, X, 50, 50.95), "max_jpeg_quality must"),
    (lambda: A.posterize(X, 2.5), "bits must be a whole number from 0 to 8"),
    (lambda: A.affine(X, scale=THREE), "scale must be above 0, got"),
    (lambda: A.affine(X, shear=(NAN, 0)), "shear must be finite"),
    (lambda: A.random_contrast(KEY, X, 2, 1), "satisfy 0 <= lower <= upper, "),
    (lambda: A.central_crop(X, "a"), "central_fraction must be a number"),
    (lambda: A.central_crop(X, THREE), "central_fraction must be a scalar"),
    (lambda: A.center_crop(X, [4, [5]]), "size must be a whole number"),
    (lambda: A.random_crop(KEY, X, None), "size must be a whole number"),
    (lambda: A.pad(X, None), "padding must be a whole number"),
    (lambda: A.rot90(SQUARE, [1, 2]), r"k must be a scalar or \[3\]"),
    (lambda: A.rot90(SQUARE, ["a"] * 3), "k must be a number"),
    (
      lambda: A.flip_left_right([[[1.0]]]),
      "images must be a JAX or NumPy array, got",
    ),
    (lambda: A.invert(None), "images must be a JAX or NumPy array, got None"),
    (lambda: A.cutmix(KEY, [X], X), "images must be a JAX or NumPy array, got"),
    (
      lambda: A.cutmix(KEY, X, [[1.0]] * 3),
      "labels must be a JAX or NumPy arr",
    ),
    (lambda: A.random_apply(A.invert), "functions must be a sequence of func"),
    (lambda: A.random_choice(A.invert), "functions must be a sequence of fun"),
    (lambda: A.compose([A.invert]), r"each part must be a function, got \["),
    (lambda: A.random_choice([A.invert], ["a"]), "weights must be a number"),
    (lambda: A.random_choice([A.invert], [INF]), "weights must be finite"),
    (
      lambda: jax.eval_shape(lambda w: A.random_choice([A.invert], [w]), 1.0),
      "weights cannot be traced",
    ),
    (
      lambda: jax.eval_shape(lambda n: A.gaussian_blur(X, n, 1.0), 3),
      "kernel_size must be a Python number and cannot be traced",
    ),
    (
      lambda: jax.eval_shape(lambda n: A.center_crop(X, [n, 3]), 3),
      "size must be a whole number",
    ),
  ],
)
def test_wrong_settings_are_named(call, words):
  with pytest.raises(ValueError, match=words):
    call()


@pytest.mark.parametrize(
  ("window", "words"),
  [
    ((0, 0, 0, 4), "height must be above 0"),
    ((0, 0, 4, -1.0), "width must be above 0"),
    ((6, 0, 4, 4), "whose height is 6, got top 6 and height 4"),
    ((0, -4, 4, 4), "whose width is 8, got left -4 and width 4"),
    ((jnp.array([0, 7, 0]), 0, 4, 4), "the window must meet the image"),
  ],
)
def test_a_window_meets_the_image(window, words):
  with pytest.raises(ValueError, match=words):
    A.resized_crop(X, *window, 4)


def test_traced_empty_windows_and_windows_outside_are_black():
  ones = jnp.ones((6, 8, 1))
  crop = jax.jit(lambda *window: A.resized_crop(ones, *window, 4))
  for window in ((0, 0, 0, 4), (6, 0, 4, 4), (0, -4, 4, 4), (0, 0, 4, -2)):
    np.testing.assert_array_equal(crop(*map(float, window)), 0)
  np.testing.assert_allclose(crop(-2.0, 0.0, 4.0, 4.0)[2:], 1, atol=1e-6)


def test_known_arrays_inside_of_jit_are_settings():
  """Operations on constants are traced there."""
  half = jnp.float32(0.5)

  def call(x):
    x = A.solarize(A.adjust_gamma(x, half), jnp.full(3, half))
    x = A.random_contrast(KEY, A.random_invert(KEY, x, half), half, half)
    x = A.central_crop(A.color_jitter(KEY, x, half, hue=half), half)
    return A.affine(A.pad(x, 1, fill=half), scale=jnp.full(3, 0.5))

  jax.eval_shape(call, X)


@pytest.mark.parametrize(
  "function",
  [
    lambda x: A.cutmix(KEY, x, jnp.ones((3, 2)) / 2),
    lambda x: A.pad(x, 1),
    A.invert,
  ],
)
def test_complex_images_are_refused(function):
  with pytest.raises(ValueError, match="images must be real, got complex64"):
    function(X.astype(jnp.complex64))
