"""A packed data set: encoded images in ArrayRecord shards, as a data source.

A folder holds `packed.json`, which describes it, and a folder for each split
with its shards and arrays. `packing` writes it. Opening it reads the labels and
maps the ids into memory, so it takes seconds for any number of images.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL

from mixaug_jax import files
from mixaug_jax.data.decode import BadImage, Settings
from mixaug_jax.data.decoding import Rows, decode_row, pixel_hash
from mixaug_jax.data.ids import StoredIds
from mixaug_jax.data.sources import DamagedData, Item
from mixaug_jax.errors import UserError, first_line, reason
from mixaug_jax.names import local_path, printable

HEADER = "packed.json"
UNFINISHED = ".unfinished"  # A folder beside it while it is packed.
FORMAT = 1
# The arrays of a split and their types; a row is an example. `ends` are those
# of the ids in `ids`, which is the only one of another length.
ARRAYS: dict[str, np.dtype] = {
  "labels": np.dtype("<i4"),
  "hashes": np.dtype("<u8"),  # Of the pixels of the square.
  "shares": np.dtype("<f4"),  # Of the picture that the square shows.
  "peaks": np.dtype("<i4"),  # Of files of 16 bits; -1 for others.
  "crcs": np.dtype("<u4"),  # Of the encoded image.
  "ends": np.dtype("<i8"),
  "ranks": np.dtype("<i4"),  # As in `StoredIds`.
  "ids": np.dtype("u1"),
}
_MOST_HEADER_BYTES = 2**30
_OPEN_SHARDS = 256  # At a time; a process may open 1,024 files.
_READ_BYTES = 2**20
# Made for random access: no thread reads ahead.
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER_BYTES = 32768
_COMPARED_IMAGES = 4  # Decoded again at each opening.


class Packed:
  """One split of a packed data set; see `Source`.

  Args:
    root: the folder of `packed.json`.
    split: the name of the split.
    header: the content of `packed.json`.

  Raises:
    DamagedData: a file is missing, cut off or changed.
  """

  @classmethod
  def splits(
    cls, directory: str | None, test: bool = True
  ) -> dict[str, "Packed"]:
    """Opens the splits of a packed data set; no image is read.

    Args:
      directory: the folder of `packed.json`.
      test: whether to open the split test.

    Raises:
      UserError: it is no packed data set, was written by a newer version, or
        is damaged.
    """
    if directory is None:
      raise UserError(
        "config.data.dir must name the folder that mixaug data --pack wrote"
      )
    root = local_path("config.data.dir", directory)
    header = read_header(root)
    names = [name for name in header["splits"] if test or name != "test"]
    return {name: cls(root, name, header) for name in names}

  def __init__(self, root: pathlib.Path, split: str, header: Mapping[str, Any]):
    described = header["splits"][split]
    self._folder = root / split
    self._square = Settings(**header["square"])
    self._pillow = header["pillow"]
    self._fingerprint = f"{header['fingerprint']} {split}"
    self._shards = [_Shard(**shard) for shard in described["shards"]]
    self._firsts = np.cumsum([0, *(x.examples for x in self._shards)])
    self._reader = functools.lru_cache(_OPEN_SHARDS)(self._open)
    for shard in self._shards:
      _check_size(self._folder / shard.file, shard.bytes)
    arrays = {
      name: _array(
        self._folder / f"{name}.npy", kind, described["arrays"][name]
      )
      for name, kind in ARRAYS.items()
    }
    self.class_names = tuple(header["class_names"])
    self.labels = arrays["labels"]
    self.ids = StoredIds(arrays["ids"], arrays["ends"], arrays["ranks"])
    self.left_out = described["left_out"]
    self._crcs, self._peaks = arrays["crcs"], arrays["peaks"]
    self._hashes, self._shares = arrays["hashes"], arrays["shares"]

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Item:
    """Reads an image; raises DamagedData."""
    number = int(np.searchsorted(self._firsts, index, "right")) - 1
    path = self._folder / self._shards[number].file
    place = index - int(self._firsts[number])
    try:
      (image,) = self._reader(number).read([place])
    except OSError as error:
      raise DamagedData(f"cannot read {shown(path)}: {reason(error)}") from None
    except Exception as error:  # ArrayRecord raises several types.
      raise _damaged(path, first_line(error)) from None
    if zlib.crc32(image) != self._crcs[index]:
      raise _damaged(path, f"the checksum of its record {place} is wrong")
    return {
      "image": image,
      "label": int(self.labels[index]),
      "id": self.ids[index],
    }

  def fingerprint(self) -> str:
    return self._fingerprint

  def described(self, square: Settings, rows: np.ndarray) -> Rows | None:
    """Returns what the packing found out about squares, without the images.

    A few images are decoded again, because another version of Pillow may give
    other pixels.

    Args:
      square: how images become squares.
      rows: the rows to describe, int `[M]`.

    Returns:
      None if the data set was packed for other squares or gives other pixels
      now, which is printed on stderr.

    Raises:
      DamagedData: an image cannot be read.
    """
    if square != self._square:
      why = f"it was packed for {_flags(self._square)}, not {_flags(square)}"
    elif not self._still_gives(square):
      why = f"Pillow {PIL.__version__} decodes other pixels than {self._pillow}"
    else:
      peak = int(self._peaks[rows].max(initial=-1))
      return Rows(
        np.zeros((0, square.size, square.size, 3), np.uint8),
        {},
        np.asarray(self._hashes[rows]),
        np.asarray(self._shares[rows]),
        None if peak < 0 else peak,
      )
    print(
      f"{shown(self._folder)} is decoded once to be checked: {why}",
      file=sys.stderr,
    )
    return None

  def _still_gives(self, square: Settings) -> bool:
    """Decodes a few images and compares their pixels."""
    for row in np.linspace(0, len(self) - 1, _COMPARED_IMAGES).astype(int):
      try:
        decoded = decode_row(self, int(row), square)
      except BadImage:
        return False
      if pixel_hash(decoded.pixels) != self._hashes[row]:
        return False
    return True

  def _open(self, number: int) -> Any:
    """Opens a shard; raises an exception of ArrayRecord."""
    # Imported here, because it takes a second of commands that do not read.
    from array_record.python import array_record_module

    shard = self._shards[number]
    reader = array_record_module.ArrayRecordReader(
      os.fspath(self._folder / shard.file),
      _OPTIONS,
      file_reader_buffer_size=_BUFFER_BYTES,
    )
    if (count := reader.num_records()) != shard.examples:
      raise ValueError(f"it has {count:,} records, not {shard.examples:,}")
    return reader


@dataclasses.dataclass(frozen=True)
class _Shard:
  """A file of a split: its name, its number of records and its bytes."""

  file: str
  examples: int
  bytes: int


def is_packed(directory: str | os.PathLike) -> bool:
  """Returns whether a folder is a packed data set, perhaps unfinished."""
  return any(
    os.path.exists(os.path.join(directory, name))
    for name in (HEADER, UNFINISHED)
  )


def read_header(root: pathlib.Path) -> dict[str, Any]:
  """Reads `packed.json`; raises UserError."""
  path = root / HEADER
  if not path.exists():
    if (root / UNFINISHED).exists():
      raise UserError(
        f"the packing of {shown(root)} is not finished; repeat the command "
        "that packs it, which continues where it stopped"
      )
    raise UserError(
      f"{shown(root)} is no packed data set, because it has no {HEADER}; pack "
      "a folder by mixaug data --pack --source=FOLDER --output=PACKED, or set "
      "config.data.name=folder"
    )
  try:
    header = json.loads(files.read_bytes(path, _MOST_HEADER_BYTES))
    number = header["format"]
    if number > FORMAT:
      raise UserError(
        f"{shown(root)} was packed by a newer version of mixaug_jax "
        f"({header['mixaug_jax']}); update mixaug_jax, or pack it again"
      )
    if number != FORMAT or header["fingerprint"] != fingerprint(header):
      raise ValueError("its checksum is wrong")
    return header
  except OSError as error:
    raise UserError(f"cannot read {shown(path)}: {reason(error)}") from None
  except (ValueError, KeyError, TypeError) as error:
    raise _damaged(path, first_line(error)) from None


def fingerprint(header: Mapping[str, Any]) -> str:
  """Hashes a header apart from its own fingerprint."""
  content = {key: x for key, x in header.items() if key != "fingerprint"}
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def checksum(path: pathlib.Path) -> int:
  """Returns the CRC-32 of a file, which is never in memory as a whole."""
  crc = 0
  with files.naming(path), open(path, "rb") as file:
    while part := file.read(_READ_BYTES):
      crc = zlib.crc32(part, crc)
  return crc


def shown(path: pathlib.Path) -> str:
  return printable(str(path))


def _array(path: pathlib.Path, kind: np.dtype, crc: int) -> np.ndarray:
  """Maps an array into memory; raises DamagedData."""
  try:
    if checksum(path) != crc:
      raise ValueError("its checksum is wrong")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 1 or array.dtype != kind:
      raise ValueError(f"it is no array of {kind}")
  except OSError as error:
    raise _damaged(path, reason(error)) from None
  except ValueError as error:
    raise _damaged(path, first_line(error)) from None
  return array


def _check_size(path: pathlib.Path, size: int) -> None:
  """Raises DamagedData unless a shard has as many bytes as were written."""
  try:
    found = os.stat(path).st_size
  except OSError as error:
    raise _damaged(path, reason(error)) from None
  if found != size:
    raise _damaged(path, f"it has {found:,} bytes, not {size:,}")


def _damaged(path: pathlib.Path, why: str) -> DamagedData:
  return DamagedData(
    f"{shown(path)} is damaged: {why}; copy the packed data set again, or pack "
    "it again"
  )


def _flags(square: Settings) -> str:
  """Returns the flags of the packing for a square."""
  return (
    f"--cache_size={square.size} --resize={square.resize} --bits={square.bits}"
  )
