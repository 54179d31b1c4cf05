"""The splits of a run: opens `config.data` as train, validation and test."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import registry
from mixaug_jax.data import (
  checked,
  decode,
  duplicates,
  hf_source,
  label_sets,
  selection,
  set_stratify,
  splits,
)
from mixaug_jax.data.csv_source import CsvSource
from mixaug_jax.data.digits import Digits
from mixaug_jax.data.folder import Folder
from mixaug_jax.data.hf_source import HfDataset
from mixaug_jax.data.identity import Identity, SplitIdentity, draws_from
from mixaug_jax.data.packed import Packed
from mixaug_jax.data.sources import Opener, Source
from mixaug_jax.data.splits import Split
from mixaug_jax.data.tfds_source import TfdsDataset
from mixaug_jax.errors import UserError, first_line

# The values of `config.data.name`, apart from `tfds:NAME`, `hf:NAME` and
# `package.module:Name`.
SOURCES: dict[str, Opener] = {
  "csv": CsvSource,
  "digits": Digits,
  "folder": Folder,
  "packed": Packed,
  "stanford_dogs": TfdsDataset("stanford_dogs"),
}

# A network that sees a smaller share of a picture is worth a warning.
_LITTLE = 0.5

# An unset share for validation: a tenth, but rather this many images than
# fewer, and never more than the largest share.
_VALIDATION_SHARE, _LARGEST_SHARE = 0.1, 0.25
_VALIDATION_IMAGES = 50

UNREADABLE = "unreadable images"


@dataclasses.dataclass(frozen=True)
class Datasets:
  """The splits of a run.

  Attributes:
    train: the training set; `oversample` repeats examples in it.
    class_counts: the training images of each class, without repeats.
    validation: chooses the checkpoint.
    test: the test set; None if the data set has none.
    class_names: the name of every class id.
    drawn_from: as in `Identity`.
    skipped: ids of the images left out by `on_error='skip'`, and the reasons.
    left_out: by split and reason, the names of all that is not read.
    duplicates: images that stand in two splits or under two labels.
    seen: the share of a picture that the network sees, in (0, 1]: the mean
      over train, without augmentation.
    warnings: sentences about the data that need attention.
    given: the splits that the data set comes with, as `Opener.splits` names
      them; `config.test` may leave out test.
    chosen_share: the share of train that became validation, if the number of
      images decided it.
  """

  train: Split
  class_counts: tuple[int, ...]
  validation: Split
  test: Split | None
  class_names: tuple[str, ...]
  drawn_from: str
  skipped: dict[str, str]
  left_out: dict[str, selection.LeftOut]
  duplicates: duplicates.Duplicates
  seen: float
  warnings: list[str]
  given: tuple[str, ...]
  chosen_share: float | None = None

  def by_name(self) -> dict[str, Split]:
    """Returns the splits that exist."""
    found = {"train": self.train, "validation": self.validation}
    return {**found, "test": self.test} if self.test is not None else found

  @functools.cached_property
  def identity(self) -> Identity:
    """Describes what the splits are, for `data.json`."""
    return Identity(
      class_names=list(self.class_names),
      splits={
        name: SplitIdentity.of(x.ids, x.labels, x.hashes, len(self.class_names))
        for name, x in self.by_name().items()
      },
      drawn_from=self.drawn_from,
      left_out={
        split: {reason: len(names) for reason, names in reasons.items()}
        for split, reasons in self.left_out.items()
      },
      in_two_splits={
        ", ".join(pair): len(copies)
        for pair, copies in self.duplicates.across.items()
      },
      under_two_labels=len(self.duplicates.labels),
    )


def load(
  config: ConfigDict,
  seed: int,
  *,
  sources: Mapping[str, Source] | None = None,
  placement: str | None = None,
  class_names: Sequence[str] | None = None,
) -> Datasets:
  """Opens the data of `config.data` and decodes what is not cached.

  A source without validation gives a stratified share of train instead, drawn
  by the seed, and one without any split gives a share to test first, drawn by
  `config.test_seed`. Every class with at least two examples keeps one in each
  part. Copies of an image stay in one part.

  Args:
    config: `config.data`.
    seed: draws validation, `examples_per_class` and `imbalance_factor`.
    sources: the splits by name, as `Opener.splits` returns them; None opens
      those of `config.name`.
    placement: replaces `config.placement`; None keeps it.
    class_names: the classes of a trained run. Labels become its class ids, by
      name, and the images of other classes are left out. None takes the
      classes that `config.classes` chooses.

  Raises:
    UserError: a mistake in the config, reported before anything is decoded
      where possible, or an image that cannot be read.
  """
  label_sets.check(config)
  opened = checked.sources(open_sources(config) if sources is None else sources)
  if not config.test:
    opened.pop("test", None)
  found = {name: {**source.left_out} for name, source in opened.items()}
  sources, names = selection.select(opened, config.classes, class_names, found)
  parts: dict[str, Split] = {}
  skipped: dict[str, str] = {}
  peaks, share = [], 1.0
  for name, source in sources.items():
    reading = splits.read(
      source,
      decode.settings(config),
      placement or config.placement,
      cache_dir=config.cache_dir,
      skip_bad=config.on_error == "skip",
    )
    parts[name] = reading.split
    peaks += [] if reading.peak is None else [reading.peak]
    skipped |= reading.unreadable
    if reading.unreadable:
      found[name][UNREADABLE] = list(reading.unreadable)
    if name in ("all", "train"):
      share = reading.share
  rng = np.random.default_rng(seed)
  chosen_share = _divide(parts, config, rng)
  drawn_from = draws_from(
    (x.ids, x.labels, x.hashes) for n, x in parts.items() if n != "test"
  )
  copies = _copies(parts, config.duplicates)
  train = parts["train"]
  if config.examples_per_class is not None:
    train = train.keep(
      selection.per_class(train.labels, config.examples_per_class, rng)
    )
  if config.imbalance_factor is not None:
    train = train.keep(
      selection.long_tailed(train.labels, config.imbalance_factor, rng)
    )
  counts = label_sets.counts(train.labels, len(names))
  if config.oversample:
    train = train.keep(
      selection.oversampled(train.labels, config.oversample_power)
    )
  return Datasets(
    train=train,
    class_counts=tuple(counts),
    validation=parts["validation"],
    test=parts.get("test"),
    class_names=names,
    drawn_from=drawn_from,
    skipped=skipped,
    left_out={name: reasons for name, reasons in found.items() if reasons},
    duplicates=copies,
    seen=share * _middle(config),
    warnings=[
      *copies.describe(),
      *_without_training(train.labels, names),
      *_of_sets(train, parts, names, config),
      *_of_pictures(share, peaks, config),
    ],
    given=tuple(sources),
    chosen_share=chosen_share,
  )


def open_sources(config: ConfigDict) -> dict[str, checked.Checked]:
  """Opens the splits of `config.data`; nothing is decoded.

  Raises:
    UserError: an unknown name, or a mistake that the source reports.
  """
  label_sets.check(config)
  name, opener = config.name, _opener(config.name)
  options = {}
  taken = inspect.signature(opener.splits).parameters
  for key in ("test", *label_sets.KEYS):
    if key in taken:
      options[key] = config[key]
  try:
    return checked.sources(opener.splits(config.dir, **options))
  except UserError:
    raise
  except Exception as error:
    if name in SOURCES or name.startswith(("tfds:", hf_source.PREFIX)):
      raise
    raise UserError(  # The user's own code may raise anything.
      f"config.data.name={name} cannot open {config.dir}: "
      f"{type(error).__name__}: {first_line(error)}"
    ) from error


def check(config: ConfigDict) -> None:
  """Raises UserError unless `config.data` can be opened; prepares nothing."""
  label_sets.check(config)
  opener = _opener(config.name)
  if isinstance(opener, TfdsDataset):
    opener.builder(config.dir)
  elif isinstance(opener, HfDataset):
    opener.check(config.dir)
  else:
    open_sources(config)


def sizes(config: ConfigDict) -> tuple[int, int | None] | None:
  """Counts classes and training images; nothing is prepared or decoded.

  Args:
    config: `config.data`.

  Returns:
    The number of classes that `config.classes` keeps, and of the images that
    training or its held-out shares are drawn from, which is None for a data
    set of TFDS that was not prepared. None if `config.dir` is missing.

  Raises:
    UserError: an unknown name, or a mistake that the source reports.
  """
  label_sets.check(config)
  opener = _opener(config.name)
  if isinstance(opener, TfdsDataset):
    info = opener.builder(config.dir).info
    names = tuple(info.features["label"].names)
    splits = info.splits
    count = splits["train"].num_examples if "train" in splits else None
  elif config.dir is None and opener is not SOURCES["digits"]:
    return None
  else:
    sources = open_sources(config)
    source = sources.get("train") or sources["all"]
    names, count = source.class_names, len(source)
  if config.classes is not None:
    return len(selection.classes(config.classes, names)), count
  return len(names), count


def _opener(name: str) -> Opener:
  """Returns the opener of `config.data.name`; raises UserError."""
  if name.startswith("tfds:"):
    return TfdsDataset(name.removeprefix("tfds:"))
  if name.startswith(hf_source.PREFIX):
    return HfDataset(name.removeprefix(hf_source.PREFIX))
  try:
    opener = registry.find("config.data.name", name, SOURCES)
  except ValueError as error:
    hint = (
      ""
      if ":" in name
      else " (a data set of TFDS is tfds:NAME, of the Hugging Face hub hf:NAME)"
    )
    raise UserError(f"{error}{hint}") from error
  if not hasattr(opener, "splits"):
    raise UserError(
      f"config.data.name={name} has no method splits(directory); docs/data.md "
      "shows a source with one"
    )
  return opener


def _divide(
  parts: dict[str, Split], config: ConfigDict, rng: np.random.Generator
) -> float | None:
  """Holds out the splits that the data set does not have.

  Returns:
    `Datasets.chosen_share`.
  """
  if "all" in parts:
    parts["train"] = parts.pop("all")
    own = np.random.default_rng(config.test_seed)
    _hold_out(parts, "test", config.test_fraction, own)
    if not config.test:  # It is held out all the same, and never trained on.
      del parts["test"]
  if "validation" in parts:
    return None
  if config.validation_fraction is not None:
    _hold_out(parts, "validation", config.validation_fraction, rng)
    return None
  share = max(_VALIDATION_SHARE, _VALIDATION_IMAGES / len(parts["train"]))
  share = min(share, _LARGEST_SHARE)
  _hold_out(parts, "validation", share, rng)
  return share


def _hold_out(
  parts: dict[str, Split],
  name: str,
  fraction: float,
  rng: np.random.Generator,
) -> None:
  """Moves a share of train into a new split."""
  train = parts["train"]
  sets = label_sets.are_sets(train.labels)
  draw = set_stratify.hold_out if sets else selection.hold_out
  rest, held_out = draw(train.labels, fraction, rng, train.hashes)
  if not len(held_out):
    raise UserError(
      f"no class of train has two images, so none can be held out for {name}; "
      f"add images, or a folder {name}/"
    )
  parts["train"], parts[name] = train.keep(rest), train.keep(held_out)


def _middle(config: ConfigDict) -> float:
  """Returns the share of a stored square that the network sees."""
  return (config.image_size / decode.settings(config).size) ** 2


def _of_pictures(
  share: float, peaks: Sequence[int], config: ConfigDict
) -> list[str]:
  """Returns sentences about what the network does not see of a picture.

  Args:
    share: the share of a picture that its square shows.
    peaks: the brightest value of the 16-bit files of each split.
    config: `config.data`.
  """
  lines = []
  if share * _middle(config) < _LITTLE:
    advice = [
      "lower config.data.cache_size" * (_middle(config) < _LITTLE),
      "set config.data.resize=squash or pad" * (share < _LITTLE),
    ]
    lines.append(
      f"the network sees only {100 * share * _middle(config):.2g}% of an "
      f"average picture; {' and '.join(filter(None, advice))}"
    )
  if peaks and (text := decode.range_warning(max(peaks), config.bits)):
    lines.append(text)
  return lines


def _without_training(labels: np.ndarray, names: Sequence[str]) -> list[str]:
  """Returns a sentence about the classes that train has no image of."""
  missing = np.flatnonzero(np.equal(label_sets.counts(labels, len(names)), 0))
  if not len(missing):
    return []
  return [
    f"train has no image of {len(missing):,} of {len(names):,} classes; the "
    f"first: {names[missing[0]]}"
  ]


def _of_sets(
  train: Split,
  parts: Mapping[str, Split],
  names: Sequence[str],
  config: ConfigDict,
) -> list[str]:
  """Returns sentences about label sets; see `label_sets.warnings`."""
  if not label_sets.are_sets(train.labels):
    # Only lists can hold label sets.
    return label_sets.hidden(names) if config.name == "csv" else []
  labels = {name: split.labels for name, split in parts.items()}
  return label_sets.warnings({**labels, "train": train.labels}, names)


def _copies(parts: Mapping[str, Split], how: str) -> duplicates.Duplicates:
  """Finds copies; raises UserError if `how` is `error` and there are any."""
  found = duplicates.find(
    {
      name: duplicates.Examples(x.ids, x.labels, x.hashes)
      for name, x in sorted(parts.items(), key=lambda part: part[0] == "test")
    }
  )
  if found and how == "error":
    raise UserError(
      f"{'; '.join(found.describe())}; remove the copies, or set "
      "config.data.duplicates=report"
    )
  return found
