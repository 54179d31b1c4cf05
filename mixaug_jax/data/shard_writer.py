"""Writes one shard of a packed data set, and what its images are.

It runs in many processes, so it imports no JAX.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mixaug_jax import files
from mixaug_jax.data import regular_file
from mixaug_jax.data.decode import BadImage, Decoded, Settings, decode_square
from mixaug_jax.data.decoding import pixel_hash, reading, share_in_square
from mixaug_jax.errors import UserError, first_line
from mixaug_jax.names import printable

# A record is a chunk of its own, which random access needs. Encoded images
# cannot be compressed further.
_OPTIONS = "group_size:1,uncompressed"
# What is noted of each image. A row of an image that cannot be read is 0.
NOTE = np.dtype(
  [("hash", "<u8"), ("share", "<f4"), ("peak", "<i4"), ("crc", "<u4")]
)


@dataclasses.dataclass(frozen=True)
class Shard:
  """A shard to write.

  Attributes:
    path: the file.
    notes: the file for what its images are; it is written last.
    images: the files of its images.
    state: a text that changes when one of these files does.
    square: how images become squares.
  """

  path: pathlib.Path
  notes: pathlib.Path
  images: Sequence[str]
  state: str
  square: Settings


@dataclasses.dataclass(frozen=True)
class Written:
  """What `write` found out about a shard.

  Attributes:
    notes: `NOTE` for each image, `[M]`.
    bad: the images that cannot be read, by their place, and the reasons.
    bytes: the size of the shard.
    state: as in `Shard`.
  """

  notes: np.ndarray
  bad: dict[int, str]
  bytes: int
  state: str


def write(shard: Shard) -> int:
  """Writes a shard, and returns the number of its images.

  An image that cannot be read is noted, and is not in the shard.

  Raises:
    UserError: the shard cannot be written, or the machine cannot read an image.
  """
  notes = np.zeros(len(shard.images), NOTE)
  bad: dict[int, str] = {}
  try:
    with files.replacing(shard.path) as part:
      writer = _Writer(part)
      for place, image in enumerate(shard.images):
        try:
          encoded, decoded = _read(image, shard.square)
        except BadImage as error:
          bad[place] = printable(first_line(error))
          continue
        writer.add(encoded)
        notes[place] = (
          pixel_hash(decoded.pixels),
          share_in_square(decoded, shard.square),
          -1 if decoded.peak is None else decoded.peak,
          zlib.crc32(encoded),
        )
      writer.close()
    size = shard.path.stat().st_size
    with files.replacing(shard.notes) as part:
      np.savez(
        part, notes=notes, bad=json.dumps(bad), bytes=size, state=shard.state
      )
  except OSError as error:
    raise UserError(
      f"cannot write {shard.path}: {error.strerror or first_line(error)}; "
      "repeat the command when there is room, and it continues"
    ) from None
  return len(shard.images)


def _read(image: str, square: Settings) -> tuple[bytes, Decoded]:
  """Reads and decodes a file; raises the exceptions of `reading`."""
  with reading(image):
    encoded = regular_file.read(image)
    return encoded, decode_square(encoded, square)


def is_whole(shard: Shard) -> bool:
  """Returns whether a shard holds every image that can be read now.

  Its file has the noted size, the files of the images are as they were, and
  those that could not be read are tried again.

  Raises:
    UserError: the machine cannot read an image.
  """
  if not shard.notes.exists():
    return False
  try:
    found = read_notes(shard.notes)
    if (shard.path.stat().st_size, shard.state) != (found.bytes, found.state):
      return False
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):
    return False  # Either file is damaged.
  for place in found.bad:
    with contextlib.suppress(BadImage):
      _read(shard.images[place], shard.square)
      return False
  return True


def read_notes(path: pathlib.Path) -> Written:
  """Reads what `write` noted."""
  with np.load(path, allow_pickle=False) as found:
    bad = {int(k): x for k, x in json.loads(str(found["bad"])).items()}
    size, state = int(found["bytes"]), str(found["state"])
    return Written(found["notes"], bad, size, state)


class _Writer:
  """An ArrayRecord file that is whole after `close`, or raises OSError."""

  def __init__(self, path: pathlib.Path):
    # Imported here, because it takes a second.
    from array_record.python import array_record_module

    self._path, self._count = path, 0
    self._module: Any = array_record_module
    with _as_os_error():
      self._writer = self._module.ArrayRecordWriter(os.fspath(path), _OPTIONS)

  def add(self, record: bytes) -> None:
    with _as_os_error():
      self._writer.write(record)
    self._count += 1

  def close(self) -> None:
    with _as_os_error():
      self._writer.close()
      if not self._count:
        return
      reader = self._module.ArrayRecordReader(os.fspath(self._path))
      if (found := reader.num_records()) != self._count:
        raise OSError(f"it has {found:,} records, not {self._count:,}")
      reader.close()


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
  """Turns the errors of ArrayRecord, which are of many types, into OSError."""
  try:
    yield
  except OSError:
    raise
  except Exception as error:
    raise OSError(first_line(error)) from error
