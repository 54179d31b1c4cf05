"""Elastic deformation: a smooth random displacement of every pixel."""

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.examples import each_example, map_images
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.warp import grid, sample


@on_any_mesh
def elastic(
  images: jax.Array, displacement: jax.Array, fill: float = 0.5
) -> jax.Array:
  """Samples each pixel of the output at a displaced position.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any dtype, sampled bilinearly.
    displacement: pixels along x and y from a pixel of the output to its source,
      `[H, W, 2]` or `[B, H, W, 2]`.
    fill: grey value of pixels from outside the image, in [0, 1]; for integer
      images it is multiplied by 255.

  Raises:
    ValueError: `displacement` has the wrong shape, or fill is out of range.
  """
  check.image_or_batch(images)
  check.fill(fill)

  def one(image, displacement):
    x, y = grid(image)
    return sample(
      image, x + displacement[..., 0], y + displacement[..., 1], fill
    )

  shape = (*images.shape[-3:-1], 2)
  return map_images(one, images, displacement=(displacement, shape))


@on_any_mesh
def random_elastic(
  key: jax.Array,
  images: jax.Array,
  alpha: float = 50.0,
  sigma: float = 5.0,
  fill: float = 0.5,
) -> jax.Array:
  """Deforms images smoothly (Simard et al., 2003); see `elastic`.

  The displacement is `alpha / 2` pixels times uniform noise from [-1, 1] that
  is smoothed by a Gaussian, as in torchvision's `ElasticTransform` for square
  images.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    alpha: strength, at least 0.
    sigma: standard deviation of the Gaussian in pixels, above 0. The Gaussian
      ends at four of them.
    fill: grey value of pixels from outside the image, in [0, 1].
      All settings may be traced; then they are not checked.

  Raises:
    ValueError: a setting is out of range.
  """
  check.image_or_batch(images)
  check.within("alpha", alpha, 0, jnp.inf)
  check.above("sigma", sigma, 0)
  rows, columns = images.shape[-3:-1]
  vertical, horizontal = smoothing(rows, sigma), smoothing(columns, sigma)

  def one(key, image):
    noise = draw.uniform(key, -1, 1, (rows, columns, 2))
    smooth = jnp.einsum(
      "hH,wW,HWc->hwc", vertical, horizontal, noise, precision="highest"
    )
    return elastic(image, jnp.asarray(alpha, jnp.float32) / 2 * smooth, fill)

  return each_example(one, key, images)


def smoothing(size: int, sigma: jax.Array | float) -> jax.Array:
  """Returns `[size, size]`, which smooths a side that is mirrored at its ends.

  The mirror image does not repeat the last pixel.
  """
  sigma = jnp.asarray(sigma, jnp.float32)
  place = jnp.arange(size, dtype=jnp.float32)
  last = size - 1
  weights = jnp.zeros((size, size), jnp.float32)
  for source, counts in (
    (place, place >= 0),
    (-place, place > 0),
    (2 * last - place, place < last),
  ):
    distance = jnp.abs(place[:, None] - source[None, :])
    gaussian = jnp.exp(-0.5 * jnp.square(distance / sigma))
    reached = (distance <= jnp.round(4 * sigma)) & counts[None, :]
    weights += jnp.where(reached, gaussian, 0)
  return weights / jnp.sum(weights, 1, keepdims=True)
