"""Activation maps over photos: the place of each file, and its pixels."""

import errno
import math
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from mixaug_jax.analysis import cam, marked_png
from mixaug_jax.data import boxes, decode
from mixaug_jax.data.image_files import Found
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable

_COMMAND = "predict"
_MAX_NAME = 255  # Bytes, on almost every disk.
_ROWS = 64  # Rows of a photo that are drawn at a time, to save memory.

Places = dict[pathlib.Path, pathlib.Path]  # The overlay of each photo.


def plan(
  photos: Sequence[Found],
  named: Iterable[pathlib.Path],
  folder: pathlib.Path,
) -> Places:
  """Chooses a file below `folder` for each photo; nothing is written.

  The folders of the photos are kept. A name that is taken gets a number, also
  where only its case or its suffix differs, because some disks ignore case.

  Args:
    photos: the photos.
    named: the files and folders that the user named.
    folder: the folder for the overlays.

  Raises:
    UserError: `folder` lies in a folder of photos, a link leads out of it, or
      a file that is no overlay is in the way.
  """
  _refuse_inside(folder, named)
  taken = {_key(x) for photo in photos for x in photo.place.parents}
  number: dict[str, int] = {}
  places: Places = {}
  for photo in photos:
    if photo.path in places:  # It was named twice.
      continue
    parent, stem = photo.place.parent, photo.place.stem
    place = parent / _name(stem, ".png")
    key = _key(place)
    while _key(place) in taken:
      number[key] = number.get(key, 1) + 1
      place = parent / _name(stem, f"_{number[key]}.png")
    taken.add(_key(place))
    places[photo.path] = folder / place
  _refuse_existing(places, folder)
  return places


def write(
  places: Places,
  photos: Sequence[pathlib.Path],
  activations: Iterable[np.ndarray],
  square: decode.Settings,
  view: int,
) -> list[pathlib.Path | UserError]:
  """Writes photos in their own size with maps where the network looked.

  Args:
    places: what `plan` returned.
    photos: some of its photos; one at a time is in memory.
    activations: a map for each, float `[h, w]`; more are ignored.
    square: how a photo becomes a stored square.
    view: as in `boxes.view_in_picture`.

  Returns:
    The file of each photo, or the reason why the photo cannot be read.

  Raises:
    UserError: a file cannot be written.
  """
  written: list[pathlib.Path | UserError] = []
  for photo, activation in zip(photos, activations, strict=False):
    try:
      picture = decode.read_whole(photo, square.bits)
    except UserError as error:
      written.append(error)
      continue
    box = boxes.view_in_picture(square, view, *picture.shape[:2])
    lay_over(picture, activation, box)
    place = places[photo]
    comment = f"activation map over {printable(str(photo))}"
    try:
      place.parent.mkdir(parents=True, exist_ok=True)
      marked_png.save(Image.fromarray(picture), place, _COMMAND, comment)
    except OSError as error:
      full = error.errno in (errno.ENOSPC, errno.EDQUOT)
      raise UserError(
        f"cannot write {printable(str(place))}: {error.strerror or error}; "
        f"name another --output{', or make room' if full else ''}"
      ) from None
    written.append(place)
  return written


def lay_over(
  picture: np.ndarray,
  activation: np.ndarray,
  box: tuple[float, float, float, float],
) -> None:
  """Lays a map over a box of a picture, in place, as `cam.overlay` does.

  Args:
    picture: uint8 `[H, W, 3]`.
    activation: float `[h, w]`; negative values count as zero. It is
      interpolated bilinearly between the centres of its cells.
    box: (ymin, xmin, ymax, xmax) in pixels; it may exceed the picture. A pixel
      belongs to it if its centre does.
  """
  heat = np.maximum(activation, 0, dtype=np.float32)
  heat /= heat.max() or 1
  ymin, xmin, ymax, xmax = box
  height, width = picture.shape[:2]
  rows, down = _interpolation(ymin, ymax, height, heat.shape[0])
  columns, across = _interpolation(xmin, xmax, width, heat.shape[1])
  for first in range(0, len(down), _ROWS):
    some = down[first : first + _ROWS]
    part = picture[rows.start + first :][: len(some), columns]
    part[:] = cam.overlay(part, some @ heat @ across.T)


def _interpolation(
  low: float, high: float, pixels: int, cells: int
) -> tuple[slice, np.ndarray]:
  """Returns the pixels of an axis from `low` to `high`, and their weights.

  The weights of the cells are float32 `[pixels in the slice, cells]`.
  """
  inside = slice(
    max(0, math.ceil(low - 0.5)), min(pixels, math.ceil(high - 0.5))
  )
  centres = np.arange(inside.start, inside.stop) + 0.5
  cell = (centres - low) / (high - low) * cells - 0.5
  distance = np.abs(cell.clip(0, cells - 1)[:, None] - np.arange(cells))
  return inside, np.maximum(0, 1 - distance).astype(np.float32)


def _key(place: pathlib.PurePath) -> str:
  """Returns what is equal for names that some disks take for the same."""
  return unicodedata.normalize("NFC", str(place).casefold())


def _name(stem: str, ending: str) -> str:
  """Returns the name of an overlay, shortened to what disks allow."""
  while len(os.fsencode(stem + ending)) > _MAX_NAME:
    stem = stem[:-1]
  return stem + ending


def _refuse_inside(folder: pathlib.Path, named: Iterable[pathlib.Path]) -> None:
  """Raises UserError if a later run would take overlays for photos."""
  real = pathlib.Path(os.path.realpath(folder))
  for path in named:
    if os.path.isdir(path) and real.is_relative_to(os.path.realpath(path)):
      raise UserError(
        f"--output={printable(str(folder))} lies in {printable(str(path))}, "
        "whose images are predicted; name a folder outside of it"
      )


def _refuse_existing(places: Places, folder: pathlib.Path) -> None:
  """Raises UserError for links, and for files that are no overlays."""
  inputs = {identity for photo in places if (identity := _identity(photo))}
  checked = set()
  for place in places.values():
    for above in place.parents:
      if above == folder or above in checked:
        break
      checked.add(above)
      if os.path.islink(above):
        raise UserError(
          f"{printable(str(above))} is a link, which overlays do not follow; "
          "remove it, or name another --output"
        )
    if _identity(place) in inputs:
      raise UserError(
        f"the overlay {printable(str(place))} would replace an image that is "
        "predicted; name another --output"
      )
    marked_png.refuse_another(place, _COMMAND)


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
  try:
    status = os.stat(path)
  except OSError:
    return None
  return status.st_dev, status.st_ino
