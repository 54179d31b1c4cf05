"""Estimates the time of a comparison from a few steps of one run."""

import dataclasses
import math
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from ml_collections import ConfigDict

from mixaug_jax import progress
from mixaug_jax.comparison import launch
from mixaug_jax.comparison.executors.executor import Executor, only
from mixaug_jax.comparison.plan import Cell, Comparison
from mixaug_jax.durations import duration
from mixaug_jax.errors import UserError
from mixaug_jax.runs import open_run
from mixaug_jax.training import length
from mixaug_jax.training.result import Result

_STEPS = 5
_WARMUPS = ("warmup_epochs", "head_warmup_epochs")  # They may be longer.
_LISTED = 20  # Runs that a terminal shows.


def dry_run(
  comparison: Comparison, command: Sequence[str], executor: Executor
) -> None:
  """Prints the runs, their commands, and an estimate of the time.

  The time is that of this machine. Instead of it, the script is printed by
  which a cluster would train them.

  Args:
    comparison: what was planned.
    command: as in `launch.run`.
    executor: as in `launch.run`.

  Raises:
    UserError: the executor refuses, or the timed run fails.
  """
  cells = (*comparison.trials, *comparison.cells)
  later = comparison.seeds * len(comparison.arms) - len(comparison.cells)
  left = [*comparison.unfinished_trials, *comparison.unfinished]
  count = len(left) + later
  print(
    f"{len(comparison.arms)} arms, {comparison.seeds} seeds, "
    f"{len(comparison.trials)} trials: {count} runs to train"
  )
  # A pipe gets all.
  shown = len(cells) if not sys.stdout.isatty() else _LISTED
  for cell in cells[:shown]:
    words = shlex.join(["python", *only(command, cell)])
    over = "diverged" if cell.diverged is not None else "finished"
    print(f"{cell.name}: {words if cell in left else over}")
  if len(cells) > shown:
    text = f"and {len(cells) - shown} more; --dry_run | cat lists all"
    print(progress.folded(text, sys.stdout))
  if later:
    print(f"then {later} runs of the recipes that are chosen")
  elif not left:
    print("all runs are finished")
    return
  if script := executor.script(comparison.workdir, left, command):
    print(script)
    return
  print(f"timing {_STEPS} steps of {comparison.baseline} ...", flush=True)
  timed = _time(comparison, command)
  seconds = sum(map(timed.seconds, left))
  # Trials of the same number are as long in all arms.
  seconds += later * sum(map(timed.seconds, cells)) / len(cells)
  many = executor.at_once(count)
  # Runs that share a CPU take almost as long as one after the other.
  parts = 1 if executor.shares_cpu else many
  at_once = f", {many} at a time" if many > 1 else ""
  if at_once and parts == 1:
    at_once += ", which share the CPU"
  text = (
    f"{count} runs of about {seconds / count:.0f} s, of which "
    f"{timed.overhead:.0f} s are start-up and compilation"
    f"{at_once}: about {duration(seconds / parts)}, evaluations included"
  )
  if any(cell.config.early_stopping.patience for cell in cells):
    text += ", and less if runs stop early"
  print(progress.folded(text, sys.stdout))


@dataclasses.dataclass(frozen=True)
class _Timed:
  """What a short run of the baseline took.

  Attributes:
    overhead: seconds outside of its steps and evaluations.
    step: seconds of a step.
    epoch: steps of an epoch.
    batch: seconds of the evaluation of a batch.
    validation: the number of images of validation.
    test: likewise of test.
  """

  overhead: float
  step: float
  epoch: float
  batch: float
  validation: int
  test: int

  def seconds(self, cell: Cell) -> float:
    """Returns the estimated seconds of a run."""
    config = cell.config
    steps = length.steps(config, round(self.epoch * config.batch_size))
    batches = _evaluated(
      config, steps, self.epoch, self.validation, self.test * config.data.test
    )
    return self.overhead + steps * self.step + batches * self.batch


def _evaluated(
  config: ConfigDict, steps: int, epoch: float, validation: int, test: int
) -> int:
  """Returns how many batches a run evaluates, during it and at its end.

  Args:
    config: of the run.
    steps: their number.
    epoch: the steps of an epoch.
    validation: the number of images.
    test: likewise, 0 without test.
  """
  size = config.evaluate.batch_size
  validation, test = math.ceil(validation / size), math.ceil(test / size)
  every = length.evaluation_epochs(config, steps / epoch)
  each = validation * (1 if config.ema.decay is None else 2)
  return length.count_due(0, steps, every * epoch) * each + validation + test


def _time(comparison: Comparison, command: Sequence[str]) -> _Timed:
  """Times a run of the baseline, with the recipe as it is written."""
  arm = f"--config.arms.{comparison.baseline}"
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder, "timed")
    begin = time.monotonic()
    done = subprocess.run(
      [
        *(sys.executable, *command, f"--only={comparison.baseline}/0"),
        # The last of two equal flags counts.
        f"--workdir={root}",
        # Of the arm, which may set them itself.
        *(f"{arm}.epochs=none", f"{arm}.steps={_STEPS}"),
        *(f"{arm}.optimizer.{key}=0" for key in _WARMUPS),
        f"{arm}.early_stopping.patience=none",
        *["--config.tune.trials=0"] * bool(comparison.trials),
      ],
      capture_output=True,
      text=True,
      check=False,
    )
    wall = time.monotonic() - begin
    if done.returncode:
      raise UserError(
        f"{comparison.baseline}/0 fails: {launch.last_line(done.stderr)}"
      )
    run = open_run(root / comparison.baseline / "seed_0")
  return _of_run(run.config, run.result, wall)


def _of_run(config: ConfigDict, result: Result, wall: float) -> _Timed:
  """Returns what a run took, whose command took `wall` seconds."""
  epoch = result.steps / result.epochs
  sets = result.examples.validation, result.test.examples if result.test else 0
  batches = _evaluated(config, result.steps, epoch, *sets)
  return _Timed(
    wall - result.seconds - result.evaluation_seconds,
    result.seconds / (result.steps - 1),  # The first step compiles.
    epoch,
    result.evaluation_seconds / batches,
    *sets,
  )
