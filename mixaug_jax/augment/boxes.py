"""Boxes: where one is placed, and its mask and share of the image."""

import jax
import jax.numpy as jnp

from mixaug_jax.augment import draw
from mixaug_jax.augment.mixing import Drawn


def whole(x: jax.Array | float) -> jax.Array:
  return jnp.asarray(x, jnp.int32)


def clipped_box(key, box_height, box_width, height, width) -> Drawn:
  """Draws a box centred on a uniform pixel and clipped to the image."""
  y_key, x_key = jax.random.split(key)
  y, x = draw.integer(y_key, 0, height), draw.integer(x_key, 0, width)
  return centred_box(y, x, box_height, box_width, height, width)


def centred_box(y, x, box_height, box_width, height, width) -> Drawn:
  """Returns the draw of a box with this centre, clipped to the image."""

  def span(centre, side, whole):
    start = centre - side // 2
    end = jnp.minimum(start + side, whole)
    start = jnp.maximum(start, 0)
    return start, end - start

  top, box_height = span(y, box_height, height)
  left, box_width = span(x, box_width, width)
  return box(top, box_height, left, box_width, height, width)


def inner_box(key, box_height, box_width, height, width) -> Drawn:
  """Draws a box at a uniform position inside the image."""
  y_key, x_key = jax.random.split(key)
  top = draw.integer(y_key, 0, height - box_height + 1)
  left = draw.integer(x_key, 0, width - box_width + 1)
  return box(top, box_height, left, box_width, height, width)


def box(top, box_height, left, box_width, height, width) -> Drawn:
  """Returns the draw of a box; `extra` is the box, int32 `[4]`."""
  y = jnp.arange(height, dtype=jnp.int32)[:, None]
  x = jnp.arange(width, dtype=jnp.int32)[None]
  inside = (y >= top) & (y < top + box_height)
  inside &= (x >= left) & (x < left + box_width)
  # Lambda is counted again, because clipping and rounding have changed it.
  pixels = (box_height * box_width).astype(jnp.float32)
  box = jnp.stack([top, box_height, left, box_width]).astype(jnp.int32)
  return Drawn(~inside[..., None], 1 - pixels / (height * width), box)
