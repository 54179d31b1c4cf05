"""A split of a data set: its examples, and where their images are."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from mixaug_jax.data import cache, decoding
from mixaug_jax.data import ids as ids_lib
from mixaug_jax.data.decode import Settings
from mixaug_jax.data.label_sets import are_sets
from mixaug_jax.data.sources import Source, described
from mixaug_jax.errors import UserError

# Fewer images that a source has as arrays need no cache on disk.
_FEW = 5000
# With the placement `auto`, larger data sets are decoded again each epoch.
_LARGEST_CACHE_BYTES = 200 * 2**30
# With the placement `auto`, the largest share of an accelerator's memory that a
# split may occupy.
_DEVICE_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples to train or evaluate on.

  Attributes:
    labels: class ids, int32 `[N]`, or label sets, uint8 `[N, C]`.
    ids: a name for each example.
    placement: where the images are: `device`, `host` or `stream`.
    rows: int64 `[N]`, the row of each example in `store` and `source`.
    store: decoded images, uint8 `[M, S, S, 3]`; None with `stream`.
    source: the source of the images.
    square: how images become squares.
    hashes: of the pixels of each example, uint64 `[N]`.
  """

  labels: np.ndarray
  ids: Sequence[str]
  placement: str
  rows: np.ndarray
  store: np.ndarray | None
  source: Source
  square: Settings
  hashes: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  @functools.cached_property
  def distinct(self) -> tuple[np.ndarray, np.ndarray]:
    """The examples without those that repeat a row.

    Returns:
      The position of one example for each row that occurs, int64 `[R]`, and the
      index into them of every example, int64 `[N]`.
    """
    _, first, index = np.unique(
      self.rows, return_index=True, return_inverse=True
    )
    return first, index

  def images(self, positions: np.ndarray) -> np.ndarray:
    """Returns the images at some positions, uint8 `[b, S, S, 3]`.

    Raises:
      UserError: `stream` meets an image that has become unreadable, or the
        machine cannot read one.
    """
    rows = self.rows[positions]
    if self.store is not None:
      return self.store[rows]
    with decoding.threads() as pool:
      decoded = decoding.decode_rows(self.source, rows, self.square, pool)
    if decoded.bad:
      row, why = next(iter(decoded.bad.items()))
      raise UserError(
        f"{self.source.ids[row]} cannot be read any more: {why}; restore it "
        "and repeat the command, or run mixaug data --clear and begin a new "
        "run with config.data.on_error=skip"
      )
    return decoded.images

  def keep(self, positions: np.ndarray) -> "Split":
    """Returns the examples at `positions`, which may repeat."""
    return dataclasses.replace(
      self,
      labels=self.labels[positions],
      ids=ids_lib.take(self.ids, positions),
      rows=self.rows[positions],
      hashes=self.hashes[positions],
    )


@dataclasses.dataclass(frozen=True)
class Reading:
  """A split as it was read, and what was met on the way.

  Attributes:
    split: the readable examples.
    unreadable: the ids of the others, and the reasons.
    share: the mean share of a picture that its square shows, in (0, 1].
    peak: the brightest value of all 16-bit files; None without any.
  """

  split: Split
  unreadable: dict[str, str]
  share: float
  peak: int | None


def read(
  source: Source,
  square: Settings,
  placement: str,
  *,
  cache_dir: str | None = None,
  skip_bad: bool = False,
) -> Reading:
  """Decodes a source, or opens what was decoded before.

  Args:
    source: one example at least.
    square: how images become squares.
    placement: `auto`, or as in `Split.placement`.
    cache_dir: as in `cache.root`.
    skip_bad: whether to leave unreadable images out.

  Raises:
    UserError: an image cannot be read and `skip_bad` is false, or no image of
      a class can be read.
  """
  memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
  size = len(source) * square.size**2 * 3
  placement = settled_placement(placement, size, memory)
  if _has_arrays(source):
    with decoding.threads() as pool:
      everything = np.arange(len(source))
      rows = decoding.decode_rows(source, everything, square, pool)
  else:
    keep = placement != "stream"
    known = None if keep else described(source, square, np.arange(len(source)))
    rows = known or cache.open_or_build(
      source, square, cache_dir, keep_images=keep
    )
  if not skip_bad:
    _refuse(source, rows.bad, len(source))
  good = np.delete(np.arange(len(source)), sorted(rows.bad))
  check_classes(source, good, rows.bad)
  split = Split(
    labels=source.labels[good],
    ids=ids_lib.take(source.ids, good),
    placement=placement,
    rows=good,
    store=None if placement == "stream" else rows.images,
    source=source,
    square=square,
    hashes=rows.hashes[good],
  )
  unreadable = {source.ids[row]: why for row, why in rows.bad.items()}
  return Reading(split, unreadable, float(rows.shares[good].mean()), rows.peak)


def _has_arrays(source: Source) -> bool:
  """Returns whether a source holds a few images as arrays."""
  try:
    return len(source) < _FEW and isinstance(source[0]["image"], np.ndarray)
  except Exception:  # The first image may be unreadable.
    return False


def _refuse(source: Source, bad: decoding.Bad, count: int) -> None:
  """Raises UserError if one of `count` images is bad."""
  if bad:
    row, why = next(iter(bad.items()))
    raise UserError(
      f"{len(bad)} of {count:,} images cannot be read, the first is "
      f"{source.ids[row]}: {why}; repair or remove them, or set "
      "config.data.on_error=skip to leave them out"
    )


def check_classes(source: Source, good: np.ndarray, bad: decoding.Bad) -> None:
  """Raises UserError if a class has images and none of them can be read."""
  labels = np.asarray(source.labels)
  sets = are_sets(labels)
  if sets:
    empty = np.flatnonzero(labels.any(0) & ~labels[good].any(0))
  else:
    empty = np.setdiff1d(labels, labels[good])
  if len(empty):
    has = lambda r: labels[r, empty[0]] if sets else labels[r] == empty[0]
    row, why = next((r, w) for r, w in bad.items() if has(r))
    raise UserError(
      f"no image of the class {source.class_names[empty[0]]} can be read, the "
      f"first is {source.ids[row]}: {why}; repair the images, or leave the "
      "class out by config.data.classes"
    )


def settled_placement(placement: str, size: int, memory: float) -> str:
  """Returns a placement, or the one that `auto` stands for.

  Args:
    placement: `auto`, or as in `Split.placement`.
    size: bytes of the decoded images of a split.
    memory: bytes that JAX may use of a device; 0 for a CPU.
  """
  if placement != "auto":
    return placement
  if size > _LARGEST_CACHE_BYTES:
    return "stream"
  return "device" if size <= _DEVICE_SHARE * memory else "host"
