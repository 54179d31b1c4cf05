"""Runs that are killed, stopped, damaged or out of disk space.

`KILLS=30 python -m pytest -n 0 -s tests/test_faults.py` kills more often. It
prints the moment of each kill.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

ROOT = pathlib.Path(__file__).parent.parent
HANG = 1200.0  # Seconds after which a process hangs, on any machine.
KILLS = int(os.environ.get("KILLS", "4"))
FLAGS = (
  "--config=configs/cutmix.py",
  "--config.steps=40",
  "--config.batch_size=16",
  "--config.evaluate.every_epochs=5",
  "--config.checkpoint.every_steps=7",
  "--config.log.every_steps=10",
  "--config.ema.decay=0.9",
)


def _start(workdir, *extra, program=("-m", "mixaug_jax.main"), **environment):
  env = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT), **environment}
  return subprocess.Popen(
    [sys.executable, *program, *FLAGS, *extra, f"--workdir={workdir}"],
    env=env,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _start_struck(workdir, *moment, **environment):
  """Starts the same command with a signal at a moment; see struck.py."""
  program = (str(ROOT / "tests" / "struck.py"), *map(str, moment))
  return _start(workdir, program=program, **environment)


def _finish(workdir, *extra, code=0, **environment):
  process = _start(workdir, *extra, **environment)
  stdout, stderr = process.communicate(timeout=HANG)
  assert process.returncode == code, stderr
  assert "Traceback" not in stderr
  return stdout + stderr


def _state(checkpoint):
  """Returns the bytes of all arrays of a checkpoint."""
  reader = ocp.PyTreeCheckpointer()
  item = checkpoint / "state"
  as_numpy = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
    reader.metadata(item).item_metadata.tree,
  )
  state = reader.restore(
    item, args=ocp.args.PyTreeRestore(restore_args=as_numpy)
  )
  return {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
  }


def _newest(workdir):
  """Returns the newest checkpoint; unfinished ones have longer names."""
  steps = (workdir / "checkpoints").glob("[0-9]*")
  return max((p for p in steps if p.name.isdigit()), key=lambda p: int(p.name))


def _left_behind(workdir):
  """Returns everything that an interruption must not change."""
  rows = []
  for line in (workdir / "metrics.jsonl").read_text().splitlines():
    row = json.loads(line)
    row.pop("images_per_second", None)
    rows.append(row)
  result = json.loads((workdir / "result.json").read_text())
  timings = ("seconds", "compile_seconds", "evaluation_seconds")
  for timing in (*timings, "images_per_second"):
    del result[timing]
  logits = []
  for split in ("validation", "test"):
    with np.load(workdir / f"predictions_{split}.npz") as file:
      logits.append(file["logits"].tobytes())
  state = _state(_newest(workdir))
  assert "['params']['head']['kernel']" in state
  names = sorted(p.name for p in (workdir / "checkpoints").iterdir())
  return rows, result, logits, state, names


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """The directory of a finished run, and its content."""
  root = tmp_path_factory.mktemp("uninterrupted")
  _finish(root / "cold")
  _finish(root / "run")
  # Two runs of one config are the same, bit for bit.
  assert _left_behind(root / "cold") == _left_behind(root / "run")
  return root / "run", _left_behind(root / "run")


@pytest.fixture
def finished(uninterrupted, tmp_path):
  """A copy of that directory."""
  return pathlib.Path(shutil.copytree(uninterrupted[0], tmp_path / "run"))


# A phase, how often it begins in a run, and the most seconds between this and a
# kill. Compilation starts with an empty cache.
_MOMENTS = (
  ("compiling", 1, 8.0),
  ("saving", 6, 0.15),
  ("evaluating", 4, 0.1),
  ("writing", 4, 0.02),
  ("training", 1, 0.5),
  ("starting", 1, 3.0),
)


@pytest.mark.parametrize("seed", range(KILLS))
def test_sigkill_at_a_random_moment_changes_nothing(
  uninterrupted, tmp_path, seed, capsys
):
  rng = random.Random(seed)
  phase, most, seconds = _MOMENTS[seed % len(_MOMENTS)]
  # Every beginning of a phase has its turn.
  count = seed // len(_MOMENTS) % most + 1
  moment = (phase, count, rng.uniform(0, seconds))
  environment = {}
  if phase == "compiling":
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "programs")
  workdir = tmp_path / "run"
  process = _start_struck(workdir, "SIGKILL", *moment, **environment)
  _, stderr = process.communicate(timeout=HANG)
  assert process.returncode == -signal.SIGKILL, stderr
  output = _finish(workdir, **environment)
  assert _left_behind(workdir) == uninterrupted[1]
  gone_on = [x for x in output.splitlines() if x.startswith("resuming")]
  with capsys.disabled():
    struck = re.search(r"^struck while (\w+)$", stderr, re.MULTILINE)[1]
    print(
      f"\nkilled {moment[2]:.3f} s after {phase} began for time {moment[1]}, "
      f"while {struck}; then {[*gone_on, 'from the start'][0]}"
    )


def _stop_and_resume(workdir, name, code, phase, count):
  """Stops a run by a signal and resumes it; returns the step that was saved."""
  process = _start_struck(workdir, name, phase, count, 0)
  _, stderr = process.communicate(timeout=HANG)
  assert process.returncode == code, stderr
  shown = "Ctrl-C" if name == "SIGINT" else name
  assert f"stopped by {shown}" in stderr
  assert "Traceback" not in stderr
  step = _newest(workdir).name
  if (phase, count) == ("evaluating", 4):  # That of the chosen weights.
    assert step == "40"
  else:
    assert f"stopped by {shown} at step {step}; saved" in stderr
  assert f"resuming from step {step}\n" in _finish(workdir)
  return stderr


@pytest.mark.parametrize(
  ("phase", "count"),
  [
    ("compiling", 1),
    ("training", 1),
    ("evaluating", 2),
    ("evaluating", 4),
    ("saving", 3),
  ],
)
def test_sigterm_ends_a_run_and_costs_the_step_under_way_at_most(
  uninterrupted, tmp_path, phase, count
):
  _stop_and_resume(tmp_path / "run", "SIGTERM", 143, phase, count)
  assert _left_behind(tmp_path / "run") == uninterrupted[1]


def test_sighup_saves_as_sigterm_does(uninterrupted, tmp_path):
  _stop_and_resume(tmp_path / "run", "SIGHUP", 129, "training", 1)
  assert _left_behind(tmp_path / "run") == uninterrupted[1]


@pytest.mark.parametrize(
  ("phase", "count"), [("training", 1), ("evaluating", 4), ("saving", 3)]
)
def test_ctrl_c_saves_a_run_and_says_so(uninterrupted, tmp_path, phase, count):
  moment = ("SIGINT", 130, phase, count)
  stderr = _stop_and_resume(tmp_path / "run", *moment)
  assert "Ctrl-C: the run saves and ends; another Ctrl-C leaves at" in stderr
  assert _left_behind(tmp_path / "run") == uninterrupted[1]


@pytest.mark.parametrize("phase", ["starting", "compiling"])
def test_ctrl_c_before_there_is_anything_to_save_ends_at_once(tmp_path, phase):
  process = _start_struck(tmp_path / "run", "SIGINT", phase, 1, 0)
  _, stderr = process.communicate(timeout=HANG)
  assert process.returncode == 130, stderr
  assert "Traceback" not in stderr
  assert "another Ctrl-C" not in stderr
  assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.parametrize("group", [True, False])
def test_ctrl_c_saves_the_runs_of_a_comparison(tmp_path, group):
  words = [
    *(sys.executable, "-m", "mixaug_jax.compare", f"--workdir={tmp_path}/all"),
    *("--config=configs/compare.py", "--config.seeds=1"),
    "--config.tune.trials=0",
    *("--config.base.log.every_steps=100", "--config.base.steps=1000000"),
  ]
  start = lambda: subprocess.Popen(
    words,
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    first = start()
    while not (saved := list(tmp_path.rglob("checkpoints/*/checksums.json"))):
      assert first.poll() is None, first.communicate()
      time.sleep(0.1)
  finally:
    signal.signal(signal.SIGINT, before)
  # A terminal sends it to the runs as well.
  (os.killpg if group else os.kill)(first.pid, signal.SIGINT)
  _, stderr = first.communicate(timeout=HANG)
  assert first.returncode == 130, stderr
  assert "Traceback" not in stderr
  assert "stopped by Ctrl-C; the same command goes on" in stderr
  log = next(tmp_path.rglob("*.log")).read_text()
  assert re.search(r"stopped by (Ctrl-C|SIGTERM) at step \d+; saved", log)
  second = start()
  while "resuming from step" not in next(tmp_path.rglob("*.log")).read_text():
    assert second.poll() is None, second.communicate()
    time.sleep(0.1)
  os.killpg(second.pid, signal.SIGKILL)
  second.communicate()
  assert saved


def test_sigterm_before_the_run_has_anything_to_save_ends_it(tmp_path):
  process = _start_struck(tmp_path / "run", "SIGTERM", "writing", 1, 0)
  process.communicate(timeout=HANG)
  assert process.returncode in (-signal.SIGTERM, 143)
  assert not (tmp_path / "run" / "checkpoints").exists()


def _bit_flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


@pytest.mark.parametrize("damage", ["truncated", "missing", "flipped"])
def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
  uninterrupted, finished, damage
):
  (finished / "result.json").unlink()
  newest = _newest(finished)
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
  assert f"checkpoint {newest.name} is damaged" in _finish(finished)
  assert _left_behind(finished)[:4] == uninterrupted[1][:4]


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_damaged_file_is_named_with_its_repair(uninterrupted, finished, name):
  path = finished / name
  path.write_bytes(path.read_bytes()[:50])
  stderr = _finish(finished, code=2)
  assert f"{name} is damaged; delete" in stderr
  assert len(stderr.splitlines()) == 1
  if name == "result.json":  # The repair works.
    path.unlink()
    _finish(finished)
    assert _left_behind(finished) == uninterrupted[1]


def test_a_broken_last_line_of_metrics_is_written_again(
  uninterrupted, finished
):
  (finished / "result.json").unlink()
  with open(finished / "metrics.jsonl", "a") as file:
    file.write('{"step": 40, "spl')
  _finish(finished)
  assert _left_behind(finished) == uninterrupted[1]


def test_the_second_process_on_a_workdir_is_refused_by_name(tmp_path):
  first = _start(tmp_path / "run", "--config.steps=1000000")
  while not (tmp_path / "run" / "metrics.jsonl").exists():
    assert first.poll() is None
    time.sleep(0.05)
  stderr = _finish(tmp_path / "run", "--config.steps=1000000", code=2)
  assert f"in use by process {first.pid}" in stderr
  first.kill()
  first.communicate()


def _can_mount():
  return os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.mark.skipif(not _can_mount(), reason="mounting a tmpfs needs root")
def test_a_full_disk_is_a_sentence_and_the_run_resumes(uninterrupted, tmp_path):
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
  if subprocess.run(mount, check=False).returncode:
    pytest.skip("cannot mount a tmpfs here")
  try:
    (disk / "ballast").write_bytes(b"\0" * 3_000_000)
    process = _start(disk / "run")
    _, stderr = process.communicate(timeout=HANG)
    assert process.returncode == 2, stderr
    # Threads of TensorStore may print messages of their own.
    assert "no space left" in stderr.lower()
    assert len([x for x in stderr.splitlines() if "mixaug_jax:" in x]) == 1
    (disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    saved = _newest(disk / "run").name
    assert f"resuming from step {saved}\n" in _finish(disk / "run")
    assert _left_behind(disk / "run") == uninterrupted[1]
  finally:
    subprocess.run(["umount", str(disk)], check=True)
