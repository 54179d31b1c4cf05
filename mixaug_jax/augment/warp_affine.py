"""Rotation, translation, zoom and shear.

`images` is one image `[H, W, C]` or a batch `[B, H, W, C]` of any real dtype,
which is sampled bilinearly. A random operation on a batch draws separately for
each example. `fill` is the grey value of pixels from outside the image, in
[0, 1]; for integer images it is multiplied by 255. Settings may be traced; then
they are not checked.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.examples import each_example, map_images
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.warp import warp


@on_any_mesh
def rotate(
  images: jax.Array, degrees: jax.Array | float, fill: float = 0.5
) -> jax.Array:
  """Rotates counter-clockwise about the middle.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    degrees: scalar, or one number for each example, `[B]`.
    fill: grey value of pixels from outside the image.

  Raises:
    ValueError: a setting has the wrong shape, or fill is out of range.
  """
  check.image_or_batch(images)
  check.fill(fill)

  def one(image, degrees):
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
    return warp(image, matrix, jnp.zeros(2, jnp.float32), fill)

  return map_images(one, images, degrees=(degrees, ()))


@on_any_mesh
def random_rotation(
  key: jax.Array,
  images: jax.Array,
  max_degrees: float,
  fill: float = 0.5,
  min_degrees: float | None = None,
) -> jax.Array:
  """Rotates by U(min_degrees, max_degrees); see `rotate`.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    max_degrees: highest angle, counter-clockwise; without `min_degrees` in
      [0, 180].
    fill: grey value of pixels from outside the image.
    min_degrees: lowest angle; None: `-max_degrees`. Both are in [-360, 360].

  Raises:
    ValueError: a setting is out of range.
  """
  check.image_or_batch(images)
  if min_degrees is None:
    check.within("max_degrees", max_degrees, 0, 180)
    min_degrees = -max_degrees
  check.interval(
    "min_degrees", min_degrees, "max_degrees", max_degrees, -360, 360
  )

  def one(key, image):
    return rotate(image, draw.uniform(key, min_degrees, max_degrees), fill)

  return each_example(one, key, images)


@on_any_mesh
def affine(
  images: jax.Array,
  degrees: jax.Array | float = 0.0,
  translate: jax.Array | Sequence[float] = (0.0, 0.0),
  scale: jax.Array | float = 1.0,
  shear: jax.Array | Sequence[float] = (0.0, 0.0),
  fill: float = 0.5,
) -> jax.Array:
  """Shears, rotates and zooms about the middle, then translates.

  This is torchvision's `affine`, except that `degrees` are counter-clockwise as
  in `rotate`: torchvision's angle is `-degrees`.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    degrees: of the rotation, scalar or `[B]`.
    translate: pixels to the right and down, `[2]` or `[B, 2]`.
    scale: zoom, above 0, scalar or `[B]`; 2 doubles the size of objects.
    shear: degrees along x and along y, `[2]` or `[B, 2]`.
    fill: grey value of pixels from outside the image.

  Raises:
    ValueError: a setting has the wrong shape or is out of range.
  """
  check.image_or_batch(images)
  check.fill(fill)
  check.above("scale", scale, 0, per_example=True)

  def one(image, degrees, translate, scale, shear):
    # The matrix is R(angle) @ [[1, 0], [-tan(shear_y), 1]] @ [[1,
    # -tan(shear_x)], [0, 1]] * scale, with a determinant of scale^2.
    angle = -jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    tan_x, tan_y = jnp.tan(jnp.deg2rad(shear))
    a, c = cos + sin * tan_y, sin - cos * tan_y
    b, d = -a * tan_x - sin, -c * tan_x + cos
    inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / scale
    offset = -inverse[:, 0] * translate[0] - inverse[:, 1] * translate[1]
    return warp(image, inverse, offset, fill)

  return map_images(
    one,
    images,
    degrees=(degrees, ()),
    translate=(translate, (2,)),
    scale=(scale, ()),
    shear=(shear, (2,)),
  )


@on_any_mesh
def random_affine(
  key: jax.Array,
  images: jax.Array,
  max_degrees: float = 0.0,
  max_translate: float = 0.0,
  min_scale: float = 1.0,
  max_scale: float = 1.0,
  max_shear: float = 0.0,
  fill: float = 0.5,
) -> jax.Array:
  """Rotates, translates, zooms and shears at random; see `affine`.

  Each number is uniform.

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, any real dtype.
    max_degrees: bound on the rotation in either direction, at most 180.
    max_translate: bound on the translation in either direction, as a share of
      the width and of the height, at most 1.
    min_scale, max_scale: bounds on the zoom, above 0.
    max_shear: bound on the degrees of shear along x and along y, below 90.
    fill: grey value of pixels from outside the image.

  Raises:
    ValueError: a setting is out of range.
  """
  check.image_or_batch(images)
  check.within("max_degrees", max_degrees, 0, 180)
  check.within("max_translate", max_translate, 0, 1)
  check.above("min_scale", min_scale, 0)
  check.interval("min_scale", min_scale, "max_scale", max_scale, 0, np.inf)
  check.within("max_shear", max_shear, 0, 89)
  rows, columns = images.shape[-3:-1]

  def one(key, image):
    turn_key, move_key, zoom_key, shear_key = jax.random.split(key, 4)
    sides = jnp.array([columns, rows], jnp.float32)
    move = draw.uniform(move_key, -max_translate, max_translate, (2,))
    return affine(
      image,
      draw.uniform(turn_key, -max_degrees, max_degrees),
      move * sides,
      draw.uniform(zoom_key, min_scale, max_scale),
      draw.uniform(shear_key, -max_shear, max_shear, (2,)),
      fill,
    )

  return each_example(one, key, images)
