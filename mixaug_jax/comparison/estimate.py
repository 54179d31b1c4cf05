"""Estimates the time of a comparison from a few steps of one run."""

import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from mixaug_jax.comparison import launch
from mixaug_jax.comparison.plan import Cell, Comparison
from mixaug_jax.durations import duration
from mixaug_jax.errors import UserError
from mixaug_jax.runs import open_run

_STEPS = 5

Trial = Callable[[Cell, pathlib.Path, int], Sequence[str]]


def dry_run(
  comparison: Comparison,
  command: launch.Command,
  trial: Trial,
  jobs: int | None = None,
) -> None:
  """Prints the runs, their commands and, after a short trial, the time.

  Args:
    comparison: what was planned.
    command: returns the words after `python` that train a cell.
    trial: returns those that train a cell of the comparison in another
      directory, for a number of steps.
    jobs: as in `launch.run`.

  Raises:
    UserError: there are fewer GPUs than jobs, or the trial fails.
  """
  for cell in comparison.cells:
    words = shlex.join(["python", *command(cell)])
    print(f"{cell.name}: {'finished' if cell.finished else words}")
  left = comparison.unfinished
  if not left:
    print("all of them are finished")
    return
  print(f"timing {_STEPS} steps of {left[0].name} ...", flush=True)
  overhead, total = _time(left[0], trial)
  # Runs that share a CPU hardly end sooner than one after the other.
  at_once = max(1, len([place for place in launch.places(jobs) if place]))
  seconds = len(left) * (overhead + total) / at_once
  print(
    f"{len(left)} runs of about {overhead + total:.0f} s, {overhead:.0f} s of "
    f"it start-up, compilation and the last evaluation"
    + (f", {at_once} at a time" if at_once > 1 else "")
    + f": about {duration(seconds)}, evaluations on the way left out"
  )


def _time(cell: Cell, trial: Trial) -> tuple[float, float]:
  """Returns the seconds of a run outside its steps, and in them."""
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder, "trial")
    begin = time.monotonic()
    done = subprocess.run(
      [sys.executable, *trial(cell, root, _STEPS)],
      capture_output=True,
      text=True,
      check=False,
    )
    wall = time.monotonic() - begin
    if done.returncode:
      raise UserError(f"{cell.name} fails: {launch.last_line(done.stderr)}")
    result = open_run(root / cell.arm / cell.workdir.name).result
  steps = cell.config.steps or (
    cell.config.epochs * result.steps / result.epochs
  )
  return wall - result.seconds, steps * result.seconds / _STEPS
