"""Filters and noise: Gaussian blur, sharpness, Gaussian noise.

`images` is one image `[H, W, C]` or a batch `[B, H, W, C]`, uint8 or float in
[0, 1], with 1, 3 (RGB) or 4 channels (RGB and alpha, which is not changed).
uint8 is computed in float32, rounded, and saturates. Settings other than
`kernel_size` may be traced; then their range is not checked. A random operation
on a batch draws separately for each example.
"""

import functools
import math

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw, enhance
from mixaug_jax.augment.examples import each_example, factor
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.pixels import by_factor, in_own_range


@on_any_mesh
def gaussian_blur(
  images: jax.Array, kernel_size: int, sigma: jax.Array | float
) -> jax.Array:
  """Blurs by a Gaussian kernel, as torchvision's `gaussian_blur`.

  The kernel is the density at whole distances, scaled to the sum 1. Images are
  extended by reflection without the border pixel. Rows and columns are filtered
  in turn, by sums of shifted images, which XLA fuses into one pass for each.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`.
    kernel_size: pixels a side of the kernel; odd, below twice each side.
    sigma: standard deviation in pixels, above 0; a scalar or `[B]`.

  Raises:
    ValueError: a setting is out of range.
  """
  check.colours(images)
  check.above("sigma", sigma, 0, per_example=True)
  least = min(images.shape[-3:-1])
  check.whole("kernel_size", kernel_size, 1, 2 * least - 1)
  if kernel_size % 2 == 0:
    raise ValueError(f"kernel_size must be odd, got {kernel_size}")
  sigma = factor("sigma", sigma, images)
  half = int(kernel_size) // 2
  weights = [jnp.exp(-0.5 * (n / sigma) ** 2) for n in range(half + 1)]
  total = weights[0] + 2 * sum(weights[1:])
  weights = [weight / total for weight in weights]

  def along(axis, x):
    padding = [(0, 0)] * x.ndim
    padding[axis] = (half, half)
    size, x = x.shape[axis], jnp.pad(x, padding, "reflect")
    at = lambda n: jax.lax.slice_in_dim(x, half + n, half + n + size, axis=axis)
    blurred = weights[0] * at(0)
    for n in range(1, half + 1):
      blurred += weights[n] * (at(n) + at(-n))
    return blurred

  return in_own_range(
    lambda x, _: along(x.ndim - 2, along(x.ndim - 3, x)), images
  )


@on_any_mesh
def random_gaussian_blur(
  key: jax.Array,
  images: jax.Array,
  kernel_size: int,
  min_sigma: jax.Array | float = 0.1,
  max_sigma: jax.Array | float = 2.0,
  probability: jax.Array | float = 1.0,
) -> jax.Array:
  """Applies `gaussian_blur` by U(min_sigma, max_sigma) with `probability`.

  SimCLR (Chen et al., 2020, arXiv:2002.05709) uses these bounds, probability
  0.5 and a kernel of a tenth of the side.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    kernel_size: pixels a side of the kernel; odd, below twice each side.
    min_sigma: lowest standard deviation in pixels, above 0.
    max_sigma: highest standard deviation.
    probability: probability of blurring.

  Raises:
    ValueError: a setting is out of range.
  """
  check.colours(images)
  check.above("min_sigma", min_sigma, 0)
  check.interval("min_sigma", min_sigma, "max_sigma", max_sigma, 0, math.inf)
  check.within("probability", probability, 0, 1)

  def one(key, image):
    coin_key, sigma_key = jax.random.split(key)
    sigma = draw.uniform(sigma_key, min_sigma, max_sigma)
    blurred = gaussian_blur(image, kernel_size, sigma)
    return jnp.where(draw.coin(coin_key, probability), blurred, image)

  return each_example(one, key, images)


@on_any_mesh
def adjust_sharpness(
  images: jax.Array, sharpness_factor: jax.Array | float
) -> jax.Array:
  """Blends with a smoothed image, as torchvision's `adjust_sharpness`.

  The result is clipped. For uint8 it equals Pillow's within one level.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`.
    sharpness_factor: at least 0; 0 smooths, 1 keeps and 2 sharpens; a scalar or
      `[B]`.

  Raises:
    ValueError: the factor is negative.
  """
  check.colours(images)
  check.within(
    "sharpness_factor", sharpness_factor, 0, math.inf, per_example=True
  )
  value = factor("sharpness_factor", sharpness_factor, images) - 1
  return in_own_range(
    lambda x, top: jnp.clip(enhance.sharpness(x, value), 0, top), images
  )


@on_any_mesh
def random_sharpness(
  key: jax.Array,
  images: jax.Array,
  lower: jax.Array | float,
  upper: jax.Array | float,
) -> jax.Array:
  """Applies `adjust_sharpness` by U(lower, upper).

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    lower: lower bound on the factor, at least 0.
    upper: upper bound on the factor.

  Raises:
    ValueError: the bounds are out of range.
  """
  check.interval("lower", lower, "upper", upper, 0, math.inf)
  return by_factor(adjust_sharpness, key, images, lower, upper)


@on_any_mesh
def random_gaussian_noise(
  key: jax.Array,
  images: jax.Array,
  stddev: jax.Array | float = 0.1,
  mean: jax.Array | float = 0.0,
  clip: bool = True,
) -> jax.Array:
  """Adds noise to each value, as torchvision's `v2.GaussianNoise`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`.
    stddev: the standard deviation, at least 0, in units of [0, 1] for uint8 as
      well; a scalar or `[B]`.
    mean: the mean, in the same units; a scalar or `[B]`.
    clip: clips floats to [0, 1]; uint8 always saturates.

  Raises:
    ValueError: stddev is negative.
  """
  check.colours(images)
  check.within("stddev", stddev, 0, math.inf, per_example=True)
  stddev, mean = factor("stddev", stddev, images), factor("mean", mean, images)
  normal = functools.partial(jax.random.normal, dtype=jnp.float32)

  def add(x, top):
    noise = each_example(lambda key, x: normal(key, x.shape), key, x)
    noisy = x + top * (mean + stddev * noise)
    return jnp.clip(noisy, 0, top) if clip else noisy

  return in_own_range(add, images)
