"""Reading the directories of finished runs."""

import dataclasses
import functools
import io
import json
import os
import pathlib
from typing import Any, Literal, get_args

import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import classifier, data, files
from mixaug_jax import config as config_lib
from mixaug_jax.analysis import likelihood
from mixaug_jax.data import labelled, selection
from mixaug_jax.data.identity import Identity, changes
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, records
from mixaug_jax.training.checkpoint import CHECKPOINTS
from mixaug_jax.training.result import Result, from_json
from mixaug_jax.training.writers import METRICS_FILE

# The splits whose predictions a run keeps.
Predicted = Literal["validation", "test"]
_NO_TEMPERATURE = (
  "no temperature is fitted without the validation images of the run"
)


@dataclasses.dataclass(frozen=True)
class Predictions:
  """The predictions of a run on a split.

  Attributes:
    logits: float32 `[N, C]`.
    labels: class ids, int32 `[N]`, or label sets, uint8 `[N, C]`.
    ids: the name of each example, `[N]`.
  """

  logits: np.ndarray
  labels: np.ndarray
  ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run.

  Attributes:
    workdir: the run directory.
    config: the resolved config.
    result: the content of result.json.
  """

  workdir: pathlib.Path
  config: ConfigDict
  result: Result

  @property
  def has_label_sets(self) -> bool:
    """Whether an image may have several labels, or none."""
    return self.result.thresholds is not None

  @property
  def likelihood(self) -> likelihood.Likelihood:
    """The meaning of the logits, which follows the loss."""
    return likelihood.of_loss(self.config.loss.name, self.has_label_sets)

  @functools.cached_property
  def rows(self) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl. Raises UserError."""
    content = self._read(METRICS_FILE)
    try:
      return [_row(line) for line in content.decode("utf-8").splitlines()]
    except ValueError:
      raise self._damaged(METRICS_FILE) from None

  def predictions(self, split: Predicted | str) -> Predictions:
    """Returns the predictions of the chosen weights on a split.

    Args:
      split: `validation` or `test`.

    Raises:
      UserError: another split, or its file is missing or damaged, or cannot be
        read.
    """
    if split not in get_args(Predicted):
      raise UserError(
        f"split must be one of {', '.join(get_args(Predicted))}, got {split}"
      )
    if split == "test" and self.result.test is None:
      raise UserError(f"the run in {self.workdir} has no test split")
    name = f"predictions_{split}.npz"
    content = io.BytesIO(self._read(name))
    try:
      with np.load(content, allow_pickle=False) as file:
        logits, labels, ids = file["logits"], file["labels"], file["ids"]
    except Exception:  # Damaged zip files and headers raise many types.
      raise self._damaged(name) from None
    classes = len(self.result.class_names)
    wanted: Any = (np.int32, ids.shape)
    values = classes
    if self.has_label_sets:
      wanted, values = (np.uint8, (*ids.shape, classes)), 2
    if (
      (logits.dtype, logits.shape) != (np.float32, (*ids.shape, classes))
      or (labels.dtype, labels.shape) != wanted
      or not np.isin(labels, np.arange(values)).all()
    ):
      raise self._damaged(name)
    return Predictions(logits, labels, ids)

  @property
  def identity(self) -> Identity | None:
    """What its data were; None for a run of an older version."""
    return records.read_data(self.workdir)

  def labelled(
    self, split: str, directory: str | None = None
  ) -> tuple[str, data.Split, data.Split | None, list[str]]:
    """Opens labelled images to score the run on.

    Args:
      split: `train`, `validation` or `test`.
      directory: other data than those of the run: a folder of images, or
        what the source of the run reads.

    Returns:
      The name of the split, its images, the images of validation that the run
      was tuned on if they are still there, and sentences about what differs.

    Raises:
      UserError: there are no such images, or they have a class that the run
        does not know.
    """
    names = self.result.class_names
    if directory is not None:
      config = self.config.data.copy_and_resolve_references()
      config.dir = directory
      config.name = labelled.source_name(config.name, directory)
      if self.has_label_sets and config.name != "csv":
        raise UserError(
          f"--data_dir={directory} must be a CSV file, or a folder with "
          "train.csv, because the run has several labels an image"
        )
      try:
        name, images, found = labelled.load_split(config, split, names)
      except UserError as error:
        text = str(error).replace("config.data.dir", "--data_dir")
        raise UserError(text) from None
      notes = selection.describe({name: found})
      return name, images, None, [*notes, *self._no_temperature()]
    try:
      sets, changed = self.datasets()
    except UserError as error:
      there = self.config.data.dir
      if there is None or os.path.exists(there):
        raise
      raise UserError(
        f"{error}; if the data moved, name their folder by --data_dir"
      ) from None
    if split not in sets.by_name():
      raise UserError(f"the data of {self.workdir} have no split {split}")
    images = sets.by_name()[split]
    found = sets.left_out.get(split, {})
    if self.config.data.classes is None:
      labelled.refuse_unknown(split, found, names)
    notes = [f"the data changed since the run: {text}" for text in changed]
    if selection.UNKNOWN_CLASSES in found:
      notes += selection.describe({split: found})
    if self.identity:
      same = not changes(self.identity, sets.identity, ["validation"])
    else:
      same = not any("validation" in text for text in changed)
    if not same:
      notes += self._no_temperature()
    return split, images, sets.validation if same else None, notes

  def _no_temperature(self) -> list[str]:
    """Returns a note, where a temperature is fitted on validation at all."""
    return [] if self.has_label_sets else [_NO_TEMPERATURE]

  def datasets(self) -> tuple[data.Datasets, list[str]]:
    """Opens the data of the run again, with its class ids.

    Returns:
      The data, and sentences about what changed since the run was trained.

    Raises:
      UserError: the data cannot be opened.
    """
    sets = data.load(
      self.config.data,
      self.config.seed,
      class_names=self.result.class_names,
    )
    if self.identity is not None:
      return sets, changes(self.identity, sets.identity)
    stored = ["validation", *["test"] * (self.result.test is not None)]
    return sets, [
      f"other images, or another order, are in {name}"
      for name in stored
      if name not in sets.by_name()
      or list(self.predictions(name).ids) != list(sets.by_name()[name].ids)
    ]

  def classifier(self) -> classifier.Classifier:
    """Returns the network with its chosen weights. Raises UserError."""
    model = experiment.create_model(self.config, len(self.result.class_names))
    step = self.result.chosen_step
    variables = classifier.read_variables(
      self.workdir / CHECKPOINTS / str(step),
      model,
      self.config.data.image_size,
      average=self.result.chosen == "ema",
    )
    return classifier.Classifier(self.config, model, variables)

  def _read(self, name: str) -> bytes:
    path = self.workdir / name
    try:
      return files.read_bytes(path)
    except FileNotFoundError:
      raise self._damaged(name) from None
    except OSError as error:
      raise UserError(f"cannot read {path}: {error.strerror}") from None

  def _damaged(self, name: str) -> UserError:
    return UserError(
      f"{self.workdir / name} is missing or damaged; delete "
      f"{self.workdir / records.RESULT_FILE} and repeat the training command, "
      "which writes both again"
    )


@dataclasses.dataclass(frozen=True)
class _Row:
  """The fields that every row of metrics.jsonl has beside its metrics."""

  step: int
  split: str


def _row(line: str) -> dict[str, Any]:
  """Parses a line of metrics.jsonl; raises ValueError."""
  row = json.loads(line)
  split = from_json(_Row, row).split
  metrics = {name: value for name, value in row.items() if name != "split"}
  from_json(dict[str, float], metrics)
  if split != "train" and (
    split not in ("validation", "test")
    or not {"accuracy", "mean_average_precision"} & set(metrics)
  ):
    raise ValueError(f"not a row of a split: {line}")
  return row


def open_run(workdir: pathlib.Path) -> Run:
  """Opens a finished run.

  Raises:
    UserError: the directory does not hold a finished run, or is damaged.
  """
  config = records.read_config(workdir)
  result = records.read_result(workdir)
  if config is None or result is None:
    raise UserError(_not_finished(workdir))
  if result.config_crc32 != records.checksum(config):
    raise UserError(
      f"{workdir / records.CONFIG_FILE} is damaged: it is not the config of "
      f"{records.RESULT_FILE}"
    )
  return Run(workdir, ConfigDict(config_lib.completed(config)), result)


def _not_finished(workdir: pathlib.Path) -> str:
  """Returns why a directory does not hold a finished run."""
  if (step := records.read_diverged(workdir)) is not None:
    return (
      f"the run in {workdir} diverged at step {step:,}, so it has no result; "
      "lower its learning rate and train it again"
    )
  if runs := sorted(workdir.glob(f"*/seed_*/{records.RESULT_FILE}")):
    return (
      f"{workdir} holds several runs; name one of them, such as "
      f"{runs[0].parent}"
    )
  return (
    f"{workdir} is not the directory of a finished run; train it to its end "
    "first"
  )
