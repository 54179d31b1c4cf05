"""Removes damaged metadata that would make a readable image unreadable.

Pillow refuses a whole file for a broken colour profile, comment or thumbnail,
which other programs ignore. Nothing here looks at pixels.
"""

import math
import struct

_PNG = b"\x89PNG\r\n\x1a\n"
# Pixels need the critical chunks, whose names begin with a capital, and tRNS;
# eXIf holds the orientation.
_PNG_KEPT = (b"tRNS", b"eXIf")
_JPEG = b"\xff\xd8"
_SCAN, _COMMENT = 0xDA, 0xFE
_APPLICATION = range(0xE0, 0xF0)
# The segments that stay if they have this length: JFIF and Adobe name the
# colour transform, EXIF the orientation.
_JPEG_KEPT = {0xE0: 16, 0xE1: 2, 0xEE: 14}


def removed(encoded: bytes) -> bytes:
  """Returns a PNG or JPEG without the metadata that pixels do not need.

  The orientation in EXIF stays. Other formats are returned as they are.
  """
  if encoded.startswith(_PNG):
    return _png(encoded)
  if encoded.startswith(_JPEG):
    return _jpeg(encoded)
  return encoded


def _png(encoded: bytes) -> bytes:
  kept, place = [_PNG], len(_PNG)
  while place + 8 <= len(encoded):
    length, name = struct.unpack_from(">I4s", encoded, place)
    end = place + 12 + length  # Length, name, content and checksum.
    if name[:1].isupper() or name in _PNG_KEPT:
      kept.append(encoded[place:end])
    place = end
  return b"".join(kept)


def _jpeg(encoded: bytes) -> bytes:
  kept, place = [_JPEG], len(_JPEG)
  while place + 4 <= len(encoded) and encoded[place] == 0xFF:
    marker, length = struct.unpack_from(">xBH", encoded, place)
    if marker == 0xFF:  # Padding between segments.
      place += 1
      continue
    if marker == _SCAN:
      break
    end = place + 2 + length
    metadata = marker in _APPLICATION or marker == _COMMENT
    if not metadata or length >= _JPEG_KEPT.get(marker, math.inf):
      kept.append(encoded[place:end])
    place = end
  return b"".join([*kept, encoded[place:]])
