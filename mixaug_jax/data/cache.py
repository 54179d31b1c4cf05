"""Decode once, memory-map for ever.

A cache is a folder named after the fingerprint of source, files and settings:
`images.bin`, uint8 `[N, S, S, 3]`, and `header.json`. It is built beside its
place, block by block with a journal, so that an interrupted build goes on
where it was, and renamed when it is whole.
"""

import concurrent.futures
import contextlib
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
from filelock import FileLock, Timeout
from tqdm import tqdm

from mixaug_jax.data.decode import BadImage, decode
from mixaug_jax.data.sources import Source
from mixaug_jax.errors import UserError

BLOCK = 64  # Images: the unit of journal and checksum.
_VERIFIED_BYTES = 256 * 2**20  # Of a cache, read and compared when it opens.
_MARGIN_BYTES = 64 * 2**20  # Of disk, left free.
_FORMAT = 1
_NAME = re.compile(r"[0-9a-f]{24}(\.part)?")

Bad = dict[int, str]  # Row of an image that cannot be read: why.


def root(directory: str | None = None) -> pathlib.Path:
  """Where caches are: `directory`, or below the user's cache directory."""
  if directory is not None:
    return pathlib.Path(directory)
  return platformdirs.user_cache_path("mixaug_jax") / "images"


def open_or_build(
  source: Source, size: int, resize: str, directory: str | None = None
) -> tuple[np.ndarray, Bad]:
  """The decoded images of a source, built first where need be.

  Processes that start together wait for the one that builds.

  Args:
    source: of the images.
    size: pixels a side.
    resize: as in `decode`.
    directory: of all caches; None: the user's.

  Returns:
    Images, uint8 `[N, size, size, 3]`, memory-mapped and read-only, and what
    could not be read (black in the images).

  Raises:
    UserError: no room on the disk, or a directory that cannot be written.
  """
  settings = {
    "format": _FORMAT,
    "source": source.fingerprint(),
    "shape": [len(source), size, size, 3],
    "resize": resize,
  }
  text = json.dumps(settings, sort_keys=True)
  name = hashlib.sha256(text.encode()).hexdigest()[:24]
  place = root(directory) / name
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(place):
      opened = _open(place)
      if opened is None:
        _build(place, source, settings)
        opened = _open(place)
  except OSError as error:
    raise UserError(
      f"cannot keep decoded images in {place.parent}: {error.strerror}; set "
      "config.data.cache_dir to a directory that can be written"
    ) from error
  if opened is None:
    raise UserError(
      f"the cache {place} is damaged as soon as it is written; check the disk"
    )
  return opened


def info(directory: str | None = None) -> list[tuple[pathlib.Path, int, str]]:
  """Folder, bytes and state of every cache, unfinished ones included.

  Raises:
    UserError: `directory` is none.
  """
  if directory is not None and not pathlib.Path(directory).is_dir():
    raise UserError(f"--cache_dir={directory} is no directory; check its path")
  found = []
  for path in sorted(root(directory).glob("*")):
    # Nothing else is a cache, and cleared, in whatever directory is named.
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
  """Removes all caches but those being built; returns the bytes freed."""
  freed = 0
  for path, size, _ in info(directory):
    with contextlib.suppress(Timeout), _lock(path, timeout=0) as lock:
      shutil.rmtree(path)
      freed += size
      os.unlink(lock.lock_file)
  return freed


def decode_rows(
  source: Source,
  rows: np.ndarray,
  size: int,
  resize: str,
  pool: concurrent.futures.Executor,
) -> tuple[np.ndarray, Bad]:
  """Decodes some images on threads: uint8 `[M, size, size, 3]`, and the bad."""
  images = np.zeros((len(rows), size, size, 3), np.uint8)

  def one(place: int) -> str | None:
    try:
      item = source[int(rows[place])]
      images[place] = decode(item["image"], size, resize)
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
  """A pool for `decode_rows`: the decoders release the GIL."""
  count = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
  )
  return concurrent.futures.ThreadPoolExecutor(count, "decode")


def _build(place: pathlib.Path, source: Source, settings: dict) -> None:
  """Builds into `place.part`, going on where an earlier build was."""
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
      f"{free / 2**30:.1f} GiB are free; make room, lower "
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
      os.fsync(file.fileno())  # Before the journal says so.
      done[block] = {"crc": zlib.crc32(decoded), "bad": bad}
      journal.write(json.dumps({"block": block, **done[block]}) + "\n")
      journal.flush()
      bar.update(len(decoded))

    stored = None  # The block before, while the next one is decoded.
    for block in [block for block in blocks if block not in done]:
      rows = np.arange(block * BLOCK, min(shape[0], (block + 1) * BLOCK))
      decoded, bad = decode_rows(
        source, rows, shape[1], settings["resize"], pool
      )
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
      with contextlib.suppress(ValueError, KeyError):  # Half a line, the last.
        entry = json.loads(line)
        done[entry.pop("block")] = entry
  return done


def _open(place: pathlib.Path) -> tuple[np.ndarray, Bad] | None:
  """Opens a whole cache; a damaged one is removed with a warning."""
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
      f"the cache {place} is damaged ({error}) and is built anew",
      file=sys.stderr,
    )
    shutil.rmtree(place)
    return None


def _verify(images: np.ndarray, checksums: list[int]) -> None:
  """Compares all blocks of a small cache, a random choice of a large one's."""
  block_bytes = max(1, BLOCK * images[0].size)
  count = min(len(checksums), max(1, _VERIFIED_BYTES // block_bytes))
  for block in sorted(random.sample(range(len(checksums)), count)):
    rows = images[block * BLOCK : (block + 1) * BLOCK]
    if zlib.crc32(np.ascontiguousarray(rows)) != checksums[block]:
      raise ValueError(f"block {block} is not what was written")


def _lock(place: pathlib.Path, timeout: float = -1) -> FileLock:
  """A lock on a cache that the system releases when its process ends.

  Args:
    place: the folder of the cache.
    timeout: seconds to wait, after which it raises `Timeout`; -1: for ever.
  """
  # The fallback, a file that marks the lock, would outlive a killed process.
  return FileLock(
    place.with_suffix(".lock"), timeout=timeout, fallback_to_soft=False
  )
