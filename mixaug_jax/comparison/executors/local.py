"""Trains cells in child processes of this one."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import pathlib
import queue
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from mixaug_jax import files
from mixaug_jax.comparison.executors.executor import Executor, Watcher, only
from mixaug_jax.comparison.plan import Cell
from mixaug_jax.errors import UserError
from mixaug_jax.training import lock

# Seconds for a run whose comparison was killed to save and release its lock.
_WAIT_SECONDS = 60.0
_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclasses.dataclass
class Local(Executor):
  """Trains cells in child processes, which end with this one.

  JAX gives accelerators to processes, so each cell has a GPU of its own.

  Attributes:
    jobs: the number of cells at the same time; None: one for each GPU, or one
      on a CPU.
  """

  jobs: int | None = None

  def __post_init__(self) -> None:
    self._inputs: list[IO[bytes]] = []
    self._pool: concurrent.futures.ThreadPoolExecutor | None = None

  @functools.cached_property
  def places(self) -> list[dict[str, str]]:
    """The environment of each cell that is trained at the same time."""
    return places(self.jobs)

  @property
  def shares_cpu(self) -> bool:  # type: ignore[override]
    return not any(self.places)

  def at_once(self, count: int) -> int:
    return len(self.places)

  def train(
    self,
    workdir: pathlib.Path,
    cells: Sequence[Cell],
    command: Sequence[str],
    watcher: Watcher,
  ) -> None:
    environments: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for place in self.places:
      environments.put(place)

    def train_one(cell: Cell) -> None:
      environment = environments.get()
      try:
        if not self.over:
          watcher.started(cell)
          watcher.ended(cell, self._run(cell, command, environment))
      finally:
        environments.put(environment)

    self._pool = concurrent.futures.ThreadPoolExecutor(len(self.places))
    trained = [self._pool.submit(train_one, cell) for cell in cells]
    for each in concurrent.futures.as_completed(trained):
      each.result()  # It raises what the watcher raised.
    self._pool.shutdown()

  def stop(self) -> None:
    self.over = True
    for standard_input in self._inputs:
      standard_input.close()
    if self._pool:
      self._pool.shutdown(cancel_futures=True)

  def _run(
    self, cell: Cell, command: Sequence[str], environment: dict[str, str]
  ) -> int:
    """Runs a cell to its end; returns its exit code."""
    self._wait_for_lock(cell)
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
      self._inputs.append(process.stdin)
      if self.over:  # `stop` did not see it.
        process.stdin.close()
      with contextlib.closing(process.stdin):
        return process.wait()

  def _wait_for_lock(self, cell: Cell) -> None:
    """Waits while a process of a killed comparison saves this run."""
    end = time.monotonic() + _WAIT_SECONDS
    while cell.workdir.is_dir() and time.monotonic() < end:
      if self.over:
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
