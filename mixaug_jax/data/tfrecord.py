"""Random access to TFRecord files, without TensorFlow.

A record is its length (uint64, little endian), 4 bytes of checksum, the
content, and 4 bytes of checksum:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import os
import pathlib
import struct
from collections.abc import Sequence

_CHECKSUM = 4
_HEADER = struct.Struct(f"<Q{_CHECKSUM}x")


class TfRecords(Sequence[bytes]):
  """The contents of the records of some files, in their order.

  The files are opened for each access, because there may be thousands.

  Args:
    paths: the files.
    counts: the number of records in each.

  Raises:
    ValueError: a file has another number of records, or ends within one.
  """

  def __init__(self, paths: Sequence[pathlib.Path], counts: Sequence[int]):
    self._places: list[tuple[pathlib.Path, int, int]] = []
    for path, count in zip(paths, counts, strict=True):
      places = _places(path)
      if len(places) != count:
        raise ValueError(
          f"{path.name} has {len(places):,} records instead of {count:,}"
        )
      self._places += [(path, *place) for place in places]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> bytes:
    path, start, length = self._places[index]
    with open(path, "rb", buffering=0) as file:
      return os.pread(file.fileno(), length, start)


def _places(path: pathlib.Path) -> list[tuple[int, int]]:
  """Returns where each record of a file starts, and its length."""
  places, end = [], path.stat().st_size
  with open(path, "rb") as file:
    place = 0
    while place < end:
      file.seek(place)
      header = file.read(_HEADER.size)
      length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else end
      start, place = file.tell(), file.tell() + length + _CHECKSUM
      if place > end:
        raise ValueError(f"{path.name} is cut off or is not a TFRecord file")
      places.append((start, length))
  return places
