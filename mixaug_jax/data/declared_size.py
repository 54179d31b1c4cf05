"""The sizes that a file declares, before anything of it is decoded."""

import math

from PIL import ExifTags, Image

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


def largest(picture: Image.Image) -> tuple[int, int]:
  """Returns width and height of the larger of a picture and its tiles.

  A tile of a TIFF is decoded as a whole, also where it is larger than the
  picture.

  Args:
    picture: an open file that is not decoded yet.
  """
  if picture.format != "TIFF":
    return picture.size
  tile = tuple(int(picture.tag_v2.get(tag, 0)) for tag in _TILE)
  return max(picture.size, tile, key=math.prod)
