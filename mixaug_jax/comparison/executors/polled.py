"""Follows the jobs of a cluster by asking for their states."""

import abc
import dataclasses
import enum
import pathlib
import signal
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from mixaug_jax import signals
from mixaug_jax.comparison.executors.executor import Executor, Watcher
from mixaug_jax.comparison.plan import Cell

LOST = 137  # The exit code of a process that was killed.


class State(enum.Enum):
  """The state of a job that has not ended."""

  WAITING = "waiting"
  RUNNING = "running"


@dataclasses.dataclass
class _Followed:
  cell: Cell
  job: Any
  state: State = State.WAITING


class Polled(Executor):
  """An executor whose cells are jobs of a cluster.

  Attributes:
    seconds: between two looks at the states.
  """

  seconds: ClassVar[float] = 1.0

  @abc.abstractmethod
  def submit(
    self, workdir: pathlib.Path, cells: Sequence[Cell], command: Sequence[str]
  ) -> list[Any]:
    """Hands cells to the cluster; returns their jobs."""

  @abc.abstractmethod
  def states(self, jobs: Sequence[Any]) -> list[State | int | None]:
    """Returns the state of each job.

    It is the exit code of a job that has ended, and None if the cluster does
    not answer.
    """

  @abc.abstractmethod
  def cancel(self, jobs: Sequence[Any]) -> None:
    """Makes jobs save and end."""

  def train(
    self,
    workdir: pathlib.Path,
    cells: Sequence[Cell],
    command: Sequence[str],
    watcher: Watcher,
  ) -> None:
    self._live: list[_Followed] = []
    self._watcher = watcher
    with signals.ctrl_c_waits():  # Otherwise `stop` would not know the jobs.
      jobs = self.submit(workdir, cells, command)
      self._live = [_Followed(*x) for x in zip(cells, jobs, strict=True)]
    self._follow()

  def stop(self) -> None:
    self.over = True
    if self._live:
      self.cancel([each.job for each in self._live])
      self._follow()

  def _follow(self) -> None:
    """Reports what happens to the jobs until all of them have ended."""
    while True:
      states = self.states([each.job for each in self._live])
      for each, state in zip(list(self._live), states, strict=True):
        if state is not None and state is not each.state:
          self._report(each, state)
      if not self._live:
        return
      time.sleep(self.seconds)

  def _report(self, each: _Followed, state: State | int) -> None:
    was_waiting = each.state is State.WAITING
    if isinstance(state, int):
      self._live.remove(each)
      if was_waiting and self.over and state == LOST:
        return  # It never started.
      if was_waiting:  # It was too short to be seen.
        self._watcher.started(each.cell)
      if state == LOST and self.over:  # It was cancelled.
        state = 128 + signal.SIGTERM
      self._watcher.ended(each.cell, state)
    else:
      each.state = state
      if state is State.RUNNING:
        self._watcher.started(each.cell)
      else:
        self._watcher.requeued(each.cell)
