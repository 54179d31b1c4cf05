"""Trains cells as jobs of SLURM, through submitit."""

import dataclasses
import getpass
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mixaug_jax import files, progress
from mixaug_jax.comparison.executors.executor import STOPPED, only
from mixaug_jax.comparison.executors.job import Job
from mixaug_jax.comparison.executors.polled import LOST, Polled, State
from mixaug_jax.comparison.plan import Cell
from mixaug_jax.errors import UserError

if TYPE_CHECKING:
  import submitit

# The folder of the jobs' scripts and exit codes, in that of the comparison.
_FOLDER = "slurm"
_JOBS_FILE = "jobs.json"  # The jobs by the command that each one runs.
_MOST_TIMEOUTS = 20  # Of a cell, before it counts as failed.
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"}
_ENDED |= {"NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"}
_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "STOPPED"}
# Seconds for the exit code of a job to appear on this machine.
_FILE_SECONDS = 15.0


@dataclasses.dataclass
class Slurm(Polled):
  """Trains cells as the jobs of an array, each on one node.

  The nodes must see the files of this machine. A job that is preempted or
  reaches its time limit saves, returns to the queue, and resumes.

  Attributes:
    jobs: the most cells at the same time; None: all.
    gpus: the number of GPUs of a job.
    partition: the partition; None: the default of the cluster.
    time_limit: the minutes after which a job returns to the queue.
    sbatch: further options of sbatch, each `KEY=VALUE` or `KEY`.
  """

  jobs: int | None = None
  gpus: int = 1
  partition: str | None = None
  time_limit: int = 240
  sbatch: Sequence[str] = ()

  seconds: ClassVar[float] = 5.0

  def __post_init__(self) -> None:
    self._ended: dict[str, float] = {}  # By job, when its end was first seen.

  def at_once(self, count: int) -> int:
    return min(count, self.jobs or count)

  def script(
    self, workdir: pathlib.Path, cells: Sequence[Cell], command: Sequence[str]
  ) -> str:
    executor = self._executor(workdir / _FOLDER)
    if len(cells) > 1:
      executor.parameters["map_count"] = len(cells)
    words = executor._submitit_command_str
    return executor._make_submission_file_text(words, "").rstrip()

  def submit(
    self, workdir: pathlib.Path, cells: Sequence[Cell], command: Sequence[str]
  ) -> list[str]:
    """Returns the ids of the jobs.

    A comparison that was killed may have left jobs, which are not submitted
    again.
    """
    folder = workdir / _FOLDER
    executor = self._executor(folder)
    files.make_folder("--workdir", folder)
    wanted = [_Job(only(command, cell), cell.log, folder) for cell in cells]
    jobs = self._earlier(folder)
    new = [job for job in wanted if job.command not in jobs]
    for path in folder.glob("*.code"):  # Another cluster has the same ids.
      if path.stem not in jobs.values():
        path.unlink()
    if new:
      jobs |= self._submit(executor, new)
    with files.replacing(folder / _JOBS_FILE) as path:
      path.write_text(json.dumps(jobs, indent=2), "utf-8")
    self._folder = folder
    return [jobs[job.command] for job in wanted]

  def states(self, jobs: Sequence[str]) -> list[State | int | None]:
    queue = _queue()
    names = set(os.listdir(self._folder))
    return [self._state(job, queue, names) for job in jobs]

  def cancel(self, jobs: Sequence[str]) -> None:
    _call("scancel", *jobs)

  def _submit(
    self, executor: "submitit.SlurmExecutor", jobs: Sequence["_Job"]
  ) -> dict[str, str]:
    """Submits jobs as an array; returns their ids by their commands."""
    for job in jobs:
      job.hand_over()
    try:
      with executor.batch():
        submitted = [executor.submit(job) for job in jobs]
    except RuntimeError as error:  # sbatch has printed the reason.
      raise UserError(
        "sbatch refuses the jobs, see its error above; set --partition, "
        "--gpus, --time_limit and --sbatch as the cluster needs them"
      ) from error
    pairs = zip(jobs, submitted, strict=True)
    return {job.command: given.job_id for job, given in pairs}

  def _executor(self, folder: pathlib.Path) -> "submitit.SlurmExecutor":
    try:
      import submitit
    except ModuleNotFoundError:
      raise UserError(
        "--executor=slurm needs submitit: pip install 'mixaug_jax[slurm]'"
      ) from None
    try:
      executor = submitit.SlurmExecutor(folder, max_num_timeout=_MOST_TIMEOUTS)
    except RuntimeError:
      raise UserError(
        "--executor=slurm needs srun and sbatch; call the command on a machine "
        "of the cluster"
      ) from None
    further: dict[str, Any] = {"requeue": True}
    for option in self.sbatch:
      key, equals, value = option.partition("=")
      further[key] = value if equals else True
    executor.update_parameters(
      job_name=f"mixaug-{folder.parent.name}",
      time=self.time_limit,
      partition=self.partition,
      gpus_per_node=self.gpus or None,
      array_parallelism=self.jobs or sys.maxsize,
      stderr_to_stdout=True,
      # Since SLURM 22.05 srun takes the number of CPUs from this variable only.
      setup=['export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"'],
      additional_parameters=further,
    )
    return executor

  def _earlier(self, folder: pathlib.Path) -> dict[str, str]:
    """Returns the jobs of this comparison that are in the queue."""
    path = folder / _JOBS_FILE
    if not path.exists():
      return {}
    queue = _queue()
    if queue is None:
      raise UserError("squeue fails, so earlier jobs may be running; try later")
    jobs = json.loads(files.read_text(path))
    return {
      words: job
      for words, job in jobs.items()
      if queue.get(job, "COMPLETED") not in _ENDED
    }

  def _state(
    self, job: str, queue: Mapping[str, str] | None, names: set[str]
  ) -> State | int | None:
    if f"{job}.code" in names:
      return int(files.read_text(self._folder / f"{job}.code"))
    if queue is None:
      return None
    state = queue.get(job, "COMPLETED")  # SLURM forgets jobs after a while.
    if state not in _ENDED:
      self._ended.pop(job, None)
      return State.RUNNING if state in _RUNNING else State.WAITING
    since = self._ended.setdefault(job, time.monotonic())
    if state != "CANCELLED" and time.monotonic() - since < _FILE_SECONDS:
      return None
    if not self.over:
      progress.write(
        f"mixaug_jax: SLURM ended job {job} ({state}); see {self._folder}/"
        f"{job}_0_log.out"
      )
    return LOST


class _Job(Job):
  """A job of SLURM; see `Job`.

  Args:
    words, log: as in `Job`.
    folder: for the exit code.
  """

  def __init__(
    self, words: Sequence[str], log: pathlib.Path, folder: pathlib.Path
  ):
    super().__init__(words, log)
    self.command = shlex.join(words)
    self._results = folder.absolute()

  def __call__(self) -> int:
    """Raises SystemExit if SLURM stopped the cell and may requeue the job."""
    from submitit import JobEnvironment

    code = super().__call__()
    job = JobEnvironment().job_id
    if code in STOPPED:
      # SLURM does not requeue a job that ends in the grace period of its
      # preemption. A job that is cancelled or requeued runs no longer.
      if (_queue() or {}).get(job) == "RUNNING":
        _call("scontrol", "requeue", job)
      sys.exit(code)
    with files.replacing(self._results / f"{job}.code") as path:
      path.write_text(str(code), "utf-8")
    return code

  def checkpoint(self) -> Any:
    """Saves the cell; submitit calls this before the job is requeued."""
    from submitit.helpers import DelayedSubmission

    self.save()
    self._process = None  # It cannot be pickled.
    return DelayedSubmission(self)


def _queue() -> dict[str, str] | None:
  """Returns the states of the user's jobs; None if SLURM does not answer."""
  printed = _call(
    *("squeue", "--noheader", "--array", "--states=all"),
    *(f"--user={getpass.getuser()}", "--format=%i %T"),
  )
  if printed is None:
    return None
  return dict(line.split() for line in printed.splitlines())


def _call(*words: str) -> str | None:
  """Returns what a command printed, or None after an error, which it prints."""
  done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
  return None if done.returncode else done.stdout
