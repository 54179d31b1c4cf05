"""What happens to a run when the machine is unkind to it.

`KILLS=30 python -m pytest tests/test_faults.py` kills more often.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
KILLS = int(os.environ.get("KILLS", "3"))
FLAGS = (
  "--config=configs/cutmix.py",
  "--config.steps=60",
  "--config.batch_size=16",
  "--config.evaluate.every_epochs=5",
  "--config.checkpoint.every_steps=7",
  "--config.log.every_steps=10",
  "--config.ema.decay=0.9",
)


def _start(workdir, *extra):
  env = dict(os.environ, XLA_FLAGS="")
  return subprocess.Popen(
    [
      *(sys.executable, "-m", "mixaug_jax.main"),
      *(*FLAGS, *extra, f"--workdir={workdir}"),
    ],
    env=env,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _finish(workdir, *extra, code=0):
  process = _start(workdir, *extra)
  _, stderr = process.communicate(timeout=300)
  assert process.returncode == code, stderr
  assert "Traceback" not in stderr
  return stderr


def _left_behind(workdir):
  """All that must not depend on when a run was interrupted."""
  rows = []
  for line in (workdir / "metrics.jsonl").read_text().splitlines():
    row = json.loads(line)
    row.pop("images_per_second", None)
    rows.append(row)
  result = json.loads((workdir / "result.json").read_text())
  for timing in ("seconds", "compile_seconds", "images_per_second"):
    del result[timing]
  with np.load(workdir / "predictions_test.npz") as file:
    logits = file["logits"].tobytes()
  names = sorted(p.name for p in (workdir / "checkpoints").iterdir())
  return rows, result, logits, names


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """A finished run, and the seconds that it took with all programs cached."""
  root = tmp_path_factory.mktemp("uninterrupted")
  _finish(root / "cold")
  begin = time.monotonic()
  _finish(root / "run")
  seconds = time.monotonic() - begin
  # Two runs of one config are the same, bit for bit.
  assert _left_behind(root / "cold") == _left_behind(root / "run")
  return _left_behind(root / "run"), seconds


@pytest.mark.parametrize("seed", range(KILLS))
def test_sigkill_at_a_random_moment_changes_nothing(
  uninterrupted, tmp_path, seed
):
  expected, seconds = uninterrupted
  process = _start(tmp_path / "run")
  # Stratified, so that every part of a run gets its share.
  time.sleep(seconds * (seed + random.Random(seed).random()) / KILLS)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  _finish(tmp_path / "run")
  assert _left_behind(tmp_path / "run") == expected


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_sigterm_at_any_moment_leaves_in_time_and_loses_nothing(
  uninterrupted, tmp_path, share
):
  expected, seconds = uninterrupted
  process = _start(tmp_path / "run")
  while not (tmp_path / "run" / "config.json").exists():
    assert process.poll() is None
    time.sleep(0.01)
  time.sleep(share * seconds / 2)
  begin = time.monotonic()
  process.send_signal(signal.SIGTERM)
  _, stderr = process.communicate(timeout=60)
  assert time.monotonic() - begin < 30
  assert process.returncode in (143, 0), stderr
  assert "Traceback" not in stderr
  _finish(tmp_path / "run")
  assert _left_behind(tmp_path / "run") == expected


def _bit_flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def _newest(workdir):
  steps = (workdir / "checkpoints").glob("[0-9]*")
  return max(steps, key=lambda path: int(path.name))


@pytest.mark.parametrize("damage", ["truncated", "missing", "flipped"])
def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
  uninterrupted, tmp_path, damage
):
  expected, _ = uninterrupted
  workdir = tmp_path / "run"
  _finish(workdir)
  (workdir / "result.json").unlink()
  newest = _newest(workdir)
  largest = max(
    (path for path in newest.rglob("*") if path.is_file()),
    key=lambda path: path.stat().st_size,
  )
  if damage == "truncated":
    largest.write_bytes(largest.read_bytes()[:100])
  elif damage == "missing":
    largest.unlink()
  else:
    _bit_flip(largest)
  assert f"checkpoint {newest.name} is damaged" in _finish(workdir)
  assert _left_behind(workdir)[:3] == expected[:3]


def test_a_damaged_config_is_named(tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  (workdir / "config.json").write_text('{"seed": ')
  assert "config.json is damaged" in _finish(workdir, code=2)


def test_a_broken_last_line_of_metrics_is_written_anew(uninterrupted, tmp_path):
  expected, _ = uninterrupted
  workdir = tmp_path / "run"
  _finish(workdir)
  (workdir / "result.json").unlink()
  with open(workdir / "metrics.jsonl", "a") as file:
    file.write('{"step": 60, "spl')
  _finish(workdir)
  assert _left_behind(workdir) == expected


def test_the_second_process_on_a_workdir_is_refused_by_name(tmp_path):
  first = _start(tmp_path / "run", "--config.steps=5000")
  while not (tmp_path / "run" / "metrics.jsonl").exists():
    assert first.poll() is None
    time.sleep(0.05)
  stderr = _finish(tmp_path / "run", "--config.steps=5000", code=2)
  assert f"in use by process {first.pid}" in stderr
  first.kill()
  first.communicate()


def _can_mount():
  return os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.mark.skipif(not _can_mount(), reason="mounting a tmpfs needs root")
def test_a_full_disk_is_a_sentence_and_the_run_resumes(uninterrupted, tmp_path):
  expected, _ = uninterrupted
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
  if subprocess.run(mount, check=False).returncode:
    pytest.skip("cannot mount a tmpfs here")
  try:
    (disk / "ballast").write_bytes(b"\0" * 3_000_000)
    process = _start(disk / "run")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 2, stderr
    # Threads of TensorStore may complain besides.
    assert "no space left" in stderr.lower()
    assert len([x for x in stderr.splitlines() if "mixaug_jax:" in x]) == 1
    (disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    _finish(disk / "run")
    assert _left_behind(disk / "run") == expected
  finally:
    subprocess.run(["umount", str(disk)], check=True)
