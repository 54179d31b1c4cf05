"""Trains cells as tasks of a Ray cluster."""

import dataclasses
import functools
import logging
import os
import pathlib
import signal
import socket
import urllib.parse
from collections.abc import Sequence
from typing import Any

from mixaug_jax import progress
from mixaug_jax.comparison.executors.executor import only
from mixaug_jax.comparison.executors.job import Job
from mixaug_jax.comparison.executors.polled import LOST, Polled, State
from mixaug_jax.comparison.plan import Cell
from mixaug_jax.errors import UserError, first_line

_RETRIES = 20  # Of a cell whose machine is lost.
_CONNECT_SECONDS = 10.0


@dataclasses.dataclass
class Ray(Polled):
  """Trains cells as tasks of a Ray cluster whose machines share their files.

  Ray repeats the task of a machine that is lost, and the run resumes.

  Attributes:
    jobs: the most cells at the same time; None: as many as the GPUs suffice
      for, or the CPUs if `gpus` is 0.
    gpus: the number of GPUs of a cell.
    ray_address: of the cluster, as `ray.init` takes it.
  """

  jobs: int | None = None
  gpus: int = 1
  ray_address: str = "auto"

  @functools.cached_property
  def _ray(self) -> Any:
    try:
      import ray
    except ModuleNotFoundError:
      raise UserError(
        "--executor=ray needs Ray: pip install 'mixaug_jax[ray]'"
      ) from None
    paths = os.environ.get("PYTHONPATH", "")
    place = urllib.parse.urlsplit("//" + self.ray_address.rpartition("/")[2])
    try:
      if place.hostname and place.port:  # Ray itself would try for minutes.
        to = (place.hostname, place.port)
        socket.create_connection(to, _CONNECT_SECONDS).close()
      ray.init(
        self.ray_address,
        log_to_driver=False,
        logging_level=logging.WARNING,
        ignore_reinit_error=True,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
      )
    except (OSError, ValueError, RuntimeError) as error:
      raise UserError(
        f"--ray_address={self.ray_address} is no running Ray cluster: "
        f"{first_line(error)}"
      ) from error
    return ray

  def at_once(self, count: int) -> int:
    resources = self._ray.cluster_resources()
    room = resources.get("GPU" if self.gpus else "CPU", 0) // (self.gpus or 1)
    if not room:
      raise UserError(
        f"the Ray cluster has {resources.get('GPU', 0):.0f} GPUs and a run "
        f"needs {self.gpus}; set --gpus"
      )
    return min(count, int(room), self.jobs or count)

  def script(
    self, workdir: pathlib.Path, cells: Sequence[Cell], command: Sequence[str]
  ) -> str:
    return (
      f"{len(cells)} tasks of {self.gpus} GPUs on the Ray cluster "
      f"{self.ray_address}, {self.at_once(len(cells))} at a time"
    )

  def submit(
    self, workdir: pathlib.Path, cells: Sequence[Cell], command: Sequence[str]
  ) -> list["_Task"]:
    """Returns the tasks; `states` hands them to Ray, `self.jobs` at a time."""
    return [_Task(Job(only(command, cell), cell.log)) for cell in cells]

  def states(self, jobs: Sequence["_Task"]) -> list[State | int | None]:
    given = [task for task in jobs if task.result]
    results = [task.result for task in given]
    done, _ = self._ray.wait(results, num_returns=len(given), timeout=0)
    for task in given:
      if task.result in done:
        task.state = self._code(task)
      elif task.job.started:
        task.state = State.RUNNING
    here = [x for x in jobs if not x.result and x.state is State.WAITING]
    there = sum(isinstance(task.state, State) for task in given)
    for task in here[: (self.jobs or len(jobs)) - there]:
      task.job.hand_over()
      task.result = self._remote.remote(task.job)
    return [task.state for task in jobs]

  def cancel(self, jobs: Sequence["_Task"]) -> None:
    # Those that wait come first, or they would start as the others end.
    for task in reversed(jobs):
      if task.result:
        self._ray.cancel(task.result)
      else:
        task.state = LOST

  @functools.cached_property
  def _remote(self) -> Any:
    return self._ray.remote(
      num_cpus=1, num_gpus=self.gpus, max_retries=_RETRIES
    )(_call)

  def _code(self, task: "_Task") -> int:
    try:
      return self._ray.get(task.result)
    except self._ray.exceptions.RayError as error:
      if self.over and task.job.started:  # It was cancelled.
        return 128 + signal.SIGTERM
      if not self.over:
        progress.write(f"mixaug_jax: Ray lost a run: {first_line(error)}")
      return LOST


@dataclasses.dataclass
class _Task:
  """A cell as a task of Ray.

  Attributes:
    job: trains the cell.
    result: the exit code to come; None before Ray has the task.
    state: the last that is known.
  """

  job: Job
  result: Any = None
  state: State | int = State.WAITING


def _call(job: Job) -> int:
  # Ray cancels by an interrupt, which has no effect in a cluster that a shell
  # started in the background.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  return job()
