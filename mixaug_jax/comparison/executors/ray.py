"""Trains cells as tasks of a Ray cluster."""

import dataclasses
import functools
import logging
import os
import pathlib
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
  ) -> list[Any]:
    task = self._ray.remote(
      num_cpus=1, num_gpus=self.gpus, max_retries=_RETRIES
    )(_call)
    return [task.remote(Job(only(command, x), x.log)) for x in cells]

  def states(self, jobs: Sequence[Any]) -> list[State | int | None]:
    done, _ = self._ray.wait(list(jobs), num_returns=len(jobs), timeout=0)
    return [self._code(x) if x in done else State.RUNNING for x in jobs]

  def cancel(self, jobs: Sequence[Any]) -> None:
    for job in jobs:
      self._ray.cancel(job)

  def _code(self, job: Any) -> int:
    try:
      return self._ray.get(job)
    except self._ray.exceptions.RayError as error:
      if not self.over:
        progress.write(f"mixaug_jax: Ray lost a run: {first_line(error)}")
      return LOST


def _call(job: Job) -> int:
  return job()
