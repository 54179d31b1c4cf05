"""Views of an image, for test-time augmentation to average over."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.geometric import (
  central_crop,
  crop_and_resize,
  flip_left_right,
)

_ZOOMS = (1, 7 / 8, 3 / 4)


def _identity(images, size):
  return [central_crop(images, size)]


def _flip(images, size):
  return [flip_left_right(central_crop(images, size))]


def _five_crops(images, size):
  """Returns corners and middle.

  The crops have the size of the network's input, or 7/8 of the stored side if
  stored images are no larger than that input.
  """
  stored = images.shape[1]
  side = size if stored > size else round(7 / 8 * stored)
  far, middle = stored - side, (stored - side) // 2
  places = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
  return [_window(images, place, side, size) for place in places]


def _scales(images, size):
  """Returns the whole stored image and two zooms into its middle."""
  stored = images.shape[1]
  views = []
  for zoom in _ZOOMS:
    side = round(zoom * stored)
    start = (stored - side) // 2
    views.append(_window(images, (start, start), side, size))
  return views


def _window(images, place, side, size):
  top, left = place
  if side == size:
    return images[:, top : top + side, left : left + side]
  return crop_and_resize(images, top, left, side, side, size)


VIEWS: dict[str, Callable[[jax.Array, int], list[jax.Array]]] = {
  "identity": _identity,
  "flip": _flip,
  "five_crops": _five_crops,
  "scales": _scales,
}


def make_views(
  names: str | Sequence[str], image_size: int
) -> Callable[[jax.Array], jax.Array]:
  """Builds the views of images for test-time augmentation.

  Args:
    names: keys of `VIEWS`, as a sequence or separated by commas: `identity`
      (the middle crop of evaluation), `flip` (its mirror image), `five_crops`
      (corners and middle), `scales` (three zooms).
    image_size: pixels a side of the network's input.

  Returns:
    A deterministic function `images [B, S, S, 3] -> [views, B, image_size,
    image_size, 3]` that keeps the dtype; S is at least image_size.

  Raises:
    ValueError: a name is unknown or repeated, or no name is given.
  """
  if isinstance(names, str):
    names = names.split(",")
  names = [name.strip() for name in names]
  for name in names:
    check.choice("views", name, tuple(VIEWS))
  if not names or len(set(names)) < len(names):
    raise ValueError(f"views must be named, each once, got {names}")

  def views(images: jax.Array) -> jax.Array:
    check.batch(images)
    return jnp.stack(
      [x for name in names for x in VIEWS[name](images, image_size)]
    )

  return views
