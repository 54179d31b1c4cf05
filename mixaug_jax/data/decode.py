"""Encoded images to uint8 squares, by Pillow, which releases the GIL.

Whatever a file holds comes out as upright RGB: EXIF rotation is applied,
greyscale and palettes are expanded, CMYK is converted, transparency is laid on
white, 16 bits become 8, and of an animation the first frame is taken.
"""

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mixaug_jax.errors import UserError

# A photograph of 100 megapixels is one; more is a decompression bomb.
MAX_PIXELS = 100_000_000
# Pillow warns of one at a size of its own choosing. (Not around each opening:
# filters are those of all threads.)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImage(Exception):  # noqa: N818 (an image, not an error of ours)
  """An image that cannot be read; the text says why."""


def decode(
  image: bytes | np.ndarray, size: int, resize: str = "crop"
) -> np.ndarray:
  """Decodes an image to a square.

  Args:
    image: an encoded image, or uint8 `[H, W, 3]`.
    size: pixels a side of the square.
    resize: `crop` scales the short side and cuts the middle out; `squash`
      scales both sides; `pad` scales the long side and adds black.

  Returns:
    uint8 RGB `[size, size, 3]`, resampled bilinearly and antialiased.

  Raises:
    BadImage: what is wrong with it.
  """
  try:
    picture = (
      Image.fromarray(image)
      if isinstance(image, np.ndarray)
      else _open(image, size)
    )
    return np.asarray(_square(picture, size, resize))
  except BadImage:
    raise
  except Exception as error:  # Pillow's decoders raise a zoo of them.
    raise BadImage(_reason(error, image)) from error


def box_in_square(
  resize: str, height: int, width: int, box: np.ndarray
) -> np.ndarray:
  """Where a box of the picture lies in the square that `decode` makes of it.

  Args:
    resize: as for `decode`.
    height: of the upright picture; one, or one a box, `[...]`.
    width: likewise.
    box: (ymin, xmin, ymax, xmax) in fractions of the picture, `[..., 4]`.

  Returns:
    float32 `[..., 4]`, in fractions of the square, to within the pixel that
    `pad` rounds to; what `crop` cuts off is not in it, so a box outside of
    the middle has no area.
  """
  box = np.asarray(box, np.float32)
  if resize == "squash":
    return box
  # The square, laid over the picture centre on centre, has the short side to
  # crop and the long one to pad.
  pixels = np.stack([height, width, height, width], axis=-1)
  extent = pixels.min if resize == "crop" else pixels.max
  side = extent(axis=-1, keepdims=True)
  square = (box * pixels - (pixels - side) / 2) / side
  return square.clip(0, 1).astype(np.float32)


def picture_size(image: bytes | np.ndarray) -> tuple[int, int]:
  """Height and width of the upright picture, its pixels unread."""
  if isinstance(image, np.ndarray):
    return image.shape[:2]
  picture = Image.open(io.BytesIO(image))
  width, height = picture.size
  sideways = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
  return (width, height) if sideways else (height, width)


def read(path: str, size: int, resize: str = "crop") -> np.ndarray:
  """Decodes a file; raises UserError naming it where it cannot be read."""
  try:
    with open(path, "rb") as file:
      return decode(file.read(), size, resize)
  except (OSError, BadImage) as error:
    why = getattr(error, "strerror", None) or error
    raise UserError(f"cannot read the image {path}: {why}") from None


def _open(encoded: bytes, size: int) -> Image.Image:
  picture = Image.open(io.BytesIO(encoded))
  if picture.width * picture.height > MAX_PIXELS:
    raise BadImage(
      f"{picture.width}x{picture.height} pixels are more than "
      f"{MAX_PIXELS:,}: a decompression bomb?"
    )
  # JPEG can be decoded at a half, a quarter or an eighth of its size, for as
  # much less work; twice what is needed is left to antialias.
  picture.draft("RGB", (2 * size, 2 * size))
  ImageOps.exif_transpose(picture, in_place=True)
  return _rgb(picture)


def _rgb(picture: Image.Image) -> Image.Image:
  if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255.
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
    return "it is no image that can be read"
  return str(error).partition("\n")[0] or type(error).__name__
