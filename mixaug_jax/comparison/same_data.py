"""Checks that the runs of a comparison are trained on the same data."""

import shutil
from collections.abc import Iterable

from mixaug_jax.comparison.plan import Cell, Comparison
from mixaug_jax.data.identity import Identity, changes, changes_of_seed
from mixaug_jax.errors import UserError
from mixaug_jax.training import records
from mixaug_jax.training.checkpoint import CHECKPOINTS
from mixaug_jax.training.result import Result


def train(cell: Cell, comparison: Comparison) -> Result:
  """Trains a run or a trial in this process, if its data are those of others.

  The checkpoints of a trial are deleted at its end, because nothing reads them.

  Raises:
    UserError: see `check` and `training.loop.train`.
    Diverged, Interrupted: see `training.loop.train`.
  """
  from mixaug_jax.training import loop  # It imports Orbax.

  others = (*comparison.trials, *comparison.cells)
  try:
    return loop.train(
      cell.config, cell.workdir, lambda identity: check(cell, identity, others)
    )
  finally:
    over = cell.finished or cell.diverged is not None
    if cell.trial and over and (folder := cell.workdir / CHECKPOINTS).is_dir():
      shutil.rmtree(folder)


def check(cell: Cell, identity: Identity, others: Iterable[Cell]) -> None:
  """Compares the data of a run with those of others.

  Runs of one seed have the same splits. Runs of different seeds may draw
  different validation splits, but from the same images, and have the same
  classes and test images.

  Args:
    cell: the run.
    identity: what its data are.
    others: the runs to compare with; the finished ones are.

  Raises:
    UserError: they were trained on different data.
  """
  for other in others:
    there = records.read_data(other.workdir) if other.finished else None
    if there is None:  # A run of an older version has none.
      continue
    compare = changes if other.seed == cell.seed else changes_of_seed
    if different := compare(there, identity):
      raise UserError(
        f"{cell.name} and {other.name} have different data: in {cell.name}, "
        f"{'; '.join(different)}; restore the data, or delete the runs of the "
        "older ones"
      )
