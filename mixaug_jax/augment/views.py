"""Views of an image, for test-time augmentation to average over."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check
from mixaug_jax.augment.crops import center_crop, pad, places_of_five_crops
from mixaug_jax.augment.flips import flip_left_right
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.resizing import resized_crop

_ZOOMS = (1, 7 / 8, 3 / 4)


def _identity(images, size):
  return [center_crop(images, size)]


def _flip(images, size):
  return [flip_left_right(center_crop(images, size))]


def _five_crops(images, size):
  """Returns corners and middle.

  The crops have the size of the network's input, or 7/8 of the shorter stored
  side if that is no larger than the input.
  """
  rows, columns = images.shape[1:3]
  stored = min(rows, columns)
  side = size if stored > size else round(7 / 8 * stored)
  places = places_of_five_crops(rows, columns, side, side)
  return [_window(images, place, (side, side), size) for place in places]


def _ten_crops(images, size):
  mirrored = flip_left_right(images)
  return _five_crops(images, size) + _five_crops(mirrored, size)


def _scales(images, size):
  """Returns the whole stored image and two zooms into its middle."""
  stored = images.shape[1:3]
  views = []
  for zoom in _ZOOMS:
    sides = [round(zoom * side) for side in stored]
    place = [(a - b) // 2 for a, b in zip(stored, sides, strict=True)]
    views.append(_window(images, place, sides, size))
  return views


def _shifts(images, size):
  """Returns the middle, and the middle shifted by 1/16 of a side four times.

  Mirrored pixels stand for a margin that is not stored.
  """
  by = max(1, round(size / 16))
  middle = center_crop(images, size)
  padded = pad(images, by, "reflect")
  top, left = ((side - size) // 2 + by for side in images.shape[1:3])
  places = [(top - by, left), (top + by, left)]
  places += [(top, left - by), (top, left + by)]
  windows = [_window(padded, place, (size, size), size) for place in places]
  return [middle, *windows]


def _window(images, place, sides, size):
  (top, left), (height, width) = place, sides
  if height == width == size:
    return images[:, top : top + size, left : left + size]
  return resized_crop(images, top, left, height, width, size)


VIEWS: dict[str, Callable[[jax.Array, int], list[jax.Array]]] = {
  "identity": _identity,
  "flip": _flip,
  "five_crops": _five_crops,
  "ten_crops": _ten_crops,
  "scales": _scales,
  "shifts": _shifts,
}


def make_views(
  names: str | Sequence[str], image_size: int
) -> Callable[[jax.Array], jax.Array]:
  """Builds the views of images for test-time augmentation.

  Args:
    names: keys of `VIEWS`, as a sequence or separated by commas: `identity`
      (the middle crop of evaluation), `flip` (its mirror image), `five_crops`
      (corners and middle), `ten_crops` (the five crops of the image and of its
      mirror image), `scales` (three zooms), `shifts` (the middle crop, and the
      same moved up, down, left and right by 1/16 of its side).
    image_size: pixels a side of the network's input.

  Returns:
    A deterministic function `images [B, H, W, C] -> [views, B, image_size,
    image_size, C]` that keeps the dtype; H and W are at least image_size.

  Raises:
    ValueError: a name is unknown or repeated, or no name is given. The function
      raises it if images are smaller than `image_size`.
  """
  if isinstance(names, str):
    names = names.split(",")
  names = [name.strip() for name in names]
  for name in names:
    check.choice("views", name, tuple(VIEWS))
  if not names or len(set(names)) < len(names):
    raise ValueError(f"views must be named, each once, got {names}")

  @on_any_mesh(batch_axis=1)
  def views(images: jax.Array) -> jax.Array:
    check.batch(images)
    return jnp.stack(
      [x for name in names for x in VIEWS[name](images, image_size)]
    )

  return views
