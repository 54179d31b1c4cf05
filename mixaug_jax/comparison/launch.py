"""Runs the cells of a comparison, each in a process of its own.

A process, because a run that dies, for want of memory say, must not take the
others along; and because an accelerator is given to a process, not to a call.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time

from mixaug_jax import runs
from mixaug_jax.comparison.plan import Cell, Plan
from mixaug_jax.errors import UserError
from mixaug_jax.training import lock

_PROBE_STEPS = 5
# For a run whose comparison was killed to save itself and let go of its lock.
_WAIT_SECONDS = 60.0
_DEVICES = "CUDA_VISIBLE_DEVICES"


def log(cell: Cell) -> pathlib.Path:
  """What a cell printed."""
  return cell.workdir.with_suffix(".log")


def run(plan: Plan, jobs: int | None = None) -> list[Cell]:
  """Trains what is not finished, several runs side by side.

  Args:
    plan: the comparison.
    jobs: runs at the same time; None: one a GPU, or one on a CPU.

  Returns:
    The cells that failed.

  Raises:
    UserError: the directory is in use or cannot be written, there are not so
      many GPUs, or the config that all arms share is one that cannot run.
  """
  left = [cell for cell in plan.cells if not cell.finished]
  print(
    f"{len(plan.cells)} runs: {len(plan.arms)} arms, "
    f"{len(plan.cells) // len(plan.arms)} seeds; "
    f"{len(plan.cells) - len(left)} finished already",
    flush=True,
  )
  if not left:
    return []
  try:
    plan.workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"cannot write to --workdir={plan.workdir}: {error.strerror}; name "
      "another"
    ) from None
  environments = queue.SimpleQueue()
  places = _places(jobs)
  for place in places:
    environments.put(place)
  progress = _Progress(len(left), len(places))
  over = threading.Event()

  def train_one(cell: Cell) -> int | None:
    environment = environments.get()
    try:
      if over.is_set():
        return None
      progress.started(cell)
      begin = time.monotonic()
      code = _run_cell(plan, cell, environment)
      progress.ended(cell, code, time.monotonic() - begin)
      if code == UserError.code and cell.arm == plan.baseline:
        # Its config is that of all, and without it nothing can be compared.
        over.set()  # Or this thread takes the next cell before it is told.
        raise UserError(_last_line(log(cell).read_text("utf-8", "replace")))
      return code
    finally:
      environments.put(environment)

  with (
    lock.hold(plan.workdir),
    concurrent.futures.ThreadPoolExecutor(len(places)) as pool,
  ):
    try:
      codes = list(pool.map(train_one, left))
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  return [cell for cell, code in zip(left, codes, strict=True) if code]


def dry_run(plan: Plan, jobs: int | None = None) -> None:
  """Prints the runs, their commands and, after a short trial, the time."""
  left = [cell for cell in plan.cells if not cell.finished]
  for cell in plan.cells:
    if cell.finished:
      print(f"{cell.name}: finished")
    else:
      print(f"{cell.name}: {shlex.join(['python', *_arguments(plan, cell)])}")
  if not left:
    print("all of them are finished")
    return
  print(f"timing {_PROBE_STEPS} steps of {left[0].name} ...", flush=True)
  overhead, total = _probe(plan, left[0])
  # Runs that share a CPU hardly end sooner than one after the other.
  at_once = max(1, len([place for place in _places(jobs) if place]))
  seconds = len(left) * (overhead + total) / at_once
  print(
    f"{len(left)} runs of about {overhead + total:.0f} s, {overhead:.0f} s of "
    f"it start-up, compilation and the last evaluation"
    + (f", {at_once} at a time" if at_once > 1 else "")
    + f": about {_duration(seconds)}, evaluations on the way left out"
  )


def _probe(plan: Plan, cell: Cell) -> tuple[float, float]:
  """Seconds of a run besides its steps, and of its steps."""
  steps = _PROBE_STEPS
  length = {"base.epochs", "base.steps"}
  with tempfile.TemporaryDirectory() as folder:
    short = {k: x for k, x in plan.overrides.items() if k not in length}
    short["base.steps"] = str(steps)
    trial = dataclasses.replace(
      plan, workdir=pathlib.Path(folder, "trial"), overrides=short
    )
    begin = time.monotonic()
    done = subprocess.run(
      [sys.executable, *_arguments(trial, cell)],
      capture_output=True,
      text=True,
      check=False,
    )
    wall = time.monotonic() - begin
    if done.returncode:
      raise UserError(f"{cell.name} fails: {_last_line(done.stderr)}")
    workdir = trial.workdir / cell.workdir.relative_to(plan.workdir)
    result = runs.open_run(workdir).result
  whole = cell.config.steps or (
    cell.config.epochs * result.steps / result.epochs
  )
  seconds = result.seconds
  return wall - seconds, whole * seconds / steps


def _arguments(plan: Plan, cell: Cell) -> list[str]:
  return [*plan.command(), f"--only={cell.name}"]


def _run_cell(plan: Plan, cell: Cell, environment: dict[str, str]) -> int:
  """Runs a cell to its end; its exit code."""
  _wait_for_lock(cell)
  cell.workdir.parent.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, *_arguments(plan, cell), "--until_stdin_closes"]
  with open(log(cell), "w", encoding="utf-8") as output:
    # The pipe closes with this process, however that ends.
    process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=output,
      stderr=subprocess.STDOUT,
      env={**os.environ, **environment},
    )
    with contextlib.closing(process.stdin):
      return process.wait()


def _wait_for_lock(cell: Cell) -> None:
  """Gives the orphan of a killed comparison the time to save its run."""
  end = time.monotonic() + _WAIT_SECONDS
  while cell.workdir.is_dir() and time.monotonic() < end:
    try:
      with lock.hold(cell.workdir):
        return
    except UserError:
      time.sleep(0.2)


def _places(jobs: int | None) -> list[dict[str, str]]:
  """An environment for each run that may go on at the same time.

  Asked in another process: this one must not take the GPUs' memory.
  """
  if jobs is not None and jobs < 1:
    raise UserError(f"--jobs must be at least 1, got {jobs}")
  asked = subprocess.run(
    [
      *(sys.executable, "-c"),
      "import jax; print(jax.default_backend(), jax.local_device_count())",
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  words = asked.stdout.split()
  if words[:1] != ["gpu"]:
    return [{}] * (jobs or 1)
  visible = os.environ.get(_DEVICES)
  names = visible.split(",") if visible else map(str, range(int(words[1])))
  places = [{_DEVICES: name} for name in names]
  if jobs and jobs > len(places):
    raise UserError(f"--jobs={jobs}, but there are {len(places)} GPUs")
  return places[:jobs]


class _Progress:
  """A line for every run that ends, and the time that is left."""

  def __init__(self, count: int, jobs: int):
    self._count, self._jobs = count, jobs
    self._seconds: list[float] = []
    self._lock = threading.Lock()

  def started(self, cell: Cell) -> None:
    if sys.stdout.isatty():
      with self._lock:
        print(f"\r\x1b[2K{cell.name} ...", end="", flush=True)

  def ended(self, cell: Cell, code: int, seconds: float) -> None:
    with self._lock:
      self._seconds.append(seconds)
      done = len(self._seconds)
      if code:
        last = _last_line(log(cell).read_text("utf-8", "replace"))
        what = f"failed with {code}: {last} ({log(cell)})"
      else:
        what = _outcome(cell)
      left = (self._count - done) * sum(self._seconds) / done / self._jobs
      clear = "\r\x1b[2K" if sys.stdout.isatty() else ""
      print(
        f"{clear}[{done}/{self._count}] {cell.name}: {what}; {seconds:.0f} s"
        + (f", about {_duration(left)} left" if done < self._count else ""),
        flush=True,
      )


def _outcome(cell: Cell) -> str:
  result = runs.open_run(cell.workdir).result
  split = "test" if result.test else "validation"
  measured = result.test or result.validation.last
  return f"{split} {measured.accuracy:.2%}"


def _last_line(text: str) -> str:
  lines = text.strip().splitlines() or ["it printed nothing"]
  return lines[-1].removeprefix("mixaug_jax: ")


def _duration(seconds: float) -> str:
  if seconds < 90:
    return f"{seconds:.0f} s"
  if seconds < 5400:
    return f"{seconds / 60:.0f} min"
  return f"{seconds / 3600:.1f} h"
