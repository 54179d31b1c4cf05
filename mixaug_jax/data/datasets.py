"""From `config.data` to train, validation and test."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax.data import cache
from mixaug_jax.data.sources import Digits, Folder, Source, Subset
from mixaug_jax.errors import UserError

# Larger sets are decoded anew each epoch, unless config.data.placement says.
_LARGEST_CACHE_BYTES = 200 * 2**30
# Of an accelerator's memory, what a data set may take of it.
_DEVICE_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples to train or evaluate on.

  Attributes:
    labels: int32 `[N]`.
    ids: a name for each example.
    placement: where the images are: `device`, `host` or `stream`.
    rows: int64 `[N]`, of each example in `store` or `source`.
    store: decoded images, uint8 `[M, S, S, 3]`; None with `stream`.
    source: what `stream` decodes from, to `size` by `resize`.
  """

  labels: np.ndarray
  ids: Sequence[str]
  placement: str
  rows: np.ndarray
  store: np.ndarray | None
  source: Source
  size: int
  resize: str

  def __len__(self) -> int:
    return len(self.rows)

  def images(self, positions: np.ndarray) -> np.ndarray:
    """The images at some positions, uint8 `[b, S, S, 3]`.

    Raises:
      UserError: an image that cannot be read, met by `stream`.
    """
    rows = self.rows[positions]
    if self.store is not None:
      return self.store[rows]
    with cache.threads() as pool:
      decoded, bad = cache.decode_rows(
        self.source, rows, self.size, self.resize, pool
      )
    _refuse(self.source, bad, len(rows))
    return decoded

  def keep(self, positions: np.ndarray) -> "Split":
    """The examples at `positions`, which may repeat."""
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
    train: what is trained on; `oversample` repeats examples in it.
    validation: to choose by.
    test: read once; None where there is none.
    class_names: of every class id.
    skipped: ids and reasons of images left out by `on_error='skip'`.
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
  """Opens the data of `config.data`, decoding what is not cached.

  Validation is that of the source or, where there is none, a stratified share
  of train drawn by the seed. Every class keeps an example in both.

  Args:
    config: `config.data`.
    seed: of the choice of validation and of `examples_per_class`.
    sources: the splits by name: `train` and, where they exist, `validation`
      and `test`; None opens those of `config.name`.
    placement: replaces `config.placement`; None keeps it.

  Raises:
    UserError: what is wrong with the config or the images, before anything
      is decoded where it can be known.
  """
  if sources is None:
    sources = open_sources(config)
  train = sources["train"]
  if len(train.class_names) < 2:
    raise UserError(
      f"there is one class only, {train.class_names[0]!r}; a classifier needs "
      "two"
    )
  classes = _chosen_classes(config.classes, train.class_names)
  if classes is not None:
    sources = {
      name: Subset(s, np.flatnonzero(np.isin(s.labels, classes)), classes)
      for name, s in sources.items()
    }
  skipped: dict[str, str] = {}
  splits = {
    name: _read(source, config, placement or config.placement, skipped)
    for name, source in sources.items()
  }
  rng = np.random.default_rng(seed)
  if "validation" not in splits:
    splits["train"], splits["validation"] = _carve(
      splits["train"], config.validation_fraction, rng
    )
  if config.examples_per_class is not None:
    splits["train"] = _limit(splits["train"], config.examples_per_class, rng)
  if config.oversample:
    splits["train"] = _oversample(splits["train"])
  return Datasets(
    train=splits["train"],
    validation=splits["validation"],
    test=splits.get("test"),
    class_names=sources["train"].class_names,
    skipped=skipped,
  )


def open_sources(config: ConfigDict) -> dict[str, Source]:
  """The splits that a data set comes with; nothing is decoded."""
  if config.name == "digits":
    return {name: Digits(name) for name in ("train", "test")}
  if config.name == "folder":
    if config.dir is None:
      raise UserError(
        "config.data.dir must name the folder that holds "
        "train/<class>/<image>: --config.data.dir=DIR"
      )
    root = pathlib.Path(config.dir)
    sources: dict[str, Source] = {"train": Folder(root / "train")}
    for name in ("validation", "test"):
      if (root / name).is_dir():
        sources[name] = Folder(root / name, sources["train"].class_names)
    return sources
  if config.name == "stanford_dogs" or config.name.startswith("tfds:"):
    from mixaug_jax.data import tfds_source

    name = config.name.removeprefix("tfds:")
    return tfds_source.open_splits(name, config.dir)
  raise UserError(
    f"config.data.name must be digits, folder, stanford_dogs or tfds:NAME, "
    f"got {config.name!r}"
  )


def _read(
  source: Source, config: ConfigDict, placement: str, skipped: dict[str, str]
) -> Split:
  """Decodes or opens a source; leaves out or refuses what is bad."""
  size = config.cache_size or config.image_size
  placement = _placement(placement, len(source) * size * size * 3)
  store, bad = None, {}
  if isinstance(source[0]["image"], np.ndarray) and len(source) < 5000:
    with cache.threads() as pool:  # Decoded as it is: no file is worth it.
      store, bad = cache.decode_rows(
        source, np.arange(len(source)), size, config.resize, pool
      )
  elif placement != "stream":
    store, bad = cache.open_or_build(
      source, size, config.resize, config.cache_dir
    )
  elif config.on_error == "skip":
    bad = _scan(source, size, config.resize)
  if config.on_error == "raise":
    _refuse(source, bad, len(source))
  rows = np.array([r for r in range(len(source)) if r not in bad], np.int64)
  skipped.update({source.ids[row]: why for row, why in bad.items()})
  return Split(
    labels=source.labels[rows],
    ids=[source.ids[row] for row in rows],
    placement=placement,
    rows=rows,
    store=store,
    source=source,
    size=size,
    resize=config.resize,
  )


def _scan(source: Source, size: int, resize: str) -> cache.Bad:
  """Decodes everything once, to know what to leave out of a stream."""
  bad: cache.Bad = {}
  with cache.threads() as pool:
    for first in range(0, len(source), cache.BLOCK):
      rows = np.arange(first, min(len(source), first + cache.BLOCK))
      bad |= cache.decode_rows(source, rows, size, resize, pool)[1]
  return bad


def _refuse(source: Source, bad: cache.Bad, count: int) -> None:
  if bad:
    row, why = next(iter(bad.items()))
    raise UserError(
      f"{len(bad)} of {count:,} images cannot be read, the first is "
      f"{source.ids[row]}: {why}; mend or remove them, or leave them out with "
      "--config.data.on_error=skip"
    )


def _placement(placement: str, size: int) -> str:
  if placement != "auto":
    return placement
  if size > _LARGEST_CACHE_BYTES:
    return "stream"
  memory = jax.local_devices()[0].memory_stats() or {}
  if size <= _DEVICE_SHARE * memory.get("bytes_limit", 0):
    return "device"
  return "host"


def _chosen_classes(
  chosen: str | None, names: tuple[str, ...]
) -> list[int] | None:
  """Class ids of `config.data.classes`: a count, or names."""
  if chosen is None:
    return None
  if chosen.isdigit():  # One name would be no choice of classes.
    if not 2 <= int(chosen) <= len(names):
      raise UserError(
        f"config.data.classes must be 2 to {len(names)}, got {chosen}"
      )
    return list(range(int(chosen)))
  wanted = [name.strip() for name in chosen.split(",")]
  if unknown := [name for name in wanted if name not in names]:
    raise UserError(
      f"config.data.classes: there is no class {unknown[0]!r}; the first ones "
      f"are {', '.join(names[:5])}"
    )
  if len(set(wanted)) < 2:
    raise UserError("config.data.classes must name two classes or more")
  return [names.index(name) for name in dict.fromkeys(wanted)]


def _by_class(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
  """Positions of each class that has any, in a random order."""
  return [
    rng.permutation(np.flatnonzero(labels == label))
    for label in np.unique(labels)
  ]


def _carve(
  train: Split, fraction: float, rng: np.random.Generator
) -> tuple[Split, Split]:
  """Takes a share of each class, but never all of it, for validation."""
  taken = []
  for positions in _by_class(train.labels, rng):
    count = max(1, round(fraction * len(positions)))
    taken.append(positions[: min(count, len(positions) - 1)])
  chosen = np.sort(np.concatenate(taken))
  if not len(chosen):
    raise UserError(
      "no class of train has two images, so none can be held out for "
      "validation; add images, or a folder validation/"
    )
  return train.keep(np.setdiff1d(np.arange(len(train)), chosen)), train.keep(
    chosen
  )


def _limit(train: Split, count: int, rng: np.random.Generator) -> Split:
  chosen = [positions[:count] for positions in _by_class(train.labels, rng)]
  return train.keep(np.sort(np.concatenate(chosen)))


def _oversample(train: Split) -> Split:
  """Repeats examples until every class has as many as the largest."""
  classes = [
    np.flatnonzero(train.labels == label) for label in np.unique(train.labels)
  ]
  most = max(map(len, classes))
  return train.keep(np.concatenate([np.resize(c, most) for c in classes]))
