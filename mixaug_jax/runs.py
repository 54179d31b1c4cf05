"""Finished run directories: config, result, metrics, predictions."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import classifier
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, records
from mixaug_jax.training.checkpoint import CHECKPOINTS
from mixaug_jax.training.result import Result
from mixaug_jax.training.writers import METRICS_FILE


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a run said of a split.

  Attributes:
    logits: float32 `[N, C]`.
    labels: int32 `[N]`.
    ids: a name for each example, `[N]`.
  """

  logits: np.ndarray
  labels: np.ndarray
  ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run.

  Attributes:
    workdir: its directory.
    config: as resolved for it.
    result: the content of result.json.
  """

  workdir: pathlib.Path
  config: ConfigDict
  result: Result

  @functools.cached_property
  def rows(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    text = self._read(METRICS_FILE)
    try:
      rows = [json.loads(line) for line in text.splitlines()]
    except ValueError:
      raise self._damaged(METRICS_FILE) from None
    if not all(map(_is_row, rows)):
      raise self._damaged(METRICS_FILE)
    return rows

  def predictions(self, split: str) -> Predictions:
    """Those of the chosen weights on `validation` or `test`."""
    name = f"predictions_{split}.npz"
    try:
      with np.load(self.workdir / name, allow_pickle=False) as file:
        logits, labels, ids = file["logits"], file["labels"], file["ids"]
    except Exception:  # Zip files and headers raise a zoo of them.
      raise self._damaged(name) from None
    classes = len(self.result.class_names)
    if (
      (logits.dtype, logits.shape) != (np.float32, (labels.size, classes))
      or (labels.dtype, labels.shape) != (np.int32, ids.shape)
      or not np.isin(labels, np.arange(classes)).all()
    ):
      raise self._damaged(name)
    return Predictions(logits, labels, ids)

  def classifier(self) -> classifier.Classifier:
    """The network with its chosen weights."""
    model = experiment.create_model(self.config, len(self.result.class_names))
    step = self.result.chosen_step
    variables = classifier.read_variables(
      self.workdir / CHECKPOINTS / str(step),
      model,
      self.config.data.image_size,
      average=self.result.chosen == "ema",
    )
    return classifier.Classifier(self.config, model, variables)

  def _read(self, name: str) -> str:
    try:
      return (self.workdir / name).read_text("utf-8")
    except (OSError, ValueError):
      raise self._damaged(name) from None

  def _damaged(self, name: str) -> UserError:
    return UserError(
      f"{self.workdir / name} is missing or damaged; delete "
      f"{self.workdir / records.RESULT_FILE}, and the training command writes "
      "both anew"
    )


def _is_row(row: Any) -> bool:
  """Whether this is a line of metrics.jsonl."""
  if not isinstance(row, dict) or not isinstance(row.get("step"), int):
    return False
  numbers = (value for name, value in row.items() if name != "split")
  return all(isinstance(x, int | float) for x in numbers) and (
    row.get("split") == "train"
    or (row.get("split") in ("validation", "test") and "accuracy" in row)
  )


def open_run(workdir: pathlib.Path) -> Run:
  """Opens a finished run.

  Raises:
    UserError: it is not one.
  """
  config = records.read_config(workdir)
  result = records.read_result(workdir)
  if config is None or result is None:
    raise UserError(
      f"--workdir={workdir} is not the directory of a finished run; train it "
      "to its end first"
    )
  if result.config_crc32 != records.checksum(config):
    raise UserError(
      f"{workdir / records.CONFIG_FILE} is damaged: it is not what "
      f"{records.RESULT_FILE} was made with"
    )
  return Run(workdir, ConfigDict(config), result)
