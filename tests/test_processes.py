"""Several processes on loopback give the results of one process."""

import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mixaug_jax.training import processes

ROOT = pathlib.Path(__file__).parent.parent
HANG = 1200.0  # Seconds after which a process hangs, on any machine.
EXTRA = (
  "--config.steps=24",
  "--config.batch_size=48",
  # Rounding differs between the runs. A high learning rate amplifies it, and so
  # do blocks that do not start as the identity.
  "--config.optimizer.learning_rate=0.005",
  "--config.model.zero_init_residual=true",
  "--config.evaluate.batch_size=252",
  "--config.evaluate.every_epochs=8",
  "--config.log.every_steps=4",
  "--config.checkpoint.every_steps=6",
  "--config.checkpoint.keep=9",
)


def _start(workdir, devices, processes=1, extra=(), struck=None, each=None):
  """Starts the processes of a run.

  Args:
    workdir: the run directory.
    devices: the number of devices of each process.
    processes: their number.
    extra: more flags.
    struck: a process and the moment at which it dies, see struck.py.
    each: the flags of each process alone.
  """
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  env = dict(
    os.environ,
    XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
  )
  programs = [["-m", "mixaug_jax.main"] for _ in range(processes)]
  if struck:
    programs[struck[0]] = ["tests/struck.py", "SIGKILL", *struck[1:]]
    env["PYTHONPATH"] = str(ROOT)
  flags = [*EXTRA, *extra]
  flags += ["--config=configs/cutmix.py", f"--workdir={workdir}"]
  several = lambda i: [
    f"--coordinator_address={address}",
    f"--num_processes={processes}",
    f"--process_id={i}",
  ]
  return [
    subprocess.Popen(
      [
        *(sys.executable, *programs[i], *flags),
        *(several(i) if processes > 1 else []),
        *(each[i] if each else []),
      ],
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
    outputs.append(process.communicate(timeout=HANG))
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
  np.testing.assert_allclose(_logits(workdir), _logits(other), atol=1e-4)
  for a, b in zip(_rows(workdir), _rows(other), strict=True):
    assert (a["step"], a["split"]) == (b["step"], b["split"])
    for name in a.keys() - {"step", "split", "images_per_second"}:
      assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4), name


def test_two_processes_of_two_devices_equal_one_of_four(one, two):
  workdir, outputs = two
  _assert_close(workdir, one)
  connected, _, trained = outputs[0][0].partition("4 cpu devices")
  assert trained
  # Gloo gives up after 30 s, so it connects before processes drift apart.
  assert "[Gloo] Rank 0 is connected to 3 peer ranks" in connected
  assert "Gloo" not in trained
  assert "validation" not in outputs[1][0]  # Only process 0 prints.


def test_the_first_difference_between_processes_is_named():
  equal = np.array([[1, 2, 3]] * 3, np.uint32)
  names = ["seed", "images", "pixels"]
  assert processes.first_difference(names, equal) is None
  other = equal.copy()
  other[2, 0], other[1, 2] = 0, 0
  assert processes.first_difference(names, other) == (1, "pixels")


def test_processes_with_other_images_are_refused(tmp_path):
  folders = [tmp_path / "a", tmp_path / "b"]
  for number, folder in enumerate(folders):
    for split, name in itertools.product(("train", "test"), ("cat", "dog")):
      (folder / split / name).mkdir(parents=True)
      for value in range(6 - number * (split == "test")):
        image = np.full((16, 16, 3), 40 * value, np.uint8)
        Image.fromarray(image).save(folder / split / name / f"{value}.png")
  flags = ["--config.data.name=folder", "--config.data.validation_fraction=0.2"]
  started = _start(
    tmp_path / "run",
    devices=2,
    processes=2,
    extra=[*flags, "--config.batch_size=4"],
    each=[[f"--config.data.dir={folder}"] for folder in folders],
  )
  for process in started:
    _, stderr = process.communicate(timeout=HANG)
    assert process.returncode == 2, stderr
    assert "process 1 of this run differs from process 0 in the images of" in (
      stderr
    )
  assert not (tmp_path / "run" / "config.json").exists()


def _saved(workdir):
  """Returns the steps of the finished checkpoints."""
  names = (path.name for path in (workdir / "checkpoints").glob("[0-9]*"))
  return sorted(int(name) for name in names if name.isdigit())


def _flip_a_bit(checkpoint):
  files = (path for path in checkpoint.rglob("*") if path.is_file())
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 4
  largest.write_bytes(content)


@pytest.mark.parametrize(
  ("first", "second"), [((2, 2), (4, 1)), ((4, 1), (2, 2))]
)
def test_a_checkpoint_resumes_on_another_number_of_processes(
  one, two, tmp_path, first, second
):
  del first
  source = two[0] if second == (4, 1) else one
  workdir = tmp_path / "run"
  shutil.copytree(source, workdir)
  (workdir / "result.json").unlink()
  for step in _saved(workdir):
    if 12 < step < 24:
      shutil.rmtree(workdir / "checkpoints" / str(step))
  _flip_a_bit(workdir / "checkpoints" / "24")
  outputs = _run(workdir, devices=second[0], processes=second[1])
  assert "checkpoint 24 is damaged" in outputs[0][1]
  assert "resuming from step 12" in outputs[0][0]
  _assert_close(workdir, one)


def _until_saved(workdir, several):
  """Waits for the first checkpoint."""
  deadline = time.monotonic() + HANG
  while not _saved(workdir):
    assert [process.poll() for process in several] == [None] * len(several)
    assert time.monotonic() < deadline
    time.sleep(0.01)


@pytest.mark.parametrize(("killed", "moment"), [(0, "saving"), (1, "training")])
def test_one_killed_ends_the_other_and_both_resume(
  two, tmp_path, killed, moment
):
  workdir = tmp_path / "run"
  # When the third checkpoint is begun, the first is on disk.
  struck = (killed, "saving", "3", "0.05") if moment == "saving" else None
  several = _start(workdir, devices=2, processes=2, struck=struck)
  if moment == "training":
    lines = [""]
    while not lines[-1].startswith("step  8/24"):
      lines.append(several[0].stderr.readline())
      assert lines[-1], "".join(lines)  # It ended.
    several[killed].kill()
  other = several[1 - killed]
  _, stderr = other.communicate(timeout=HANG)
  assert other.returncode not in (0, None)
  # The sentence is that of JAX if JAX notices first.
  assert "another process of this run died" in stderr or (
    "another task died" in stderr
  )
  several[killed].communicate()
  saved = _saved(workdir)[-1]
  outputs = _run(workdir, devices=2, processes=2)
  assert f"resuming from step {saved}\n" in outputs[0][0]
  np.testing.assert_array_equal(_logits(workdir), _logits(two[0]))
  _assert_close(workdir, two[0])


@pytest.mark.parametrize(
  ("number", "name", "code"),
  [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)],
  ids=["sigterm", "ctrl_c"],
)
def test_a_signal_stops_all_processes_at_the_same_step(
  tmp_path, number, name, code
):
  workdir = tmp_path / "run"
  long = ["--config.steps=100000", "--config.log.every_steps=1000"]
  # Where a shell runs the tests in the background, Ctrl-C is switched off.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  several = _start(workdir, devices=2, processes=2, extra=long)
  signal.signal(signal.SIGINT, before)
  _until_saved(workdir, several)
  # Meanwhile, all processes of another job are refused.
  for process in _start(workdir, devices=2, processes=2, extra=long):
    _, stderr = process.communicate(timeout=HANG)
    assert process.returncode == 2, stderr
    assert f"in use by process {several[0].pid}" in stderr
  several[1].send_signal(number)  # One gets the signal, and all stop.
  for process in several:
    _, stderr = process.communicate(timeout=HANG)
    assert process.returncode == code, stderr
    assert f"stopped by {name} at step" in stderr
    assert "Traceback" not in stderr
