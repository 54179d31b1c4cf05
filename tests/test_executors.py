"""The executors of a comparison, and jobs that a cluster stops."""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest

from mixaug_jax.command import executor_flags
from mixaug_jax.comparison.executors import job, local, polled, ray, slurm
from mixaug_jax.comparison.executors.polled import LOST, State
from mixaug_jax.errors import UserError


def _executor(*words):
  parser = argparse.ArgumentParser(exit_on_error=False)
  executor_flags.add(parser)
  return executor_flags.executor(parser.parse_args(words))


def test_runs_are_trained_by_this_machine_unless_the_user_chose():
  assert _executor("--jobs=3") == local.Local(jobs=3)
  words = ["--executor=slurm", "--gpus=2", "--partition=a100", "--jobs=8"]
  words += ["--time_limit=90", "--sbatch=cpus-per-task=8", "--sbatch=exclusive"]
  assert _executor(*words) == slurm.Slurm(
    8, 2, "a100", 90, ["cpus-per-task=8", "exclusive"]
  )


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (["--gpus=2"], "--gpus has no meaning with --executor=local"),
    (
      ["--executor=slurm", "--ray_address=a:1"],
      "--ray_address has no meaning with --executor=slurm",
    ),
    (["--executor=slum"], "one of local, slurm, ray .*did you mean 'slurm'"),
  ],
)
def test_a_flag_of_another_executor_is_a_mistake(words, said):
  with pytest.raises(UserError, match=said):
    _executor(*words)


@pytest.mark.parametrize("word", ["--jobs=0", "--gpus=-1", "--time_limit=4"])
def test_a_number_that_makes_no_sense_is_a_mistake(word):
  with pytest.raises(argparse.ArgumentError, match="at least"):
    _executor("--executor=slurm", word)


@pytest.mark.parametrize("name", ["submitit", "ray"])
def test_an_extra_that_is_missing_is_named(name, monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, name, None)
  kind = {"submitit": "slurm", "ray": "ray"}[name]
  with pytest.raises(UserError, match=rf"pip install 'mixaug_jax\[{kind}\]'"):
    _executor(f"--executor={kind}").script(tmp_path, [], [])


def test_a_machine_without_slurm_is_refused(monkeypatch, tmp_path):
  pytest.importorskip("submitit")
  monkeypatch.setenv("PATH", str(tmp_path))
  with pytest.raises(UserError, match="needs srun and sbatch"):
    slurm.Slurm().script(tmp_path, [], [])


class _FakeRay:
  """Its tasks end as `codes` has them, and they are the jobs themselves."""

  def __init__(self):
    self.given, self.codes = [], {}

  def remote(self, **resources):
    give = lambda job: self.given.append(job) or job
    return lambda function: types.SimpleNamespace(remote=give)

  def wait(self, results, num_returns, timeout):
    return [x for x in results if x in self.codes], []

  def get(self, result):
    return self.codes[result]


def test_ray_gets_as_many_tasks_as_may_run_and_they_wait_until_they_start(
  tmp_path,
):
  executor = ray.Ray(jobs=2)
  executor._ray = cluster = _FakeRay()
  cells = [
    types.SimpleNamespace(name=x, log=tmp_path / f"{x}.log") for x in "abcd"
  ]
  cells[1].log.write_text("of an earlier try")
  tasks = executor.submit(tmp_path, cells, [])
  waiting, running = State.WAITING, State.RUNNING
  assert executor.states(tasks) == executor.states(tasks) == [waiting] * 4
  assert len(cluster.given) == 2
  cells[0].log.touch()
  assert executor.states(tasks) == [running, waiting, waiting, waiting]
  cluster.codes[cluster.given[1]] = 3
  assert executor.states(tasks) == [running, 3, waiting, waiting]
  assert len(cluster.given) == 3
  assert executor.states([tasks[0], *tasks[2:]])[1:] == [waiting, waiting]
  assert len(cluster.given) == 3


@dataclasses.dataclass
class _Told(polled.Polled):
  """A cluster whose states are `looks`, one after the other."""

  looks: list

  seconds = 0.0

  def __post_init__(self):
    self.cancelled = []

  def at_once(self, count):
    return count

  def submit(self, workdir, cells, command):
    return list(cells)

  def states(self, jobs):
    look = self.looks.pop(0)
    if isinstance(look, BaseException):
      raise look
    return [look[job] for job in jobs]

  def cancel(self, jobs):
    self.cancelled += jobs


@dataclasses.dataclass
class _Seen:
  events: list = dataclasses.field(default_factory=list)

  def started(self, cell):
    self.events.append(f"{cell} started")

  def requeued(self, cell):
    self.events.append(f"{cell} requeued")

  def ended(self, cell, code):
    self.events.append(f"{cell} ended {code}")


def test_jobs_are_followed_from_the_queue_to_their_ends():
  waiting, running = State.WAITING, State.RUNNING
  cluster = _Told(
    [
      {"a": waiting, "b": waiting, "c": None},
      {"a": running, "b": 0, "c": waiting},  # b was too short to be seen.
      {"a": waiting, "c": waiting},
      {"a": running, "c": LOST},
      {"a": None},  # The cluster does not answer.
      {"a": 1},
    ]
  )
  cluster.train(pathlib.Path(), "abc", [], seen := _Seen())
  assert seen.events == [
    *("a started", "b started", "b ended 0", "a requeued"),
    *("a started", "c started", f"c ended {LOST}", "a ended 1"),
  ]


def test_jobs_are_cancelled_and_those_that_ran_are_reported():
  waiting, running = State.WAITING, State.RUNNING
  cluster = _Told(
    [
      {"a": running, "b": waiting, "c": running},
      KeyboardInterrupt(),
      {"a": running, "b": LOST, "c": 0},
      {"a": LOST},
    ]
  )
  with pytest.raises(KeyboardInterrupt):
    cluster.train(pathlib.Path(), "abc", [], seen := _Seen())
  cluster.stop()
  assert cluster.cancelled == ["a", "b", "c"]
  assert seen.events == [
    *("a started", "c started", "c ended 0"),
    f"a ended {128 + signal.SIGTERM}",
  ]


def test_ctrl_c_waits_until_the_jobs_are_known(monkeypatch):
  cluster, done = _Told([{"a": LOST}]), []

  def submit(*_):
    os.kill(os.getpid(), signal.SIGINT)
    # A terminal sends it to the programs of the command, too.
    program = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    done.append(subprocess.run([sys.executable, "-c", program]).returncode)
    return ["a"]

  monkeypatch.setattr(cluster, "submit", submit)
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with pytest.raises(KeyboardInterrupt):
      cluster.train(pathlib.Path(), "a", [], _Seen())
  finally:
    signal.signal(signal.SIGINT, before)
  assert done == [0]
  cluster.stop()
  assert cluster.cancelled == ["a"]


def test_a_cluster_is_used_in_any_thread():
  cluster = _Told([{"a": 0}])
  with concurrent.futures.ThreadPoolExecutor() as pool:
    call = (pathlib.Path(), "a", [], seen := _Seen())
    pool.submit(cluster.train, *call).result()
  assert seen.events == ["a started", "a ended 0"]


@pytest.mark.parametrize(
  ("program", "code"),
  [
    ("import sys; print('done'); sys.exit(3)", 3),
    ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL),
    # SLURM sends it to all processes of a job before its time limit.
    ("import os, signal; os.kill(os.getpid(), signal.SIGUSR2)", 0),
  ],
)
def test_a_job_returns_the_exit_code_of_its_cell(program, code, tmp_path):
  log = tmp_path / "arm" / "seed_0.log"
  assert job.Job(["-c", program], log)() == code
  assert log.read_text("utf-8") == ("done\n" if code == 3 else "")


class _Pressed(job.Job):
  """Ctrl-C comes once when the cell has printed something."""

  pressed = False

  def _wait(self):
    if not self.pressed:
      self.pressed = True
      while not self._log.read_text():
        time.sleep(0.1)
      raise KeyboardInterrupt
    return super()._wait()


def test_a_job_that_is_interrupted_waits_until_its_cell_is_saved(tmp_path):
  program = (
    "import os, signal, time\n"
    "def save(*_):\n"
    "  time.sleep(0.5)\n"
    "  print('saved', flush=True)\n"
    "  os._exit(143)\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)"
  )
  with pytest.raises(KeyboardInterrupt):
    _Pressed(["-c", program], tmp_path / "log")()
  assert (tmp_path / "log").read_text() == "ready\nsaved\n"
