"""Trains the cells of a comparison, each in a separate process.

A run that dies, for example because memory is short, must not end the others,
unless none of them can succeed.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

from mixaug_jax import data, files, progress, signals
from mixaug_jax.comparison.executors import Executor
from mixaug_jax.comparison.executors.executor import STOPPED
from mixaug_jax.comparison.plan import Cell, Comparison
from mixaug_jax.durations import duration
from mixaug_jax.errors import Interrupted, UserError, disk_is_full
from mixaug_jax.runs import open_run
from mixaug_jax.training import lock


def run(
  comparison: Comparison,
  cells: Sequence[Cell],
  command: Sequence[str],
  executor: Executor,
  later: int = 0,
) -> list[Cell]:
  """Trains the cells that are not finished, in several processes at a time.

  Args:
    comparison: what was planned.
    cells: its trials, or its runs.
    command: the words after `python` that run the comparison.
    executor: trains them.
    later: the number of cells that are to be trained after these, for the
      time that is left.

  Returns:
    The cells that failed.

  Raises:
    UserError: the directory is in use or cannot be written, the executor
      refuses, the config that all arms share cannot run, or the disk is full.
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
  _print(
    f"{len(cells)} {kind}s: {len(comparison.arms)} arms, {seeds} {group}; "
    f"{len(cells) - len(left) - len(diverged)} finished already"
    + (f", {len(diverged)} diverged" if diverged else "")
  )
  if not left:
    return []
  # All runs have the same data. `experiment.check` would take the GPUs' memory.
  data.check(left[0].config.data)
  files.make_folder("--workdir", workdir)
  at_once = executor.at_once(len(left))
  shown = _Progress(comparison, executor, len(left), at_once, later)
  with shown.bar, lock.hold(workdir):
    try:
      executor.train(workdir, left, command, shown)
    except KeyboardInterrupt:
      signals.exiting()
      progress.write(
        "mixaug_jax: Ctrl-C: the runs save and end; another Ctrl-C leaves at "
        "once"
      )
      executor.stop()
      raise Interrupted(
        "stopped by Ctrl-C; the same command goes on from there", signal.SIGINT
      ) from None
    except BaseException:
      executor.stop()
      raise
  return [cell for cell in left if shown.codes.get(cell.name)]


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


class _Progress:
  """A bar of the runs, and a line for each that ends, with the time left.

  Attributes:
    codes: the exit codes of the runs that have ended, by name.
  """

  def __init__(
    self,
    comparison: Comparison,
    executor: Executor,
    count: int,
    at_once: int,
    later: int,
  ):
    self._comparison, self._executor = comparison, executor
    self._count, self._at_once, self._later = count, at_once, later
    self._begun: dict[str, float] = {}  # The runs that run.
    self._seconds: list[float] = []
    self._lock = threading.Lock()
    self.codes: dict[str, int] = {}
    self.bar = progress.Bar(count, self._shown)

  def _shown(self) -> Sequence[str]:
    return [", ".join(self._begun), f"{len(self._begun)} running"]

  def started(self, cell: Cell) -> None:
    with self._lock:
      self._begun[cell.name] = time.monotonic()
      self.bar.refresh()

  def requeued(self, cell: Cell) -> None:
    with self._lock:
      self._begun.pop(cell.name, None)
      _print(f"{cell.name}: stopped by the cluster, waits to be resumed")
      self.bar.refresh()

  def ended(self, cell: Cell, code: int) -> None:
    """Raises UserError if no further run can succeed."""
    with self._lock:
      seconds = time.monotonic() - self._begun.pop(cell.name, time.monotonic())
      self.codes[cell.name] = code
      self._seconds.append(seconds)
      done = len(self._seconds)
      waiting = self._count - done + self._later
      left = waiting * sum(self._seconds) / done / self._at_once
      _print(
        f"[{done}/{self._count}] {cell.name}: {self._what(cell, code)}; "
        f"{seconds:.0f} s"
        + (f", about {duration(left)} left" if waiting else "")
      )
      self.bar.update()
      mistake = code == UserError.code and not self._executor.over
      if mistake and (self._shared(cell) or disk_is_full(_failure(cell))):
        self._executor.over = True
        raise UserError(_failure(cell))

  def _shared(self, cell: Cell) -> bool:
    """Returns whether the mistake of a cell may be in the config of all arms.

    A trial may have wrong values of its own. Once a cell of the baseline is
    over, this config can run, and the machine failed: memory was short.
    """
    planned = (*self._comparison.trials, *self._comparison.cells)
    baseline = [x for x in planned if x.arm == self._comparison.baseline]
    if cell not in baseline or (cell.trial and cell.trial.values):
      return False
    return not any(x.finished or x.diverged is not None for x in baseline)

  def _what(self, cell: Cell, code: int) -> str:
    if not code:
      return _outcome(cell)
    stopped = code in STOPPED and self._executor.over
    if stopped or code == signals.CTRL_C_CODE:
      return _failure(cell)
    if cell.diverged is not None:
      return f"diverged: {_failure(cell)}"
    return f"failed with {code}: {_failure(cell)} ({cell.log})"


def _print(line: str) -> None:
  progress.write(line, sys.stdout)
  sys.stdout.flush()


def _outcome(cell: Cell) -> str:
  result = open_run(cell.workdir).result
  split = "test" if result.test else "validation"
  measured = result.test or result.validation.last
  return f"{split} {measured.score:.2%}"


def _failure(cell: Cell) -> str:
  try:
    printed = cell.log.read_text("utf-8", "replace")
  except FileNotFoundError:  # A cluster has ended it before it started.
    printed = ""
  return last_line(printed)


def last_line(printed: str) -> str:
  """Returns the last line of a failed process, which states the mistake."""
  lines = printed.strip().splitlines() or ["it printed nothing"]
  return lines[-1].removeprefix("mixaug_jax: ")


def run_all(
  comparison: Comparison,
  plan_again: Callable[[], Comparison],
  choose: Callable[[Comparison], None],
  command: Sequence[str],
  executor: Executor,
) -> tuple[Comparison, list[Cell]]:
  """Trains the trials, has the recipes chosen, and trains the runs.

  Args:
    comparison: what was planned.
    plan_again: plans the comparison again, once the recipes are chosen.
    choose: chooses the recipes of a comparison whose trials are finished.
    command: as in `run`.
    executor: as in `run`.

  Returns:
    The comparison with all its runs, and the runs that failed. If a trial
    failed, they are trials, and no recipe is chosen.

  Raises:
    UserError, Interrupted: see `run`.
  """
  if comparison.unfinished_trials:
    later = len(comparison.arms) * comparison.seeds - len(comparison.cells)
    failed = run(comparison, comparison.trials, command, executor, later)
    if failed := [cell for cell in failed if cell.diverged is None]:
      progress.write(
        f"mixaug_jax: {len(failed)} of {len(comparison.trials)} trials failed, "
        f"so no recipe is chosen; see {failed[0].log}, and repeat the command "
        "to train them again"
      )
      return comparison, failed
  comparison = settled(comparison, plan_again, choose)
  return comparison, run(comparison, comparison.cells, command, executor)


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
