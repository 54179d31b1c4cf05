"""Estimates the time of a comparison from a few steps of one run."""

import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from mixaug_jax.comparison import launch
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.durations import duration
from mixaug_jax.errors import UserError
from mixaug_jax.runs import open_run
from mixaug_jax.training import length

_STEPS = 5


def dry_run(
  comparison: Comparison, command: Sequence[str], jobs: int | None = None
) -> None:
  """Prints the runs, their commands and an estimate of the time.

  Args:
    comparison: what was planned.
    command: as in `launch.run`.
    jobs: as in `launch.run`.

  Raises:
    UserError: there are fewer GPUs than jobs, or the timed run fails.
  """
  cells = (*comparison.trials, *comparison.cells)
  later = comparison.seeds * len(comparison.arms) - len(comparison.cells)
  left = [*comparison.unfinished_trials, *comparison.unfinished]
  for cell in cells:
    words = shlex.join(["python", *launch.only(command, cell)])
    over = "diverged" if cell.diverged is not None else "finished"
    print(f"{cell.name}: {words if cell in left else over}")
  if later:
    print(f"then {later} runs of the recipes that are chosen")
  elif not left:
    print("all runs are finished")
    return
  print(f"timing {_STEPS} steps of {comparison.baseline} ...", flush=True)
  overhead, step, images = _time(comparison, command)
  steps_of = lambda x: length.steps(x.config, images)
  steps = sum(map(steps_of, left))
  # Trials of the same number are as long in all arms.
  steps += later * sum(map(steps_of, cells)) / len(cells)
  # Runs that share a CPU take almost as long as one after the other.
  at_once = max(1, len([place for place in launch.places(jobs) if place]))
  count = len(left) + later
  seconds = (count * overhead + steps * step) / at_once
  print(
    f"{count} runs of about {overhead + steps * step / count:.0f} s, of which "
    f"{overhead:.0f} s are start-up, compilation and the last evaluation"
    + (f", {at_once} at a time" if at_once > 1 else "")
    + f": about {duration(seconds)} without the evaluations during training"
  )


def _time(
  comparison: Comparison, command: Sequence[str]
) -> tuple[float, float, int]:
  """Times a run of the baseline, with the recipe as it is written.

  Returns:
    The seconds outside its steps, those of a step, and the training images.
  """
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder, "timed")
    begin = time.monotonic()
    done = subprocess.run(
      [
        *(sys.executable, *command, f"--only={comparison.baseline}/0"),
        # The last of two equal flags counts.
        *(f"--workdir={root}", "--config.base.epochs=none"),
        f"--config.base.steps={_STEPS}",
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
    result = open_run(root / comparison.baseline / "seed_0").result
  seconds = result.seconds
  return wall - seconds, seconds / _STEPS, result.examples.train
