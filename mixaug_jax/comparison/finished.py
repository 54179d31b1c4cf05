"""The finished runs of a comparison."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from mixaug_jax import runs
from mixaug_jax.analysis import calibration
from mixaug_jax.comparison import same_data
from mixaug_jax.comparison.plan import Cell
from mixaug_jax.training.result import Result


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """A finished run, with the predictions that a comparison needs.

  Attributes:
    run: the run.
    split: the split that arms are compared on, the same for all runs.
    compared: the predictions on `split`.
    validation: the predictions on validation, to fit the temperature on.
  """

  run: runs.Run
  split: str
  compared: runs.Predictions
  validation: runs.Predictions

  @property
  def result(self) -> Result:
    return self.run.result

  @property
  def rows(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return self.run.rows

  @property
  def correct(self) -> np.ndarray:
    """Which examples of `split` are classified correctly, bool `[N]`."""
    return calibration.correct(self.compared.logits, self.compared.labels)


def read(cells: Iterable[Cell]) -> dict[str, dict[int, FinishedRun]]:
  """Reads finished runs, by arm and seed.

  They are compared on test, or on validation where a run has no test split.

  Raises:
    UserError: a run directory is damaged, or the runs have different data.
  """
  opened = [(cell, _located(cell)) for cell in cells]
  for number, (cell, run) in enumerate(opened):
    if run.identity:
      same_data.check(cell, run.identity, (c for c, _ in opened[:number]))
  has_test = all(run.result.test for _, run in opened)
  split = "test" if has_test else "validation"
  found: dict[str, dict[int, FinishedRun]] = {}
  for cell, run in opened:
    found.setdefault(cell.arm, {})[cell.seed] = FinishedRun(
      run, split, run.predictions(split), run.predictions("validation")
    )
  return found


def _located(cell: Cell) -> runs.Run:
  """Opens a run; its data are where this command finds them."""
  run = runs.open_run(cell.workdir)
  with run.config.unlocked():
    for key in ("dir", "cache_dir", "placement"):
      run.config.data[key] = cell.config.data[key]
  return run
