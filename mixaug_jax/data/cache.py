"""A cache of decoded images: decoded once, memory-mapped afterwards.

A cache is a folder, named by a hash of the content of the source and the
settings. It contains `images.bin`, uint8 `[N, S, S, 3]`, `rows.npy`, which
describes each image, and `header.json`. A build writes into `NAME.part`, block
by block with a journal, so that an interrupted build continues where it
stopped, and renames the folder at the end.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import platformdirs

from mixaug_jax import files, progress
from mixaug_jax.data import ids as ids_lib
from mixaug_jax.data.decode import BadImage, Settings
from mixaug_jax.data.decoding import (
  Bad,
  Rows,
  decode_row,
  decode_rows,
  pixel_hash,
  threads,
)
from mixaug_jax.data.sources import Source
from mixaug_jax.errors import UserError, reason

BLOCK = 64  # Images per entry of the journal and per checksum.
_VERIFIED_BYTES = 256 * 2**20  # Compared with checksums at each opening.
_COMPARED_IMAGES = 4  # Decoded again at each opening.
_MARGIN_BYTES = 64 * 2**20  # Disk space that a build leaves free.
_FORMAT = 2
_NAME = re.compile(r"[0-9a-f]{24}(\.part)?")
# What opening a cache of wrong content or without a file raises.
_DAMAGE = (ValueError, KeyError, TypeError, EOFError, FileNotFoundError)
_ROW = np.dtype([("hash", "<u8"), ("share", "<f4")])


def root(directory: str | None = None) -> pathlib.Path:
  """Returns the folder of all caches; None: in the user's cache directory."""
  if directory is not None:
    return pathlib.Path(directory)
  return platformdirs.user_cache_path("mixaug_jax") / "images"


def open_or_build(
  source: Source,
  square: Settings,
  directory: str | None = None,
  *,
  keep_images: bool = True,
) -> Rows:
  """Opens the decoded images of a source, and builds the cache if necessary.

  Processes that start together wait until one of them has built it.

  Args:
    source: the images.
    square: how images become squares.
    directory: the folder of all caches, as in `root`.
    keep_images: false stores only what describes the images.

  Returns:
    All rows. The images are memory-mapped and read-only, or `[0, S, S, 3]`
    without `keep_images`.

  Raises:
    UserError: the disk is full, the directory cannot be written, or the machine
      cannot read the images or the cache.
  """
  settings = {
    "format": _FORMAT,
    "source": source.fingerprint(),
    "ids": _hash(source.ids),
    "shape": [len(source), square.size, square.size, 3],
    "square": dataclasses.asdict(square),
    "images": keep_images,
  }
  text = json.dumps(settings, sort_keys=True)
  name = hashlib.sha256(text.encode()).hexdigest()[:24]
  place = root(directory) / name
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(place.with_suffix(".lock")):
      opened = _open(place, source, square, settings)
      if opened is None:
        _build(place, source, square, settings)
        opened = _open(place, source, square, settings)
  except OSError as error:
    raise UserError(
      f"cannot store decoded images in {place.parent}: {error.strerror}; set "
      "config.data.cache_dir to a directory that can be written"
    ) from error
  if opened is None:
    raise UserError(
      f"the cache {place} is damaged right after it was written; check the disk"
    )
  return opened


def _hash(ids: Sequence[str]) -> str:
  digest = hashlib.sha256()
  for part in ids_lib.joined(ids):
    digest.update(part.encode())
  return digest.hexdigest()


def info(directory: str | None = None) -> list[tuple[pathlib.Path, int, str]]:
  """Returns folder, bytes and state of every cache, also of unfinished ones.

  Raises:
    UserError: `directory` is not a directory.
  """
  if directory is not None and not pathlib.Path(directory).is_dir():
    raise UserError(f"{directory} is not a directory; check the path")
  found = []
  for path in sorted(root(directory).glob("*")):
    # The directory may contain other files, which `clear` must not remove.
    if _NAME.fullmatch(path.name) and path.is_dir():
      size = sum(f.stat().st_blocks * 512 for f in path.rglob("*"))
      found.append((path, size, _state(path)))
  return found


def _state(place: pathlib.Path) -> str:
  try:
    header = json.loads((place / "header.json").read_text("utf-8"))
    count, side, _, _ = header["shape"]
    what = "images" if header["images"] else "checksums of images"
    return f"{count:,} {what} of {side:d}x{side:d}"
  except FileNotFoundError:
    return "unfinished"
  except (OSError, ValueError, KeyError, TypeError):
    return "damaged"


def clear(directory: str | None = None) -> int:
  """Removes all caches except those being built; returns the bytes freed."""
  freed = 0
  for path, size, _ in info(directory):
    lock = path.with_suffix(".lock")
    with contextlib.suppress(BlockingIOError), files.locked(lock, wait=False):
      shutil.rmtree(path)
      freed += size
      lock.unlink()
  return freed


def _build(
  place: pathlib.Path,
  source: Source,
  square: Settings,
  settings: dict[str, Any],
) -> None:
  """Builds into `place.part`, and continues an interrupted build."""
  part = place.with_suffix(".part")
  images_path, journal_path = part / "images.bin", part / "journal"
  shape = tuple(settings["shape"])
  kept = bool(settings["images"])
  size = int(np.prod(shape, dtype=np.int64)) * kept
  if not shape[0]:
    raise ValueError("a source without images")
  done = _read_journal(journal_path) if images_path.exists() else {}
  blocks = range(-(-shape[0] // BLOCK))
  missing = size * (len(blocks) - len(done)) // len(blocks)
  free = shutil.disk_usage(place.parent).free
  if free < missing + _MARGIN_BYTES:
    raise UserError(
      f"decoded images need {missing / 2**30:.1f} GiB in {place.parent}, where "
      f"{free / 2**30:.1f} GiB are free; free some space, lower "
      "config.data.cache_size, or set config.data.placement=stream"
    )
  what = f"{size / 2**20:,.1f} MiB" if kept else "only checksums"
  print(
    f"decoding {shape[0]:,} images to {shape[1]}x{shape[2]}, once: {what} in "
    f"{place}",
    file=sys.stderr,
  )
  part.mkdir(exist_ok=True)
  with (
    open(images_path, "r+b" if done else "w+b") as file,
    open(journal_path, "a") as journal,
    threads() as pool,
    concurrent.futures.ThreadPoolExecutor(1, "store") as storing,
    progress.Bar(
      *(shape[0], None, min(shape[0], len(done) * BLOCK)), note="decoded"
    ) as bar,
  ):
    file.truncate(size)
    journal.write("\n")  # Ends a line that an interruption cut off.

    def store(block: int, rows: Rows) -> None:
      if kept:
        file.seek(block * BLOCK * rows.images[0].size)
        file.write(rows.images)
        file.flush()
        os.fsync(file.fileno())  # Before the journal lists the block.
      done[block] = {
        "crc": zlib.crc32(rows.images),
        "bad": rows.bad,
        "hashes": rows.hashes.tolist(),
        "shares": rows.shares.tolist(),
        "peak": rows.peak,
      }
      journal.write(json.dumps({"block": block, **done[block]}) + "\n")
      journal.flush()
      bar.update(len(rows.images))

    stored = None  # The previous block is stored while this one is decoded.
    for block in [block for block in blocks if block not in done]:
      rows = np.arange(block * BLOCK, min(shape[0], (block + 1) * BLOCK))
      decoded = decode_rows(source, rows, square, pool)
      if stored:
        stored.result()
      stored = storing.submit(store, block, decoded)
    if stored:
      stored.result()
  entries = [done[block] for block in blocks]
  rows = np.zeros(shape[0], _ROW)
  rows["hash"] = np.concatenate([np.uint64(e["hashes"]) for e in entries])
  rows["share"] = np.concatenate([e["shares"] for e in entries])
  np.save(part / "rows.npy", rows)
  peaks = [e["peak"] for e in entries if e["peak"] is not None]
  header = {
    **settings,
    "crc": [e["crc"] for e in entries],
    "rows_crc": zlib.crc32(rows),
    "bad": {row: why for e in entries for row, why in e["bad"].items()},
    "peak": max(peaks, default=None),
  }
  (part / "header.json").write_text(json.dumps(header))
  journal_path.unlink()
  part.rename(place)


def _read_journal(path: pathlib.Path) -> dict[int, dict]:
  done = {}
  try:
    lines = path.read_text().splitlines()
  except FileNotFoundError:
    return {}
  except OSError as error:
    raise _cannot_read(path.parent, error) from error
  for line in lines:
    # An interruption may leave an incomplete line.
    with contextlib.suppress(ValueError, KeyError):
      entry = json.loads(line)
      done[entry.pop("block")] = entry
  return done


def _open(
  place: pathlib.Path,
  source: Source,
  square: Settings,
  settings: dict[str, Any],
) -> Rows | None:
  """Opens a finished cache; removes a damaged one with a warning.

  Raises:
    UserError: the machine cannot read it, or the images to compare.
  """
  try:
    if not place.exists():
      return None
    header = json.loads((place / "header.json").read_text())
    if any(header[key] != value for key, value in settings.items()):
      raise ValueError("it is the cache of other data")
    shape = tuple(header["shape"])
    rows = np.load(place / "rows.npy", allow_pickle=False)
    if zlib.crc32(rows) != header["rows_crc"] or rows.shape != shape[:1]:
      raise ValueError("the checksum of rows.npy is wrong")
    if settings["images"]:
      path = place / "images.bin"
      images: np.ndarray = np.memmap(path, np.uint8, "r", shape=shape)
      _verify(images, header["crc"])
    else:
      images = np.zeros((0, *shape[1:]), np.uint8)
    bad = {int(row): why for row, why in header["bad"].items()}
    _compare(source, square, rows["hash"])
    _read_again(source, square, bad)
    return Rows(images, bad, rows["hash"], rows["share"], header["peak"])
  except _DAMAGE as error:
    print(
      f"the cache {place} cannot be used ({error}) and is built again",
      file=sys.stderr,
    )
    shutil.rmtree(place)
    return None
  except OSError as error:
    raise _cannot_read(place, error) from error


def _cannot_read(place: pathlib.Path, error: OSError) -> UserError:
  return UserError(
    f"cannot read the cache {place}: {reason(error)}; repeat the command when "
    "it can be read, or set config.data.cache_dir to another directory"
  )


def _verify(images: np.ndarray, checksums: list[int]) -> None:
  """Compares checksums: of all blocks, or of random ones of a large cache.

  Raises:
    ValueError: a block differs from its checksum.
  """
  block_bytes = max(1, BLOCK * images[0].size)
  count = min(len(checksums), max(1, _VERIFIED_BYTES // block_bytes))
  for block in sorted(random.sample(range(len(checksums)), count)):
    rows = images[block * BLOCK : (block + 1) * BLOCK]
    if zlib.crc32(np.ascontiguousarray(rows)) != checksums[block]:
      raise ValueError(f"the checksum of block {block} is wrong")


def _read_again(source: Source, square: Settings, bad: Bad) -> None:
  """Tries unreadable images again, because the cause may be gone.

  Raises:
    ValueError: an image can be read now.
    UserError: the machine cannot read one.
  """
  for row in bad:
    with contextlib.suppress(BadImage):
      decode_row(source, row, square)
      raise ValueError(f"{source.ids[row]} can be read now")


def _compare(source: Source, square: Settings, hashes: np.ndarray) -> None:
  """Decodes a few images again, because a fingerprint may miss a change.

  Raises:
    ValueError: an image is not what the cache holds.
    UserError: the machine cannot read one.
  """
  good = np.flatnonzero(hashes)
  places = np.linspace(0, max(0, len(good) - 1), _COMPARED_IMAGES)
  for row in np.unique(good[places[: len(good)].astype(int)]):
    try:
      decoded = decode_row(source, int(row), square)
    except BadImage as error:
      raise ValueError(f"{source.ids[row]}: {error}") from error
    if pixel_hash(decoded.pixels) != hashes[row]:
      raise ValueError(f"{source.ids[row]} has other pixels now")
