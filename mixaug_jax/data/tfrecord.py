"""Random access to TFRecord files, without TensorFlow.

A record is its length (uint64, little endian), 4 bytes of checksum, the
content, and 4 bytes of checksum:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import os
import pathlib
import struct
from collections.abc import Sequence

import numpy as np

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
    places = [_places(path) for path in paths]
    for path, found, count in zip(paths, places, counts, strict=True):
      if len(found) != count:
        raise ValueError(
          f"{path.name} has {len(found):,} records instead of {count:,}"
        )
    self._paths = paths
    self._file = np.repeat(np.arange(len(paths)), counts)
    self._places = np.concatenate(places)

  def __len__(self) -> int:
    return len(self._file)

  # No slices are read.
  def __getitem__(self, index: int) -> bytes:  # type: ignore[override]
    start, length = self._places[index]
    with open(self._paths[self._file[index]], "rb", buffering=0) as file:
      return os.pread(file.fileno(), length, start)


def _places(path: pathlib.Path) -> np.ndarray:
  """Returns the start and the length of each record, int64 `[N, 2]`."""
  places, place, end = [], 0, path.stat().st_size
  with open(path, "rb") as file:
    while place < end:
      file.seek(place)
      header = file.read(_HEADER.size)
      length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else end
      start = place + _HEADER.size
      place = start + length + _CHECKSUM
      if place > end:
        raise ValueError(f"{path.name} is cut off or is not a TFRecord file")
      places.append((start, length))
  return np.array(places, np.int64).reshape(-1, 2)
