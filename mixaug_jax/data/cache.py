"""A cache of decoded images: decoded once, memory-mapped afterwards.

A cache is a folder, named by a hash of the source's fingerprint and the
settings. It contains `images.bin`, uint8 `[N, S, S, 3]`, and `header.json`. A
build writes into `NAME.part`, block by block with a journal, so that an
interrupted build continues where it stopped, and renames the folder at the end.
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

import numpy as np
import platformdirs
from tqdm import tqdm

from mixaug_jax import files
from mixaug_jax.data.decode import BadImage, Settings, decode
from mixaug_jax.data.sources import Source
from mixaug_jax.errors import UserError

BLOCK = 64  # Images per entry of the journal and per checksum.
_VERIFIED_BYTES = 256 * 2**20  # Compared with checksums at each opening.
_MARGIN_BYTES = 64 * 2**20  # Disk space that a build leaves free.
_FORMAT = 1
_NAME = re.compile(r"[0-9a-f]{24}(\.part)?")

Bad = dict[int, str]  # Rows of images that cannot be read, and the reasons.


def root(directory: str | None = None) -> pathlib.Path:
  """Returns the folder of all caches; None: in the user's cache directory."""
  if directory is not None:
    return pathlib.Path(directory)
  return platformdirs.user_cache_path("mixaug_jax") / "images"


def open_or_build(
  source: Source, square: Settings, directory: str | None = None
) -> tuple[np.ndarray, Bad]:
  """Opens the decoded images of a source, and builds the cache if necessary.

  Processes that start together wait until one of them has built it.

  Args:
    source: the images.
    square: how images become squares.
    directory: the folder of all caches, as in `root`.

  Returns:
    Images, uint8 `[N, S, S, 3]`, memory-mapped and read-only, and the
    rows that could not be read, which are black.

  Raises:
    UserError: the disk is full, or the directory cannot be written.
  """
  settings = {
    "format": _FORMAT,
    "source": source.fingerprint(),
    "shape": [len(source), square.size, square.size, 3],
    "square": dataclasses.asdict(square),
  }
  text = json.dumps(settings, sort_keys=True)
  name = hashlib.sha256(text.encode()).hexdigest()[:24]
  place = root(directory) / name
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(place.with_suffix(".lock")):
      opened = _open(place)
      if opened is None:
        _build(place, source, square, settings)
        opened = _open(place)
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
    return f"{count:,} images of {side:d}x{side:d}"
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


def decode_rows(
  source: Source,
  rows: np.ndarray,
  square: Settings,
  pool: concurrent.futures.Executor,
) -> tuple[np.ndarray, Bad]:
  """Decodes some rows of a source on the threads of `pool`.

  Returns:
    Images, uint8 `[M, S, S, 3]`, and the rows that could not be read,
    which are black.
  """
  images = np.zeros((len(rows), square.size, square.size, 3), np.uint8)

  def one(place: int) -> str | None:
    try:
      item = source[int(rows[place])]
      images[place] = decode(item["image"], square).pixels
    except (BadImage, OSError) as error:
      return str(error)
    return None

  reasons = pool.map(one, range(len(rows)))
  bad = {
    int(row): reason
    for row, reason in zip(rows, reasons, strict=True)
    if reason is not None
  }
  return images, bad


def threads() -> concurrent.futures.ThreadPoolExecutor:
  """Returns a pool for `decode_rows`; the decoders release the GIL."""
  count = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
  )
  return concurrent.futures.ThreadPoolExecutor(count, "decode")


def _build(
  place: pathlib.Path, source: Source, square: Settings, settings: dict
) -> None:
  """Builds into `place.part`, and continues an interrupted build."""
  part = place.with_suffix(".part")
  images_path, journal_path = part / "images.bin", part / "journal"
  shape = tuple(settings["shape"])
  size = int(np.prod(shape, dtype=np.int64))
  done = _read_journal(journal_path) if images_path.exists() else {}
  blocks = range(-(-shape[0] // BLOCK))
  missing = size * (len(blocks) - len(done)) // max(1, len(blocks))
  free = shutil.disk_usage(place.parent).free
  if free < missing + _MARGIN_BYTES:
    raise UserError(
      f"decoded images need {missing / 2**30:.1f} GiB in {place.parent}, where "
      f"{free / 2**30:.1f} GiB are free; free some space, lower "
      "config.data.cache_size, or set config.data.placement=stream"
    )
  print(
    f"decoding {shape[0]:,} images to {shape[1]}x{shape[2]}, once: "
    f"{size / 2**20:,.1f} MiB in {place}",
    file=sys.stderr,
  )
  part.mkdir(exist_ok=True)
  if size == 0:
    raise ValueError("a source without images")
  with (
    open(images_path, "r+b" if done else "w+b") as file,
    open(journal_path, "a") as journal,
    threads() as pool,
    concurrent.futures.ThreadPoolExecutor(1, "store") as storing,
    tqdm(
      total=shape[0],
      initial=min(shape[0], len(done) * BLOCK),
      unit=" images",
      disable=not sys.stderr.isatty(),
      leave=False,
    ) as bar,
  ):
    file.truncate(size)

    def store(block: int, decoded: np.ndarray, bad: Bad) -> None:
      file.seek(block * BLOCK * decoded[0].size)
      file.write(decoded)
      file.flush()
      os.fsync(file.fileno())  # Before the journal lists the block.
      done[block] = {"crc": zlib.crc32(decoded), "bad": bad}
      journal.write(json.dumps({"block": block, **done[block]}) + "\n")
      journal.flush()
      bar.update(len(decoded))

    stored = None  # The previous block is stored while this one is decoded.
    for block in [block for block in blocks if block not in done]:
      rows = np.arange(block * BLOCK, min(shape[0], (block + 1) * BLOCK))
      decoded, bad = decode_rows(source, rows, square, pool)
      if stored:
        stored.result()
      stored = storing.submit(store, block, decoded, bad)
    if stored:
      stored.result()
  header = {
    **settings,
    "crc": [done[block]["crc"] for block in blocks],
    "bad": {
      row: reason
      for block in blocks
      for row, reason in done[block]["bad"].items()
    },
  }
  (part / "header.json").write_text(json.dumps(header))
  journal_path.unlink()
  part.rename(place)


def _read_journal(path: pathlib.Path) -> dict[int, dict]:
  done = {}
  with contextlib.suppress(FileNotFoundError):
    for line in path.read_text().splitlines():
      # An interruption may leave an incomplete last line.
      with contextlib.suppress(ValueError, KeyError):
        entry = json.loads(line)
        done[entry.pop("block")] = entry
  return done


def _open(place: pathlib.Path) -> tuple[np.ndarray, Bad] | None:
  """Opens a finished cache; removes a damaged one with a warning."""
  if not place.exists():
    return None
  try:
    header = json.loads((place / "header.json").read_text())
    shape = tuple(header["shape"])
    images = np.memmap(place / "images.bin", np.uint8, "r", shape=shape)
    _verify(images, header["crc"])
    return images, {int(row): why for row, why in header["bad"].items()}
  except (ValueError, KeyError, TypeError, OSError) as error:
    print(
      f"the cache {place} is damaged ({error}) and is built again",
      file=sys.stderr,
    )
    shutil.rmtree(place)
    return None


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
