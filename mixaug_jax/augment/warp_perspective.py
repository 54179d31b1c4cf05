"""Perspective: a plane seen from another side.

Points are (x, y) in pixels from the top left corner of the image, whose bottom
right corner is (W, H).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.examples import each_example, map_images
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.warp import grid, sample

Points = jax.Array | Sequence[Sequence[float]]


@on_any_mesh
def perspective(
  images: jax.Array,
  startpoints: Points,
  endpoints: Points,
  fill: float = 0.5,
) -> jax.Array:
  """Moves four points by a projective map; torchvision's `perspective`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any dtype, sampled bilinearly.
    startpoints: four points (x, y), no three of them on a line, `[4, 2]` or
      `[B, 4, 2]`; the order is top left, top right, bottom right, bottom left.
    endpoints: where those points come to lie, of the same shape.
    fill: grey value of pixels from outside the image, in [0, 1]; for integer
      images it is multiplied by 255.

  Raises:
    ValueError: a setting has the wrong shape, or fill is out of range.
  """
  check.image_or_batch(images)
  check.fill(fill)

  def one(image, startpoints, endpoints):
    # Coordinates about 1 in size are kinder to float32.
    rows, columns = image.shape[:2]
    unit = max(rows, columns) / 2
    middle = jnp.array([columns / 2, rows / 2], jnp.float32)
    normal = lambda points: (points - middle[None]) / unit
    there = _from_square(normal(startpoints))
    back = _inverse(_from_square(normal(endpoints)))
    matrix = jnp.matmul(there, back, precision="highest")
    x, y = (axis / unit for axis in grid(image))
    source_x, source_y, depth = (
      row[0] * x + row[1] * y + row[2] for row in matrix
    )
    scale = unit / depth
    return sample(image, source_x * scale, source_y * scale, fill)

  return map_images(
    one,
    images,
    startpoints=(startpoints, (4, 2)),
    endpoints=(endpoints, (4, 2)),
  )


def _from_square(points: jax.Array) -> jax.Array:
  """Returns the projective map `[3, 3]` of the unit square to four points.

  The closed form is that of Heckbert (1989), Fundamentals of Texture Mapping
  and Image Warping, section 2.2.3.
  """
  p0, p1, p2, p3 = points
  cross = lambda u, v: u[0] * v[1] - u[1] * v[0]
  right, below, excess = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
  area = cross(right, below)
  g, h = cross(excess, below) / area, cross(right, excess) / area
  columns = [p1 - p0 + g * p1, p3 - p0 + h * p3, p0]
  last = jnp.stack([g, h, jnp.ones_like(g)])
  return jnp.concatenate([jnp.stack(columns, 1), last[None]])


def _inverse(matrix: jax.Array) -> jax.Array:
  """Returns the inverse of `[3, 3]` up to a factor."""
  a, b, c = matrix
  return jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], 1)


@on_any_mesh
def random_perspective(
  key: jax.Array,
  images: jax.Array,
  distortion: float = 0.5,
  probability: float = 0.5,
  fill: float = 0.5,
) -> jax.Array:
  """Moves each corner inwards at random; see `perspective`.

  As in torchvision, a corner moves along each side by up to `distortion` times
  half of its length.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    distortion: strength in [0, 1].
    probability: probability of a change.
    fill: grey value of pixels from outside the image, in [0, 1].
      All settings may be traced; then they are not checked.

  Raises:
    ValueError: a setting is out of range.
  """
  check.image_or_batch(images)
  check.within("distortion", distortion, 0, 1)
  check.within("probability", probability, 0, 1)
  rows, columns = images.shape[-3:-1]
  corners = jnp.array([[0, 0], [1, 0], [1, 1], [0, 1]], jnp.float32)
  sides = jnp.array([[columns, rows]], jnp.float32)

  def one(key, image):
    coin_key, corner_key = jax.random.split(key)
    inwards = draw.uniform(corner_key, 0, distortion, (4, 2)) / 2
    moved = corners + (1 - 2 * corners) * inwards
    warped = perspective(image, corners * sides, moved * sides, fill)
    return jnp.where(draw.coin(coin_key, probability), warped, image)

  return each_example(one, key, images)
