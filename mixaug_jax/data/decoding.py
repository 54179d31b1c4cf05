"""Decodes rows of a source on threads, and describes what was decoded."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator

import numpy as np

from mixaug_jax.data import regular_file
from mixaug_jax.data.decode import BadImage, Decoded, Settings, decode_square
from mixaug_jax.data.sources import Source
from mixaug_jax.errors import UserError, first_line
from mixaug_jax.names import printable

Bad = dict[int, str]  # Rows of images that cannot be read, and the reasons.


@dataclasses.dataclass(frozen=True)
class Rows:
  """Decoded rows of a source.

  Attributes:
    images: uint8 `[M, S, S, 3]`; black where an image cannot be read.
    bad: the rows that cannot be read, by their number in the source.
    hashes: of the pixels of each square, uint64 `[M]`; 0 where it is bad.
    shares: the share of each picture that its square shows, float32 `[M]`, in
      (0, 1]; 0 where it is bad.
    peak: the brightest value of all 16-bit files; None without any.
  """

  images: np.ndarray
  bad: Bad
  hashes: np.ndarray
  shares: np.ndarray
  peak: int | None


def decode_rows(
  source: Source,
  rows: np.ndarray,
  square: Settings,
  pool: concurrent.futures.Executor,
) -> Rows:
  """Decodes rows of a source on the threads of `pool`.

  Raises:
    UserError: the data set is damaged, or the machine cannot read it.
  """
  images = np.zeros((len(rows), square.size, square.size, 3), np.uint8)
  hashes = np.zeros(len(rows), np.uint64)
  shares = np.zeros(len(rows), np.float32)

  def one(place: int) -> tuple[str | None, int | None]:
    try:
      decoded = decode_row(source, int(rows[place]), square)
    except BadImage as error:
      return printable(first_line(error)), None
    images[place] = decoded.pixels
    hashes[place] = pixel_hash(decoded.pixels)
    shares[place] = share_in_square(decoded, square)
    return None, decoded.peak

  outcomes = list(pool.map(one, range(len(rows))))
  bad = {
    int(row): reason
    for row, (reason, _) in zip(rows, outcomes, strict=True)
    if reason is not None
  }
  peak = max((p for _, p in outcomes if p is not None), default=None)
  return Rows(images, bad, hashes, shares, peak)


def decode_row(source: Source, row: int, square: Settings) -> Decoded:
  """Decodes one row; raises the exceptions of `reading`."""
  with reading(source.ids[row]):
    return decode_square(source[row]["image"], square)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
  """Tells a bad image from an outage, whatever the reading of `name` raises.

  Raises:
    BadImage: the image is bad, and stays so when it is read again.
    UserError: the machine fails, or the data set is damaged.
  """
  try:
    yield
  except (BadImage, UserError):
    raise
  except Exception as error:  # A source of the user's own may raise anything.
    why = getattr(error, "strerror", None) or first_line(error)
    if isinstance(error, MemoryError):
      why = "there is not enough memory"
    if not regular_file.about_the_file(error):
      raise UserError(
        f"cannot read {printable(name)}: {why}; repeat the command, and it "
        "continues, or remove what stays unreadable"
      ) from error
    if not isinstance(error, OSError):
      why = f"its source raises {type(error).__name__}: {why}"
    raise BadImage(why) from error


def pixel_hash(pixels: np.ndarray) -> int:
  """Returns a hash of 64 bits, never 0: the first ones of SHA-256."""
  digest = hashlib.sha256(np.ascontiguousarray(pixels)).digest()
  return int.from_bytes(digest[:8], "little") or 1


def share_in_square(decoded: Decoded, square: Settings) -> float:
  """Returns the share of a picture that its square shows, in (0, 1]."""
  if square.resize != "crop":
    return 1.0
  short, long = sorted((decoded.height, decoded.width))
  return short / long


def threads() -> concurrent.futures.ThreadPoolExecutor:
  """Returns a pool for `decode_rows`; the decoders release the GIL."""
  count = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
  )
  return concurrent.futures.ThreadPoolExecutor(count, "decode")
