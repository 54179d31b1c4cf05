"""A comparison under SLURM: a real one, of one node."""

import os
import pathlib
import subprocess
import sys
import threading
import time
import types

import pytest
import slurm_node

from mixaug_jax.comparison.executors import slurm
from mixaug_jax.errors import UserError

pytest.importorskip("submitit")
pytestmark = pytest.mark.skipif(
  not slurm_node.INSTALLED, reason="SLURM and munge are not installed"
)

ROOT = pathlib.Path(__file__).parent.parent
_SECONDS = 600.0  # After which something hangs, on any machine.
_RECIPE = """
from ml_collections import ConfigDict
from configs import default


def get_config(dataset="digits"):
  config = ConfigDict()
  config.base = default.get_config(dataset)
  config.base.steps = 600
  config.base.evaluate.every_epochs = 1000
  config.base.log.every_steps = 5
  config.baseline, config.goal, config.seeds = "none", 0.05, 1
  config.arms = ConfigDict({"none": {}, "cut": {"steps": 9}})
  return config
"""


@pytest.fixture(autouse=True, scope="module")
def node():
  with slurm_node.running():
    yield


def _wait(what):
  end = time.monotonic() + _SECONDS
  while not what():
    assert time.monotonic() < end, "it hangs"
    time.sleep(0.1)


def _printed(path):
  return path.read_text("utf-8") if path.exists() else ""


def _job(state):
  """The id of the first job in a state, or None."""
  queue = slurm._queue() or {}
  return next((job for job, each in queue.items() if each == state), None)


def _resume(job):
  """Waits until a job is in the queue again, and makes SLURM start it.

  SLURM itself would do so after two minutes. A node refuses a job in the second
  in which it ended the earlier start.
  """
  _wait(lambda: (slurm._queue() or {}).get(job) == "PENDING")
  time.sleep(2)
  words = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
  subprocess.run(words, check=True)


def test_a_comparison_is_trained_to_the_page_although_its_jobs_stop(tmp_path):
  (tmp_path / "small.py").write_text(_RECIPE)
  runs = tmp_path / "runs"
  words = ["-m", "mixaug_jax.compare", str(tmp_path / "small.py")]
  words += [f"--workdir={runs}", "--executor=slurm", "--gpus=0", "--jobs=1"]
  driver = subprocess.Popen(
    [sys.executable, *words],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  log = runs / "none" / "seed_0.log"
  _wait(lambda: "\nstep" in _printed(log))
  job = _job("RUNNING")
  # SLURM sends it before the time limit.
  subprocess.run(["scancel", "--signal=USR2", job], check=True)
  _resume(job)
  printed, _ = driver.communicate(timeout=_SECONDS)
  assert driver.returncode == 0, printed
  assert "none/0: stopped by the cluster, waits to be resumed" in printed
  assert "none/0: test" in printed
  assert "cut/0: test" in printed
  assert "resuming from step" in _printed(log)
  assert (runs / "report.html").exists()


@pytest.fixture
def cells(tmp_path, monkeypatch):
  """Two cells of which nothing but the names and the files are used."""
  monkeypatch.setattr(slurm.Slurm, "seconds", 0.5)
  return [
    types.SimpleNamespace(name=name, log=tmp_path / f"{name}.log")
    for name in ("a", "b")
  ]


class _Seen(dict):
  """The exit codes by the names of the cells."""

  def started(self, cell):
    self[cell.name] = None

  def requeued(self, cell):
    self[cell.name] = "requeued"

  def ended(self, cell, code):
    self[cell.name] = code


def test_cells_give_their_exit_codes_and_a_lost_one_is_reported(
  cells, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(slurm, "_FILE_SECONDS", 0.5)
  program = (
    "import os, sys\n"
    "os.kill(os.getppid(), 9) if '--only=b' in sys.argv else sys.exit(3)"
  )
  (tmp_path / "slurm").mkdir()
  for number in range(99):  # Of another cluster, which had the same ids.
    (tmp_path / "slurm" / f"{number}_0.code").write_text("0")
  executor = slurm.Slurm(gpus=0)
  executor.train(tmp_path, cells, ["-c", program], seen := _Seen())
  assert seen == {"a": 3, "b": 137}
  assert "SLURM ended job" in capsys.readouterr().err


@pytest.mark.parametrize("how", [["requeue"], ["--signal=TERM"]])
def test_a_preempted_job_is_requeued(how, cells, tmp_path):
  """Both at once and in a grace period, in which SLURM only signals."""
  program = (
    "import os, pathlib, signal, sys, time\n"
    f"file = pathlib.Path({str(tmp_path / 'again')!r})\n"
    "if file.exists(): sys.exit(0)\n"
    "file.touch()\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(143))\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)"
  )

  def preempt():
    _wait(lambda: "ready" in _printed(cells[0].log))
    job = _job("RUNNING")
    program = "scontrol" if how == ["requeue"] else "scancel"
    subprocess.run([program, *how, job], check=True)
    _resume(job)

  thread = threading.Thread(target=preempt)
  thread.start()
  slurm.Slurm(gpus=0).train(
    tmp_path, cells[:1], ["-c", program], seen := _Seen()
  )
  thread.join()
  assert seen == {"a": 0}


def test_jobs_are_cancelled_and_save_and_none_is_submitted_twice(
  cells, tmp_path, monkeypatch
):
  program = (
    "import os, signal, time\n"
    "def save(*_):\n"
    "  print('saved', flush=True)\n"
    "  os._exit(143)\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)"
  )
  executor = slurm.Slurm(gpus=0, jobs=1)
  command = ["-c", program]
  cells[1].log.write_text("of an earlier try")
  jobs = executor.submit(tmp_path, cells, command)
  # A comparison that was killed left them.
  assert slurm.Slurm(gpus=0).submit(tmp_path, cells, command) == jobs
  log, look = cells[0].log, executor.states

  def states(jobs):
    if not executor.over:
      _wait(lambda: "ready" in _printed(log))
      raise KeyboardInterrupt
    return look(jobs)

  monkeypatch.setattr(executor, "states", states)
  with pytest.raises(KeyboardInterrupt):
    executor.train(tmp_path, cells, command, seen := _Seen())
  executor.stop()
  assert seen == {"a": 143}
  assert _printed(log) == "ready\nsaved\n"
  assert not cells[1].log.exists()  # It never started.
  assert not slurm._queue().keys() - _over()
  assert slurm.Slurm(gpus=0).submit(tmp_path, cells, ["-c", ""]) != jobs


def _over():
  queue = slurm._queue()
  return {job for job in queue if queue[job] in slurm._ENDED}


def test_a_partition_that_does_not_exist_is_a_mistake(cells, tmp_path, capfd):
  executor = slurm.Slurm(gpus=0, partition="nowhere")
  with pytest.raises(UserError, match=r"sbatch refuses the jobs.*--partition"):
    executor.submit(tmp_path, cells, [])
  assert "invalid partition" in capfd.readouterr().err


def test_the_script_has_what_the_user_asked_for(cells, tmp_path):
  executor = slurm.Slurm(3, 2, "a100", 90, ["cpus-per-task=8", "exclusive"])
  script = executor.script(tmp_path, cells, [])
  for option in (
    *("array=0-1%2", "gpus-per-node=2", "partition=a100", "time=90"),
    *("cpus-per-task=8", "exclusive", "requeue", "signal=USR2@90"),
  ):
    assert f"#SBATCH --{option}\n" in script
