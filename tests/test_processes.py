"""Several processes on loopback give what one process gives."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
EXTRA = (
  "--config.steps=12",
  "--config.batch_size=48",
  # Rounding differs between the runs, and a high rate makes much of it.
  "--config.optimizer.learning_rate=0.02",
  "--config.evaluate.batch_size=252",
  "--config.evaluate.every_epochs=4",
  "--config.log.every_steps=4",
  "--config.checkpoint.every_steps=6",
  "--config.checkpoint.keep=9",
)


def _start(workdir, devices, processes=1, extra=()):
  """Starts the processes of a run, each with so many devices."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  env = dict(
    os.environ,
    XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
  )
  argv = [sys.executable, "-m", "mixaug_jax.main", *EXTRA, *extra]
  argv += ["--config=configs/cutmix.py", f"--workdir={workdir}"]
  several = lambda i: [
    f"--coordinator_address={address}",
    f"--num_processes={processes}",
    f"--process_id={i}",
  ]
  return [
    subprocess.Popen(
      argv + (several(i) if processes > 1 else []),
      env=env,
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]


def _run(*args, **options):
  outputs = []
  for process in _start(*args, **options):
    outputs.append(process.communicate(timeout=300))
    assert process.returncode == 0, outputs[-1][1]
  return outputs


def _logits(workdir):
  with np.load(workdir / "predictions_test.npz") as file:
    return file["logits"]


def _rows(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("one") / "run"
  _run(workdir, devices=4)
  return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("two") / "run"
  return workdir, _run(workdir, devices=2, processes=2)


def _assert_close(workdir, other):
  np.testing.assert_allclose(_logits(workdir), _logits(other), atol=2e-3)
  for a, b in zip(_rows(workdir), _rows(other), strict=True):
    assert (a["step"], a["split"]) == (b["step"], b["split"])
    for name in a.keys() - {"step", "split", "images_per_second"}:
      assert a[name] == pytest.approx(b[name], rel=1e-3, abs=2e-3), name


def test_two_processes_of_two_devices_equal_one_of_four(one, two):
  workdir, outputs = two
  _assert_close(workdir, one)
  assert "4 cpu devices" in outputs[0][0]
  assert "validation" not in outputs[1][0]  # One of them speaks.


@pytest.mark.parametrize(
  ("first", "second"), [((2, 2), (4, 1)), ((4, 1), (2, 2))]
)
def test_a_checkpoint_resumes_on_another_number_of_processes(
  one, two, tmp_path, first, second
):
  del first
  source = two[0] if second == (4, 1) else one
  workdir = tmp_path / "run"
  subprocess.run(["cp", "-r", source, workdir], check=True)
  (workdir / "result.json").unlink()
  for saved in (workdir / "checkpoints").iterdir():
    if saved.name.isdigit() and int(saved.name) > 6:
      subprocess.run(["rm", "-r", saved], check=True)
  outputs = _run(workdir, devices=second[0], processes=second[1])
  assert "resuming from step 6" in outputs[0][0]
  _assert_close(workdir, one)


def test_when_one_process_is_killed_the_other_ends_with_a_message(tmp_path):
  workdir = tmp_path / "run"
  # Long enough that the first is still at it when the second is gone.
  slow = ["--config.steps=100000", "--config.log.every_steps=1000"]
  first, second = _start(workdir, devices=2, processes=2, extra=slow)
  deadline = time.monotonic() + 120
  while not list((workdir / "checkpoints").glob("[0-9]*")):
    assert first.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.1)
  second.kill()
  _, stderr = first.communicate(timeout=120)
  assert first.returncode not in (0, None)
  assert "another task died" in stderr
  second.communicate()


def test_sigterm_stops_all_processes_at_the_same_step(tmp_path):
  workdir = tmp_path / "run"
  several = _start(
    workdir,
    devices=2,
    processes=2,
    extra=["--config.steps=100000", "--config.log.every_steps=1000"],
  )
  deadline = time.monotonic() + 120
  while not list((workdir / "checkpoints").glob("[0-9]*")):
    assert several[0].poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.1)
  several[1].terminate()  # One is told; all stop.
  for process in several:
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "stopped by SIGTERM at step" in stderr
