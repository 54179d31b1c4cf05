"""Random erasing."""

import math

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.dtypes import full_scale, grey
from mixaug_jax.augment.examples import each_example
from mixaug_jax.augment.mesh import on_any_mesh


@on_any_mesh
def random_erasing(
  key: jax.Array,
  images: jax.Array,
  probability: float = 0.5,
  min_area: float = 0.02,
  max_area: float = 1 / 3,
  min_aspect: float = 0.3,
  max_aspect: float = 1 / 0.3,
  fill: float | None = None,
) -> jax.Array:
  """Fills a box (Zhong et al., 2017, arXiv:1708.04896).

  The area of the box is uniform, its aspect ratio log-uniform, its position
  uniform inside the image.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    probability: probability of erasing; 0.5 in the paper.
    min_area, max_area: bounds on the box's share of the image.
    min_aspect, max_aspect: bounds on the box's width over height.
    fill: grey value in [0, 1]; for integer images it is multiplied by 255.
      None: noise, each value uniform over the whole range.
      All settings may be traced; then they are not checked.

  Raises:
    ValueError: a setting is out of range.
  """
  check.image_or_batch(images)
  check.within("probability", probability, 0, 1)
  check.interval("min_area", min_area, "max_area", max_area, 0, 1)
  check.above("min_aspect", min_aspect, 0)
  check.interval(
    "min_aspect", min_aspect, "max_aspect", max_aspect, 0, math.inf
  )
  if fill is not None:
    check.fill(fill)
  rows, columns = images.shape[-3:-1]

  def one(key, image):
    coin_key, area_key, aspect_key, y_key, x_key, noise_key = jax.random.split(
      key, 6
    )
    area = draw.uniform(area_key, min_area, max_area) * (rows * columns)
    aspect = draw.log_uniform(aspect_key, min_aspect, max_aspect)
    height = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 0, rows)
    width = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 0, columns)
    top = jnp.floor(draw.uniform(y_key) * (rows - height + 1))
    left = jnp.floor(draw.uniform(x_key) * (columns - width + 1))
    y = jnp.arange(rows, dtype=jnp.float32)[:, None, None]
    x = jnp.arange(columns, dtype=jnp.float32)[None, :, None]
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    inside &= draw.coin(coin_key, probability)
    if fill is None:
      inner = _noise(noise_key, image.shape, image.dtype)
    else:
      inner = grey(fill, image.dtype)
    return jnp.where(inside, inner, image)

  return each_example(one, key, images)


def _noise(key, shape, dtype):
  """Returns values uniform over the range of `dtype`.

  They are a hash of each index, which costs a tenth of Threefry.
  """
  bits = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
  bits ^= jax.random.bits(key, (), jnp.uint32)
  for factor in (0x7FEB352D, 0x846CA68B):
    bits = (bits ^ (bits >> 16)) * jnp.uint32(factor)
  bits ^= bits >> 16
  if jnp.issubdtype(dtype, jnp.floating):
    return ((bits >> 8).astype(jnp.float32) * 2.0**-24).astype(dtype)
  return (bits >> (32 - full_scale(dtype).bit_length())).astype(dtype)
