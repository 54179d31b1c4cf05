"""The boxes of CutMix as other libraries draw them.

Each form draws a box and returns it with the share of the image that the box
would fill if it were not clipped.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mixaug_jax.augment import draw
from mixaug_jax.augment.boxes import box, clipped_box, inner_box, whole
from mixaug_jax.augment.mixing import Drawn

# Takes a key, a function from a key to lambda, and the sides of the image.
Form = Callable[
  [jax.Array, Callable[[jax.Array], jax.Array], int, int],
  tuple[Drawn, jax.Array],
]


def share(box_height, box_width, height, width) -> jax.Array:
  """Returns the area of a box over that of the image, at most 1, float32."""
  area = jnp.asarray(box_height * box_width, jnp.float32)
  return jnp.minimum(area / (height * width), 1)


def _sides(key, draw_lambda, height, width):
  """Draws the sides of a box of the share 1 - lambda, float32."""
  side = jnp.sqrt(1 - draw_lambda(key))
  return height * side, width * side


def halves(key, draw_lambda, height, width, rounded=whole):
  """Half a side, rounded down, on each side of a uniform pixel; clipped."""
  lam_key, place_key = jax.random.split(key)
  sides = _sides(lam_key, draw_lambda, height, width)
  box_height, box_width = (2 * (rounded(side) // 2) for side in sides)
  drawn = clipped_box(place_key, box_height, box_width, height, width)
  return drawn, share(box_height, box_width, height, width)


def rounded_halves(key, draw_lambda, height, width):
  """The same with sides that are rounded to the nearest pixel first."""
  to_nearest = lambda side: whole(jnp.round(side))
  return halves(key, draw_lambda, height, width, to_nearest)


def inside(key, draw_lambda, height, width):
  """Sides that are rounded down, at a uniform place inside the image."""
  lam_key, place_key = jax.random.split(key)
  sides = map(whole, _sides(lam_key, draw_lambda, height, width))
  box_height, box_width = sides
  drawn = inner_box(place_key, box_height, box_width, height, width)
  return drawn, share(box_height, box_width, height, width)


def inside_real(key, draw_lambda, height, width):
  """Sides and place are real numbers; the pixels whose corner lies inside."""
  lam_key, y_key, x_key = jax.random.split(key, 3)
  box_height, box_width = _sides(lam_key, draw_lambda, height, width)

  def span(key, side, length):
    start = draw.uniform(key) * (length - side)
    first, end = whole(jnp.ceil(start)), whole(jnp.ceil(start + side))
    return first, jnp.minimum(end, length) - first

  y, x = span(y_key, box_height, height), span(x_key, box_width, width)
  return box(*y, *x, height, width), share(box_height, box_width, height, width)


def independent(key, draw_lambda, height, width):
  """A lambda for each side; below the centre, half the width; clipped."""
  keys = jax.random.split(key, 4)
  half_height, half_width = (
    whole(side * jnp.sqrt(1 - draw_lambda(key))) // 2
    for side, key in zip((height, width), keys[:2], strict=True)
  )
  y, x = draw.integer(keys[2], 0, height), draw.integer(keys[3], 0, width)
  top, left = jnp.maximum(0, y - half_height), jnp.maximum(0, x - half_width)
  bottom = jnp.minimum(height, y + half_width)
  right = jnp.minimum(width, x + half_width)
  drawn = box(top, bottom - top, left, right - left, height, width)
  sides = half_height + half_width, 2 * half_width
  return drawn, share(*sides, height, width)


FORMS: dict[str, Form] = {
  "halves": halves,
  "rounded_halves": rounded_halves,
  "inside": inside,
  "inside_real": inside_real,
  "independent": independent,
}
