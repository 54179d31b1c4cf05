"""Decodes images to uint8 squares with Pillow, which releases the GIL.

The result is always upright RGB: the orientation of EXIF is applied, greyscale
and palettes are expanded, CMYK is converted, transparent pixels become white,
16 bits become 8, and an animation gives its first frame.
"""

import contextlib
import dataclasses
import io
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from PIL import (
  ExifTags,
  Image,
  ImageOps,
  PpmImagePlugin,
  TiffImagePlugin,
)

from mixaug_jax.data import declared_size, image_metadata, regular_file
from mixaug_jax.data.pixel_budget import PixelBudget
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable

# Pillow knows many more formats, whose rarely used decoders are a risk with
# files of unknown origin; one of them, EPS, starts another program. None of
# these starts a program or reads a second file.
FORMATS = (
  "JPEG",  # Cameras and the web; with it come their MPO files.
  "PNG",  # Screenshots, and data sets that must not lose anything.
  "WEBP",  # The web.
  "GIF",  # The web, before PNG.
  "BMP",  # Windows and old microscopes.
  "TIFF",  # Scanners, microscopes and satellites; more than 8 bits.
  "AVIF",  # The web, after WebP.
  "PPM",  # Research data sets; PGM and PBM are of its kind.
)
# Larger images are refused, because they may be decompression bombs.
MAX_PIXELS = 100_000_000
# All threads together hold as many pixels as two of the largest images, at 4
# bytes each or more: a picture with transparency is copied several times.
_BUDGET = PixelBudget(2 * MAX_PIXELS)
# glibc keeps freed blocks of up to 32 MiB for each thread that allocated them,
# and returns larger ones. Pillow's own block size is 16 MiB.
Image.core.set_block_size(64 * 2**20)
# Pillow warns at a smaller size, and about damaged metadata. The filters are
# set once, and not around each opening, because all threads share them.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ORIENTATION_IN_XMP = re.compile(r"""tiff:Orientation(?:=["']|>)([1-8])""")
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC = ExifTags.Base.PhotometricInterpretation
_BITS = (10, 12, 14, 16)  # The values of config.data.bits.

_Encoded = bytes | bytearray | memoryview
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an image becomes a square.

  Attributes:
    size: the side of the square, in pixels.
    resize: `crop` scales the short side and keeps the centre; `squash` scales
      both sides; `pad` scales the long side and adds black.
    bits: the bits that 16-bit files use: 10, 12, 14 or 16. Their values, 0 to
      `2**bits - 1`, become 8 bits by a shift to the right.
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
    peak: the brightest value of a file of 16 or 32 bits; None for images that
      state their own range.
  """

  pixels: np.ndarray
  height: int
  width: int
  peak: int | None = None


class BadImage(Exception):  # noqa: N818 (an image, not an error of ours)
  """An image that cannot be read; the text is the reason."""


def decode_square(image: bytes | np.ndarray, settings: Settings) -> Decoded:
  """Decodes an image to a square, resampled bilinearly and antialiased.

  Args:
    image: an encoded image in one of `FORMATS`; or an array `[H, W]`,
      `[H, W, 1]` or `[H, W, 3]`, of uint8 or of floats in [0, 1], which are
      rounded to 8 bits.
    settings: the square.

  Raises:
    BadImage: the image cannot be read, or has values outside its range.
  """

  def of_file(encoded: _Encoded, held: contextlib.ExitStack) -> Decoded:
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which is faster.
    # Twice the target size is kept for antialiasing.
    upright = _upright(encoded, held, settings.bits, 2 * settings.size)
    square = _square(upright.picture, settings.size, settings.resize)
    return Decoded(
      np.asarray(square), upright.height, upright.width, upright.peak
    )

  with _reasons(image):
    if isinstance(image, _Encoded):
      return _despite_metadata(of_file, image)
    pixels = _checked(image)
    picture = _rgb(Image.fromarray(pixels))
    square = _square(picture, settings.size, settings.resize)
    return Decoded(np.asarray(square), *pixels.shape[:2])


def decode(
  image: bytes | np.ndarray, size: int, resize: str = "crop", bits: int = 16
) -> np.ndarray:
  """Returns the pixels of `decode_square`, uint8 `[size, size, 3]`."""
  return decode_square(image, Settings(size, resize, bits)).pixels


def range_warning(peak: int, bits: int) -> str | None:
  """Returns a warning if 16-bit images use a small part of their range.

  Args:
    peak: the brightest value of all of them, as in `Decoded`.
    bits: `Settings.bits`.
  """
  fitting = next(b for b in _BITS if peak < 2**b or b == _BITS[-1])
  if fitting >= bits:
    return None
  if peak < 256:
    advice = "store them as 8-bit files"
  else:
    advice = (
      f"if their values have {fitting} bits, set config.data.bits={fitting}, "
      "or store colour images with 8 bits"
    )
  return (
    f"the brightest value of all 16-bit images is {peak:,} of "
    f"{2**bits - 1:,}, so that they are dark; {advice}"
  )


def picture_size(image: bytes | np.ndarray) -> tuple[int, int]:
  """Returns height and width of the upright picture, as `decode` does.

  Raises:
    BadImage: the image cannot be read.
  """

  def of_file(encoded: _Encoded, held: contextlib.ExitStack) -> tuple[int, int]:
    picture, (width, height) = _opened(encoded, held)
    sideways = _orientation(picture) >= 5
    return (width, height) if sideways else (height, width)

  with _reasons(image):
    if isinstance(image, _Encoded):
      return _despite_metadata(of_file, image)
    return _checked(image).shape[:2]


def read(path: str | os.PathLike, settings: Settings) -> np.ndarray:
  """Decodes a file as `decode` does; returns its pixels.

  Raises:
    UserError: the file cannot be read.
  """
  return _of_path(path, lambda x: decode_square(x, settings).pixels)


def read_whole(path: str | os.PathLike, bits: int = 16) -> np.ndarray:
  """Decodes a file at its own size.

  Args:
    path: an image in one of `FORMATS`.
    bits: as in `Settings`.

  Returns:
    The upright picture, uint8 RGB `[H, W, 3]`, a copy that can be written.

  Raises:
    UserError: the file cannot be read.
  """

  def of_file(encoded: _Encoded, held: contextlib.ExitStack) -> np.ndarray:
    return np.array(_upright(encoded, held, bits).picture)

  def whole(encoded: bytes) -> np.ndarray:
    with _reasons(encoded):
      return _despite_metadata(of_file, encoded)

  return _of_path(path, whole)


def _of_path(path: str | os.PathLike, read: Callable[[bytes], _T]) -> _T:
  """Calls `read` with the content of a file; raises UserError."""
  try:
    return read(regular_file.read(path))
  except (OSError, BadImage) as error:
    why = getattr(error, "strerror", None) or error
    shown = printable(os.fspath(path))
    raise UserError(f"cannot read the image {shown}: {why}") from None


@contextlib.contextmanager
def _reasons(image: object) -> Iterator[None]:
  """Turns all errors into `BadImage`; Pillow's decoders raise many types.

  Only MemoryError stays, because the image may be good.
  """
  try:
    yield
  except (BadImage, MemoryError):
    raise
  except Exception as error:
    raise BadImage(_reason(error, image)) from error


def _despite_metadata(
  read: Callable[[_Encoded, contextlib.ExitStack], _T], encoded: _Encoded
) -> _T:
  """Calls `read` for a file; if it fails, again without metadata.

  The stack, which holds the pixels of the file in the budget, is closed when
  `read` has returned and its pictures are freed.
  """

  def held(encoded: _Encoded) -> _T:
    with contextlib.ExitStack() as stack:
      return read(encoded, stack)

  try:
    return held(encoded)
  except BadImage:
    raise
  except Exception as first:
    try:
      return held(image_metadata.removed(bytes(encoded)))
    except MemoryError:
      raise
    except Exception:
      raise first from None


def _opened(
  encoded: _Encoded, held: contextlib.ExitStack, draft: int | None = None
) -> tuple[Image.Image, tuple[int, int]]:
  """Opens a file as soon as there is room; TIFF is decoded, others are not yet.

  Args:
    encoded: the file.
    held: keeps the room.
    draft: the least number of pixels a side, for a JPEG, which can be decoded
      at a fraction of its size; None: the whole size.

  Returns:
    The picture, and its width and height at the whole size.
  """
  canvas = declared_size.of_webp(encoded)
  if canvas:  # Pillow allocates it at the opening.
    _refuse_bomb(*canvas)
    held.enter_context(_BUDGET.taking(math.prod(canvas)))
  picture = Image.open(io.BytesIO(encoded), formats=FORMATS)
  size = picture.size
  _refuse_bomb(*size)
  largest = declared_size.largest(picture)
  _refuse_bomb(*largest)
  if draft:
    picture.draft("RGB", (draft, draft))
    # A JPEG of more than one scan keeps the coefficients of its whole size.
    if (
      picture.size != size
      and not picture.info.get("progressive")
      and declared_size.is_interleaved(encoded)
    ):
      largest = picture.size
  pixels = math.prod(largest)
  if picture.format == "AVIF":
    # The frame inside of it may be larger than the file declares. libavif
    # decodes one on all processors, so few at a time keep them busy.
    pixels = MAX_PIXELS
  if not canvas:
    held.enter_context(_BUDGET.taking(pixels))
  if picture.format == "TIFF":
    picture.load()  # This applies its orientation, which changes its size.
    size = picture.size
  return picture, size


def _refuse_bomb(width: int, height: int) -> None:
  if width * height > MAX_PIXELS:
    raise BadImage(
      f"{width}x{height} pixels are more than {MAX_PIXELS:,}; it may be a "
      "decompression bomb"
    )


@dataclasses.dataclass(frozen=True)
class _Upright:
  """An upright RGB picture; the attributes are those of `Decoded`."""

  picture: Image.Image
  height: int
  width: int
  peak: int | None


def _upright(
  encoded: _Encoded,
  held: contextlib.ExitStack,
  bits: int,
  draft: int | None = None,
) -> _Upright:
  """Decodes a file; the arguments are those of `Settings` and `_opened`."""
  picture, (width, height) = _opened(encoded, held, draft)
  depth, full = _depth(picture, encoded)  # Loading clears it.
  picture.load()
  orientation = _orientation(picture)
  if orientation >= 5:
    width, height = height, width
  upright, peak = _eight_bits(picture, depth, full, bits)
  if orientation > 1:
    upright = upright.transpose(_UPRIGHT[orientation])
  return _Upright(_rgb(upright), height, width, peak)


def _orientation(picture: Image.Image) -> int:
  """Returns the orientation of EXIF or XMP, 1 to 8; 1 if it is unreadable."""
  if picture.format == "TIFF":
    return 1  # Loading has applied it.
  with contextlib.suppress(Exception):  # Broken EXIF raises many types.
    value = picture.getexif()[ExifTags.Base.Orientation]
    value = int(value[0] if isinstance(value, bytes) else value)
    return value if value in _UPRIGHT else 1
  xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp", "")
  if isinstance(xmp, bytes):
    xmp = xmp.decode(errors="replace")
  found = _ORIENTATION_IN_XMP.search(xmp)
  return int(found[1]) if found else 1


def _depth(picture: Image.Image, encoded: _Encoded) -> tuple[int, bool]:
  """Returns the bits of a sample, and whether it is known to use all of them.

  A program that stores 12 bits in 16 leaves the others empty, so only the user
  knows the range of 16 bits.
  """
  bits = 8
  if picture.format == "PNG":
    bits = encoded[24]
  elif isinstance(picture, TiffImagePlugin.TiffImageFile):
    bits = max(picture.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
  elif isinstance(picture, PpmImagePlugin.PpmImageFile):
    # They end with the maximum that a file states.
    arguments: Any = picture.tile[0][3]
    if arguments == "I;16B" or arguments[-1] == 65535:
      bits = 16
    elif picture.mode == "I":  # Pillow scales the maximum to 16 bits.
      return 16, True
  return bits, bits < 16


def _eight_bits(
  picture: Image.Image, depth: int, full: bool, bits: int
) -> tuple[Image.Image, int | None]:
  """Converts a picture of more than 8 bits, where Pillow has not done it.

  Pillow gives the upper 8 of 16 bits of colours; their peak is rounded up.

  Args:
    picture: a decoded file.
    depth: as `_depth` returns it.
    full: likewise.
    bits: `Settings.bits`.

  Returns:
    The picture, and its brightest value as in `Decoded`.
  """
  if picture.mode == "F":
    return Image.fromarray(_from_floats(np.asarray(picture))), None
  if picture.mode.startswith("I"):
    values = np.asarray(picture)
    low, peak = int(values.min()), int(values.max())
    used = depth if full else bits
    if low < 0 or peak >= 2**used:
      raise BadImage(
        f"its values are {low:,} to {peak:,}, but config.data.bits={bits} "
        f"stands for 0 to {2**used - 1:,}"
      )
    grey = (values >> (used - 8)).astype(np.uint8)
    if (
      isinstance(picture, TiffImagePlugin.TiffImageFile)
      and picture.tag_v2.get(_PHOTOMETRIC) == 0
    ):
      grey = 255 - grey  # In the file, 0 is white.
    # A PNG may declare one value as transparent.
    grey[values == picture.info.get("transparency", -1)] = 255
    return Image.fromarray(grey), None if full else peak
  if depth <= 8 or full:
    return picture, None
  if bits < 16:
    raise BadImage(
      f"it has 16 bits per colour, and config.data.bits={bits} is only for "
      "greyscale without transparency; convert it to 8 bits per colour"
    )
  extrema: Any = picture.getextrema()  # Pairs, because it has several bands.
  bands = zip(picture.getbands(), extrema, strict=True)
  brightest = max(high for band, (_, high) in bands if band != "A")
  return picture, brightest << 8 | 255


def _rgb(picture: Image.Image) -> Image.Image:
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture)
  # Converting RGB to RGB would copy it.
  return picture if picture.mode == "RGB" else picture.convert("RGB")


def _checked(image: object) -> np.ndarray:
  """Returns the pixels of an array, uint8 `[H, W]` or `[H, W, 3]`."""
  if not isinstance(image, np.ndarray):
    raise BadImage(
      f"it is of type {type(image).__name__}; a source gives encoded bytes or "
      "NumPy arrays"
    )
  channels = image.shape[2:]
  if image.ndim < 2 or not image.size or channels not in ((), (1,), (3,)):
    raise _bad_array(image)
  if image.dtype.kind == "f":
    image = _from_floats(image)
  elif image.dtype != np.uint8:
    raise _bad_array(image)
  return image[..., 0] if channels == (1,) else image


def _from_floats(values: np.ndarray) -> np.ndarray:
  """Rounds [0, 1] to 8 bits."""
  low, high = values.min(), values.max()
  if not (low >= 0 and high <= 1):  # Also true of NaN.
    raise _bad_array(values, f" with values from {low:g} to {high:g}")
  return np.rint(values * 255).astype(np.uint8)


def _bad_array(array: np.ndarray, values: str = "") -> BadImage:
  shape = ", ".join(map(str, array.shape))
  return BadImage(
    f"it is an array {array.dtype} [{shape}]{values}; an array must be uint8, "
    "or floats in [0, 1], of shape [H, W], [H, W, 1] or [H, W, 3]"
  )


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


def _reason(error: Exception, image: object) -> str:
  if isinstance(image, _Encoded) and not image:
    return "the file is empty"
  if isinstance(error, Image.UnidentifiedImageError):
    return f"it is damaged or not an image in {', '.join(FORMATS)}"
  return str(error).partition("\n")[0] or type(error).__name__
