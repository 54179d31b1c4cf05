"""Decodes images to uint8 squares with Pillow, which releases the GIL.

The result is always upright RGB: EXIF rotation is applied, greyscale and
palettes are expanded, CMYK is converted, transparent pixels become white, 16
bits become 8, and an animation gives its first frame.
"""

import dataclasses
import io
import warnings
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mixaug_jax.errors import UserError

# Larger images are refused, because they may be decompression bombs.
MAX_PIXELS = 100_000_000
# Pillow warns at a smaller size. The filter is set once, and not around each
# opening, because all threads share the filters.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an image becomes a square.

  Attributes:
    size: the side of the square, in pixels.
    resize: `crop` scales the short side and keeps the centre; `squash` scales
      both sides; `pad` scales the long side and adds black.
    bits: the bits that 16-bit files use: 10, 12, 14 or 16.
  """

  size: int
  resize: str = "crop"
  bits: int = 16


def settings(config: Any) -> Settings:
  """Returns the settings of `config.data`."""
  size = config.cache_size or config.image_size
  return Settings(size, config.resize, config.bits)


@dataclasses.dataclass(frozen=True)
class Decoded:
  """A decoded image.

  Attributes:
    pixels: uint8 RGB `[size, size, 3]`.
    height: of the upright picture, in pixels.
    width: likewise.
    peak: the brightest value of a 16-bit file; None for other images.
  """

  pixels: np.ndarray
  height: int
  width: int
  peak: int | None = None


class BadImage(Exception):  # noqa: N818 (an image, not an error of ours)
  """An image that cannot be read; the text is the reason."""


def decode(image: bytes | np.ndarray, settings: Settings) -> Decoded:
  """Decodes an image to a square, resampled bilinearly and antialiased.

  Args:
    image: an encoded image, or uint8 `[H, W, 3]`.
    settings: the square.

  Raises:
    BadImage: the image cannot be read.
  """
  try:
    if isinstance(image, np.ndarray):
      height, width = image.shape[:2]
      picture = Image.fromarray(image)
    else:
      height, width = picture_size(image)
      picture = _open(image, settings.size)
    pixels = np.asarray(_square(picture, settings.size, settings.resize))
    return Decoded(pixels, height, width)
  except BadImage:
    raise
  except Exception as error:  # Pillow's decoders raise many types.
    raise BadImage(_reason(error, image)) from error


def box_in_square(
  resize: str, height: int, width: int, box: np.ndarray
) -> np.ndarray:
  """Transforms boxes of a picture into the square that `decode` returns.

  Args:
    resize: as in `decode`.
    height: the height of the upright picture, a scalar or `[...]`.
    width: the width, likewise.
    box: (ymin, xmin, ymax, xmax) in fractions of the picture, `[..., 4]`.

  Returns:
    float32 `[..., 4]`, in fractions of the square and clipped to it, so a box
    that `crop` cuts off has no area. With `pad`, it is exact up to the pixel
    to which `decode` rounds.
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


def picture_size(image: bytes | np.ndarray) -> tuple[int, int]:
  """Returns height and width of the upright picture, without its pixels."""
  if isinstance(image, np.ndarray):
    return image.shape[:2]
  picture = Image.open(io.BytesIO(image))
  width, height = picture.size
  sideways = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
  return (width, height) if sideways else (height, width)


def read(path: str, settings: Settings) -> np.ndarray:
  """Decodes a file as `decode` does; returns its pixels.

  Raises:
    UserError: the file cannot be read.
  """
  try:
    with open(path, "rb") as file:
      return decode(file.read(), settings).pixels
  except (OSError, BadImage) as error:
    why = getattr(error, "strerror", None) or error
    raise UserError(f"cannot read the image {path}: {why}") from None


def _open(encoded: bytes, size: int) -> Image.Image:
  picture = Image.open(io.BytesIO(encoded))
  if picture.width * picture.height > MAX_PIXELS:
    raise BadImage(
      f"{picture.width}x{picture.height} pixels are more than "
      f"{MAX_PIXELS:,}; it may be a decompression bomb"
    )
  # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which is faster. Twice
  # the target size is kept for antialiasing.
  picture.draft("RGB", (2 * size, 2 * size))
  ImageOps.exif_transpose(picture, in_place=True)
  return _rgb(picture)


def _rgb(picture: Image.Image) -> Image.Image:
  if picture.mode.startswith("I"):  # Pillow would clip 16 bits at 255.
    array = np.asarray(picture).astype(np.int64)
    picture = Image.fromarray((array.clip(0, 65535) >> 8).astype(np.uint8))
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture)
  # Converting RGB to RGB would copy it.
  return picture if picture.mode == "RGB" else picture.convert("RGB")


def _square(picture: Image.Image, size: int, resize: str) -> Image.Image:
  width, height = picture.size
  target = (size, size)
  if resize == "squash":
    return picture.resize(target, Image.Resampling.BILINEAR)
  if resize == "pad":
    return ImageOps.pad(picture, target, Image.Resampling.BILINEAR)
  side = min(width, height)
  left, top = (width - side) / 2, (height - side) / 2
  return picture.resize(
    target,
    Image.Resampling.BILINEAR,
    box=(left, top, left + side, top + side),
  )


def _reason(error: Exception, image: bytes | np.ndarray) -> str:
  if isinstance(image, bytes) and not image:
    return "the file is empty"
  if isinstance(error, Image.UnidentifiedImageError):
    return "it is not an image in a known format"
  return str(error).partition("\n")[0] or type(error).__name__
