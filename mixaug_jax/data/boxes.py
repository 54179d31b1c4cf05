"""Boxes in a picture and in the square that a network is given of it."""

import numpy as np

from mixaug_jax.data.decode import Settings


def box_in_square(
  resize: str, height: int, width: int, box: np.ndarray
) -> np.ndarray:
  """Transforms boxes of a picture into the square that `decode.decode` returns.

  Args:
    resize: as in `decode.Settings`.
    height: the height of the upright picture, a scalar or `[...]`.
    width: the width, likewise.
    box: (ymin, xmin, ymax, xmax) in fractions of the picture, `[..., 4]`.

  Returns:
    float32 `[..., 4]`, in fractions of the square and clipped to it, so a box
    that `crop` cuts off has no area. With `pad`, it is exact up to the pixel
    to which the decoder rounds.
  """
  box = np.asarray(box, np.float32)
  if resize == "squash":
    return box
  # The square has the centre of the picture. Its side is the short side of the
  # picture with `crop`, and the long side with `pad`.
  pixels = np.stack([height, width, height, width], axis=-1)
  extent = pixels.min if resize == "crop" else pixels.max
  side = extent(axis=-1, keepdims=True)
  square = (box * pixels - (pixels - side) / 2) / side
  return square.clip(0, 1).astype(np.float32)


def view_in_picture(
  square: Settings, view: int, height: int, width: int
) -> tuple[float, float, float, float]:
  """Returns the box in a picture that a network sees.

  Args:
    square: how the picture becomes a stored square.
    view: the side of the crop from its centre that the network is given
      (`augment.center_crop`), in pixels of the square.
    height: the height of the upright picture.
    width: its width.

  Returns:
    (ymin, xmin, ymax, xmax) in pixels of the picture. With `pad`, it may lie
    outside of the picture in part.
  """
  first = (square.size - view) // 2
  axes = []
  for side in (height, width):
    # The place of the picture in the square, along this axis.
    extent: float = square.size
    if square.resize == "crop":
      extent *= side / min(height, width)
      start = (square.size - extent) / 2
    else:
      if square.resize == "pad":  # As `ImageOps.pad` rounds.
        extent = round(side / max(height, width) * square.size)
      start = round((square.size - extent) / 2)
    scale = side / extent
    axes.append(((first - start) * scale, (first + view - start) * scale))
  (ymin, ymax), (xmin, xmax) = axes
  return ymin, xmin, ymax, xmax
