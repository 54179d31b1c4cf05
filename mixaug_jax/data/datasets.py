"""The splits of a run: opens `config.data` as train, validation and test."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import registry
from mixaug_jax.data import cache, decode, selection
from mixaug_jax.data.csv_source import CsvSource
from mixaug_jax.data.digits import Digits
from mixaug_jax.data.folder import Folder
from mixaug_jax.data.sources import Opener, Source, Subset
from mixaug_jax.data.tfds_source import TfdsDataset
from mixaug_jax.errors import UserError

# The values of `config.data.name`, apart from `tfds:NAME` and
# `package.module:Name`.
SOURCES: dict[str, Opener] = {
  "csv": CsvSource,
  "digits": Digits,
  "folder": Folder,
  "stanford_dogs": TfdsDataset("stanford_dogs"),
}

# With the placement `auto`, larger data sets are decoded again each epoch.
_LARGEST_CACHE_BYTES = 200 * 2**30
# With the placement `auto`, the largest share of an accelerator's memory that a
# split may occupy.
_DEVICE_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples to train or evaluate on.

  Attributes:
    labels: int32 `[N]`.
    ids: a name for each example.
    placement: where the images are: `device`, `host` or `stream`.
    rows: int64 `[N]`, the row of each example in `store` and `source`.
    store: decoded images, uint8 `[M, S, S, 3]`; None with `stream`.
    source: the source of the images.
    square: how images become squares.
  """

  labels: np.ndarray
  ids: Sequence[str]
  placement: str
  rows: np.ndarray
  store: np.ndarray | None
  source: Source
  square: decode.Settings

  def __len__(self) -> int:
    return len(self.rows)

  def images(self, positions: np.ndarray) -> np.ndarray:
    """Returns the images at some positions, uint8 `[b, S, S, 3]`.

    Raises:
      UserError: `stream` meets an image that cannot be read.
    """
    rows = self.rows[positions]
    if self.store is not None:
      return self.store[rows]
    with cache.threads() as pool:
      decoded, bad = cache.decode_rows(self.source, rows, self.square, pool)
    _refuse(self.source, bad, len(rows))
    return decoded

  def keep(self, positions: np.ndarray) -> "Split":
    """Returns the examples at `positions`, which may repeat."""
    return dataclasses.replace(
      self,
      labels=self.labels[positions],
      ids=[self.ids[p] for p in positions],
      rows=self.rows[positions],
    )


@dataclasses.dataclass(frozen=True)
class Datasets:
  """The splits of a run.

  Attributes:
    train: the training set; `oversample` repeats examples in it.
    validation: chooses the checkpoint.
    test: the test set; None if the data set has none.
    class_names: the name of every class id.
    skipped: ids of the images left out by `on_error='skip'`, and the reasons.
  """

  train: Split
  validation: Split
  test: Split | None
  class_names: tuple[str, ...]
  skipped: dict[str, str]


def load(
  config: ConfigDict,
  seed: int,
  *,
  sources: Mapping[str, Source] | None = None,
  placement: str | None = None,
) -> Datasets:
  """Opens the data of `config.data` and decodes what is not cached.

  A source without validation gives a stratified share of train instead, drawn
  by the seed. Every class with at least two examples keeps one in both.

  Args:
    config: `config.data`.
    seed: draws validation and `examples_per_class`.
    sources: the splits by name, as `Opener.splits` returns them; None opens
      those of `config.name`.
    placement: replaces `config.placement`; None keeps it.

  Raises:
    UserError: a mistake in the config, reported before anything is decoded
      where possible, or an image that cannot be read.
  """
  if sources is None:
    sources = open_sources(config)
  names = sources["train"].class_names
  if len(names) < 2:
    raise UserError(
      f"there is only one class, {names[0]!r}; a classifier needs two"
    )
  if config.classes is not None:
    kept = selection.classes(config.classes, names)
    names = tuple(names[c] for c in kept)
    sources = {
      name: Subset(s, np.flatnonzero(np.isin(s.labels, kept)), kept)
      for name, s in sources.items()
    }
  square = decode.settings(config)
  splits: dict[str, Split] = {}
  skipped: dict[str, str] = {}
  for name, source in sources.items():
    splits[name], bad = _read(
      source,
      square,
      placement or config.placement,
      cache_dir=config.cache_dir,
      skip_bad=config.on_error == "skip",
    )
    skipped |= bad
  train = splits["train"]
  rng = np.random.default_rng(seed)
  if "validation" not in splits:
    rest, held_out = selection.hold_out(
      train.labels, config.validation_fraction, rng
    )
    train, splits["validation"] = train.keep(rest), train.keep(held_out)
  if config.examples_per_class is not None:
    train = train.keep(
      selection.per_class(train.labels, config.examples_per_class, rng)
    )
  if config.oversample:
    train = train.keep(selection.oversampled(train.labels))
  return Datasets(
    train=train,
    validation=splits["validation"],
    test=splits.get("test"),
    class_names=names,
    skipped=skipped,
  )


def open_sources(config: ConfigDict) -> Mapping[str, Source]:
  """Opens the splits of `config.data`; nothing is decoded.

  Raises:
    UserError: an unknown name, or a mistake that the source reports.
  """
  name = config.name
  if name.startswith("tfds:"):
    opener = TfdsDataset(name.removeprefix("tfds:"))
  else:
    try:
      opener = registry.find("config.data.name", name, SOURCES)
    except ValueError as error:
      hint = "" if ":" in name else " (a data set of TFDS is tfds:NAME)"
      raise UserError(f"{error}{hint}") from error
  if not hasattr(opener, "splits"):
    raise UserError(
      f"config.data.name={name} has no method splits(directory); docs/data.md "
      "shows a source with one"
    )
  splits = opener.splits(config.dir)
  if "train" not in splits:
    raise UserError(
      f"config.data.name={name} has no split train, but "
      f"{', '.join(splits) or 'none'}"
    )
  return splits


def _read(
  source: Source,
  square: decode.Settings,
  placement: str,
  *,
  cache_dir: str | None,
  skip_bad: bool,
) -> tuple[Split, dict[str, str]]:
  """Decodes or opens a source, and skips or refuses unreadable images.

  Returns:
    The split, and the ids of the skipped images with the reasons.
  """
  placement = _placement(placement, len(source) * square.size**2 * 3)
  store, bad = None, {}
  if isinstance(source[0]["image"], np.ndarray) and len(source) < 5000:
    # A few arrays need no cache on disk.
    with cache.threads() as pool:
      store, bad = cache.decode_rows(
        source, np.arange(len(source)), square, pool
      )
  elif placement != "stream":
    store, bad = cache.open_or_build(source, square, cache_dir)
  elif skip_bad:
    bad = _scan(source, square)
  if not skip_bad:
    _refuse(source, bad, len(source))
  rows = np.array([r for r in range(len(source)) if r not in bad], np.int64)
  split = Split(
    labels=source.labels[rows],
    ids=[source.ids[row] for row in rows],
    placement=placement,
    rows=rows,
    store=store,
    source=source,
    square=square,
  )
  return split, {source.ids[row]: why for row, why in bad.items()}


def _scan(source: Source, square: decode.Settings) -> cache.Bad:
  """Decodes all images once, to find those that a stream must skip."""
  bad: cache.Bad = {}
  with cache.threads() as pool:
    for first in range(0, len(source), cache.BLOCK):
      rows = np.arange(first, min(len(source), first + cache.BLOCK))
      bad |= cache.decode_rows(source, rows, square, pool)[1]
  return bad


def _refuse(source: Source, bad: cache.Bad, count: int) -> None:
  """Raises UserError if one of `count` images is bad."""
  if bad:
    row, why = next(iter(bad.items()))
    raise UserError(
      f"{len(bad)} of {count:,} images cannot be read, the first is "
      f"{source.ids[row]}: {why}; repair or remove them, or set "
      "config.data.on_error=skip to leave them out"
    )


def _placement(placement: str, size: int) -> str:
  """Resolves `auto` for a split whose decoded images take `size` bytes."""
  if placement != "auto":
    return placement
  if size > _LARGEST_CACHE_BYTES:
    return "stream"
  memory = jax.local_devices()[0].memory_stats() or {}
  if size <= _DEVICE_SHARE * memory.get("bytes_limit", 0):
    return "device"
  return "host"
