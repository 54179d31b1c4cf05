"""Trains the cells of a comparison, each in a separate process.

A run that dies, for example because memory is short, must not end the others,
and JAX gives accelerators to processes.
"""

import concurrent.futures
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from mixaug_jax import data, files, progress, signals
from mixaug_jax.comparison.plan import Cell, Comparison
from mixaug_jax.durations import duration
from mixaug_jax.errors import Interrupted, UserError
from mixaug_jax.runs import open_run
from mixaug_jax.training import lock

# Seconds for a run whose comparison was killed to save and release its lock.
_WAIT_SECONDS = 60.0
_DEVICES = "CUDA_VISIBLE_DEVICES"
# The exit codes of a run that a signal stopped.
_STOPPED = [128 + n for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]


def run(
  comparison: Comparison,
  cells: Sequence[Cell],
  command: Sequence[str],
  jobs: int | None = None,
  later: int = 0,
) -> list[Cell]:
  """Trains the cells that are not finished, in several processes at a time.

  Args:
    comparison: what was planned.
    cells: its trials, or its runs.
    command: the words after `python` that run the comparison.
    jobs: the number of runs at the same time; None: one for each GPU, or one
      on a CPU.
    later: the number of cells that are to be trained after these, for the
      time that is left.

  Returns:
    The cells that failed.

  Raises:
    UserError: the directory is in use or cannot be written, there are fewer
      GPUs than jobs, or the config that all arms share cannot run.
    Interrupted: Ctrl-C; the runs are saved.
  """
  workdir = comparison.workdir
  diverged = [x for x in cells if x.diverged is not None]
  left = [x for x in cells if not x.finished and x not in diverged]
  seeds = len({cell.seed for cell in cells})
  if cells[0].trial:
    kind, group = "trial", "study" if seeds == 1 else "studies"
  else:
    kind, group = "run", "seed" if seeds == 1 else "seeds"
  progress.write(
    f"{len(cells)} {kind}s: {len(comparison.arms)} arms, {seeds} {group}; "
    f"{len(cells) - len(left) - len(diverged)} finished already"
    + (f", {len(diverged)} diverged" if diverged else ""),
    sys.stdout,
  )
  sys.stdout.flush()
  if not left:
    return []
  # All runs have the same data. `experiment.check` would take the GPUs' memory.
  data.check(left[0].config.data)
  files.make_folder("--workdir", workdir)
  environments: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
  available = places(jobs)
  for place in available:
    environments.put(place)
  shown = _Progress(len(left), len(available), later)
  children = _Children()

  def train_one(cell: Cell) -> int | None:
    environment = environments.get()
    try:
      if children.over:
        return None
      shown.started(cell)
      begin = time.monotonic()
      code = _run_cell(cell, command, environment, children)
      stopped = code in _STOPPED and (
        children.over or code == signals.CTRL_C_CODE
      )
      shown.ended(cell, code, stopped, time.monotonic() - begin)
      if code == UserError.code and cell.arm == comparison.baseline:
        # All arms share its config, and nothing can be compared without it.
        children.over = True  # Otherwise this thread takes the next cell.
        raise UserError(_failure(cell))
      return code
    finally:
      environments.put(environment)

  with (
    shown.bar,
    lock.hold(workdir),
    concurrent.futures.ThreadPoolExecutor(len(available)) as pool,
  ):
    try:
      codes = list(pool.map(train_one, left))
    except KeyboardInterrupt:
      signals.exiting()
      progress.write(
        "mixaug_jax: Ctrl-C: the runs save and end; another Ctrl-C leaves at "
        "once"
      )
      children.stop()
      pool.shutdown(cancel_futures=True)
      raise Interrupted(
        "stopped by Ctrl-C; the same command goes on from there", signal.SIGINT
      ) from None
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  return [cell for cell, code in zip(left, codes, strict=True) if code]


def only(command: Sequence[str], cell: Cell) -> list[str]:
  """Returns the words after `python` that train one cell of a comparison."""
  return [*command, f"--only={cell.name}"]


def check_finished(comparison: Comparison, failed: Sequence[Cell]) -> None:
  """Raises UserError if there is nothing to compare.

  Args:
    comparison: what was planned.
    failed: the runs that failed, as `run` returns them.
  """
  if not comparison.cells:
    raise UserError(f"no recipe is chosen yet: {comparison.waiting}")
  if len(comparison.unfinished) == len(comparison.cells):
    raise UserError(
      f"no run in {comparison.workdir} is finished, so there is nothing to "
      "compare" + (f"; see {failed[0].log}" if failed else "")
    )


class _Children:
  """The running processes; each ends when its standard input closes.

  Attributes:
    over: whether no cell is to start any more.
  """

  def __init__(self) -> None:
    self.over = False
    self._inputs: list[IO[bytes]] = []

  def add(self, standard_input: IO[bytes]) -> None:
    self._inputs.append(standard_input)
    if self.over:  # `stop` did not see it.
      standard_input.close()

  def stop(self) -> None:
    """Makes all of them save and end."""
    self.over = True
    for standard_input in self._inputs:
      standard_input.close()


def _run_cell(
  cell: Cell,
  command: Sequence[str],
  environment: dict[str, str],
  children: _Children,
) -> int:
  """Runs a cell to its end; returns its exit code."""
  _wait_for_lock(cell, children)
  cell.workdir.parent.mkdir(parents=True, exist_ok=True)
  files.refuse_link(cell.log)
  with open(cell.log, "w", encoding="utf-8") as output:
    # The pipe closes when this process ends, also when it is killed.
    process = subprocess.Popen(
      [sys.executable, *only(command, cell), "--until_stdin_closes"],
      stdin=subprocess.PIPE,
      stdout=output,
      stderr=subprocess.STDOUT,
      # The log is UTF-8, whatever the terminal of this process has.
      env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )
    assert process.stdin is not None  # It is a pipe.
    children.add(process.stdin)
    with contextlib.closing(process.stdin):
      return process.wait()


def _wait_for_lock(cell: Cell, children: _Children) -> None:
  """Waits while a process of a killed comparison saves this run."""
  end = time.monotonic() + _WAIT_SECONDS
  while cell.workdir.is_dir() and time.monotonic() < end:
    if children.over:
      return
    try:
      with lock.hold(cell.workdir):
        return
    except UserError:
      time.sleep(0.2)


def places(jobs: int | None) -> list[dict[str, str]]:
  """Returns the environment of each run that is trained at the same time.

  Raises:
    UserError: there are fewer GPUs than jobs.
  """
  if jobs is not None and jobs < 1:
    raise UserError(f"jobs must be at least 1, got {jobs}")
  # Another process looks, because this one must not take the GPUs' memory.
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
  gpus = [{_DEVICES: name} for name in names]
  if jobs and jobs > len(gpus):
    raise UserError(
      f"there are {len(gpus)} GPUs for {jobs} jobs; ask for fewer"
    )
  return gpus[:jobs]


class _Progress:
  """A bar of the runs, and a line for each that ends, with the time left."""

  def __init__(self, count: int, jobs: int, later: int):
    self._count, self._jobs, self._later = count, jobs, later
    self._running: list[str] = []
    self._seconds: list[float] = []
    self._lock = threading.Lock()
    self.bar = progress.Bar(count, self._shown)

  def _shown(self) -> Sequence[str]:
    return [", ".join(self._running), f"{len(self._running)} running"]

  def started(self, cell: Cell) -> None:
    with self._lock:
      self._running.append(cell.name)
      self.bar.refresh()

  def ended(self, cell: Cell, code: int, stopped: bool, seconds: float) -> None:
    with self._lock:
      self._running.remove(cell.name)
      self._seconds.append(seconds)
      done = len(self._seconds)
      if stopped:
        what = _failure(cell)
      elif code and cell.diverged is not None:
        what = f"diverged: {_failure(cell)}"
      elif code:
        what = f"failed with {code}: {_failure(cell)} ({cell.log})"
      else:
        what = _outcome(cell)
      waiting = self._count - done + self._later
      left = waiting * sum(self._seconds) / done / self._jobs
      progress.write(
        f"[{done}/{self._count}] {cell.name}: {what}; {seconds:.0f} s"
        + (f", about {duration(left)} left" if waiting else ""),
        sys.stdout,
      )
      sys.stdout.flush()
      self.bar.update()


def _outcome(cell: Cell) -> str:
  result = open_run(cell.workdir).result
  split = "test" if result.test else "validation"
  measured = result.test or result.validation.last
  return f"{split} {measured.accuracy:.2%}"


def _failure(cell: Cell) -> str:
  return last_line(cell.log.read_text("utf-8", "replace"))


def last_line(printed: str) -> str:
  """Returns the last line of a failed process, which states the mistake."""
  lines = printed.strip().splitlines() or ["it printed nothing"]
  return lines[-1].removeprefix("mixaug_jax: ")


def run_all(
  comparison: Comparison,
  plan_again: Callable[[], Comparison],
  choose: Callable[[Comparison], None],
  command: Sequence[str],
  jobs: int | None = None,
) -> tuple[Comparison, list[Cell]]:
  """Trains the trials, has the recipes chosen, and trains the runs.

  Args:
    comparison: what was planned.
    plan_again: plans the comparison again, once the recipes are chosen.
    choose: chooses the recipes of a comparison whose trials are finished.
    command: as in `run`.
    jobs: as in `run`.

  Returns:
    The comparison with all its runs, and the runs that failed. If a trial
    failed, they are trials, and no recipe is chosen.

  Raises:
    UserError, Interrupted: see `run`.
  """
  if comparison.unfinished_trials:
    later = len(comparison.arms) * comparison.seeds - len(comparison.cells)
    failed = run(comparison, comparison.trials, command, jobs, later)
    if failed := [cell for cell in failed if cell.diverged is None]:
      progress.write(
        f"mixaug_jax: {len(failed)} of {len(comparison.trials)} trials failed, "
        f"so no recipe is chosen; see {failed[0].log}, and repeat the command "
        "to train them again"
      )
      return comparison, failed
  comparison = settled(comparison, plan_again, choose)
  return comparison, run(comparison, comparison.cells, command, jobs)


def settled(
  comparison: Comparison,
  plan_again: Callable[[], Comparison],
  choose: Callable[[Comparison], None],
) -> Comparison:
  """Has the recipes chosen, if all trials are over and they are not yet.

  Args:
    comparison: what was planned.
    plan_again: see `run_all`.
    choose: see `run_all`.

  Returns:
    The comparison with the runs of the recipes that are chosen.
  """
  waiting = comparison.arms.keys() - comparison.choices.keys()
  if not comparison.trials or comparison.unfinished_trials or not waiting:
    return comparison
  choose(comparison)
  return plan_again()
