"""The sizes that a file declares, before anything of it is decoded."""

import math

from PIL import ExifTags, Image, TiffImagePlugin

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
_TILE = (ExifTags.Base.TileWidth, ExifTags.Base.TileLength)


def of_webp(encoded: bytes | bytearray | memoryview) -> tuple[int, int] | None:
  """Returns width and height of a WebP file; None for other files.

  Pillow allocates the canvas of a WebP when it opens the file. The format is
  that of RFC 9649.
  """
  head = bytes(encoded[:30])
  if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
    return None
  number = lambda place, size: int.from_bytes(
    head[place : place + size], "little"
  )
  kind = head[12:16]
  if kind == b"VP8X":
    return number(24, 3) + 1, number(27, 3) + 1
  if kind == b"VP8L":
    return (number(21, 4) & 0x3FFF) + 1, (number(21, 4) >> 14 & 0x3FFF) + 1
  return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF


def is_interleaved(encoded: bytes | bytearray | memoryview) -> bool:
  """Returns whether the first scan of a JPEG has all of its components.

  Otherwise libjpeg keeps the coefficients of the whole size, as it does for a
  progressive JPEG. The format is that of ITU T.81, B.1 and B.2.
  """
  place, components = 2, 0
  while place + 10 <= len(encoded):
    marker = encoded[place + 1]
    if encoded[place] != 0xFF or marker in (0, 0xFF):
      place += 1  # Decoders skip what is no marker.
    elif marker in _JPEG_WITHOUT_LENGTH:
      place += 2
    elif marker == 0xDA:
      return encoded[place + 4] == components
    else:
      if marker in _JPEG_FRAMES:
        components = encoded[place + 9]
      place += 2 + int.from_bytes(encoded[place + 2 : place + 4])
  return False


def largest(picture: Image.Image) -> tuple[int, int]:
  """Returns width and height of the larger of a picture and its tiles.

  A tile of a TIFF is decoded as a whole, also where it is larger than the
  picture.

  Args:
    picture: an open file that is not decoded yet.
  """
  if not isinstance(picture, TiffImagePlugin.TiffImageFile):
    return picture.size
  width, height = (int(picture.tag_v2.get(tag, 0)) for tag in _TILE)
  return max(picture.size, (width, height), key=math.prod)
