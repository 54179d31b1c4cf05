"""Whole runs through the command: results, resuming, mistakes, signals."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
HANG = 1200.0  # Seconds after which a process hangs, on any machine.
# 9.6 epochs of 50 images are ten batches of 48.
SMALL = (
  "--config.steps=30",
  "--config.evaluate.every_epochs=9.6",
  "--config.evaluate.checkpoint=best",
)
MAIN = ("-m", "mixaug_jax.main")


def _command(workdir, *extra, program=MAIN, path="", devices=1):
  """Returns the command line of a run, and its environment."""
  env = dict(
    os.environ,
    XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
    PYTHONPATH=f"{ROOT}{os.pathsep}{path}",
  )
  argv = [sys.executable, *program, "--config=configs/cutmix.py"]
  return [*argv, f"--workdir={workdir}", *extra], env


def _run(workdir, *extra, code=0, **options):
  argv, env = _command(workdir, *extra, **options)
  done = subprocess.run(
    argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=HANG
  )
  assert done.returncode == code, done.stderr
  assert "Traceback" not in done.stderr
  return done


def _rows(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  for row in rows:
    row.pop("images_per_second", None)
  return rows


def _predictions(workdir, split="test"):
  with np.load(workdir / f"predictions_{split}.npz") as file:
    return {name: file[name] for name in file.files}


def _result(workdir):
  return json.loads((workdir / "result.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run of 30 steps that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("run") / "cutmix"
  done = _run(workdir, *SMALL)
  return workdir, done


def test_a_run_writes_the_files_that_the_readme_lists(finished):
  workdir, done = finished
  assert "test (best on validation" in done.stdout
  names = {path.name for path in workdir.iterdir()}
  assert {"version.json", "config.json", "metrics.jsonl"} <= names
  assert {"checkpoints", "predictions_test.npz", "result.json"} <= names
  assert any(name.startswith("events.out.tfevents") for name in names)
  rows = _rows(workdir)
  assert [r["step"] for r in rows if r["split"] == "train"] == [20]
  assert [r["step"] for r in rows if r["split"] == "validation"] == [10, 20, 30]
  train = next(r for r in rows if r["split"] == "train")
  assert {"loss", "accuracy", "mixed_accuracy", "learning_rate"} <= train.keys()


def test_the_result_agrees_with_the_predictions(finished):
  workdir, _ = finished
  result, predictions = _result(workdir), _predictions(workdir)
  assert predictions["logits"].shape == (1000, 10)
  assert len(set(predictions["ids"])) == 1000
  right = predictions["logits"].argmax(-1) == predictions["labels"]
  assert result["test"]["examples"] == 1000
  assert result["test"]["accuracy"] == pytest.approx(right.mean(), abs=1e-9)
  best = result["validation"]["best"]
  validation = _predictions(workdir, "validation")
  right = validation["logits"].argmax(-1) == validation["labels"]
  assert best["accuracy"] == pytest.approx(right.mean(), abs=1e-9)
  evaluated = [r for r in _rows(workdir) if r["split"] == "validation"]
  assert best["accuracy"] == max(r["accuracy"] for r in evaluated)


def test_the_same_command_on_a_finished_run_prints_its_result(finished):
  workdir, done = finished
  before = (workdir / "result.json").stat().st_mtime_ns
  again = _run(workdir, *SMALL)
  assert "is finished" in again.stdout
  assert done.stdout.splitlines()[-3:] == again.stdout.splitlines()[-3:]
  assert (workdir / "result.json").stat().st_mtime_ns == before


def test_the_output_on_a_pipe_says_what_is_going_on(finished):
  _, done = finished
  first, *_, last = done.stderr.splitlines()
  assert first.startswith("compiling the train step; the first time takes")
  place = r"step 30/30  epoch 28\.8  test       "
  assert re.match(place + r" loss +\d\.\d{3}  accuracy +[\d.]+ %", last)
  assert _result(finished[0])["evaluation_seconds"] > 0


@pytest.mark.parametrize(
  ("extra", "sentence"),
  [
    (["--config.mix.alpha=0.3"], "mix.alpha (there 1.0, here 0.3)"),
    # A mistake is reported before the other config of the directory.
    (["--config.mix.alpha=-1"], "alpha must be above 0"),
  ],
)
def test_another_config_on_the_same_workdir_names_the_keys(
  finished, extra, sentence
):
  workdir, _ = finished
  done = _run(workdir, *SMALL, *extra, code=2)
  assert sentence in done.stderr
  assert len(done.stderr.splitlines()) == 1


def _assert_same_run(one, other):
  assert _rows(one) == _rows(other)
  for split in ("validation", "test"):
    a, b = _predictions(one, split), _predictions(other, split)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  timings = {"seconds", "compile_seconds", "images_per_second"}
  timings |= {"evaluation_seconds"}
  a, b = _result(one), _result(other)
  assert {k: v for k, v in a.items() if k not in timings} == {
    k: v for k, v in b.items() if k not in timings
  }


def test_a_run_stopped_by_sigterm_resumes_bit_for_bit(finished, tmp_path):
  uninterrupted, _ = finished
  workdir = tmp_path / "stopped"
  # SIGTERM comes when the run begins to save its first checkpoint.
  struck = (str(ROOT / "tests" / "struck.py"), "SIGTERM", "saving", "1", "0")
  stopped = _run(workdir, *SMALL, program=struck, code=143)
  assert "stopped by SIGTERM at step 11; saved" in stopped.stderr
  assert not (workdir / "result.json").exists()
  resumed = _run(workdir, *SMALL)
  assert "resuming from step" in resumed.stdout
  _assert_same_run(uninterrupted, workdir)


def test_resuming_in_the_middle_of_an_epoch_is_exact_too(tmp_path):
  """With batches of 16 of 50 images, no checkpoint falls on an epoch's end."""
  extra = ("--config.batch_size=16", "--config.checkpoint.every_steps=7")
  extra += ("--config.ema.decay=0.9", "--config.checkpoint.keep=9")
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  _run(whole, *SMALL, *extra)
  shutil.copytree(whole, parts)
  # As if the run was killed after step 14: later files are gone or stale.
  (parts / "result.json").unlink()
  for saved in (parts / "checkpoints").iterdir():
    if saved.name.isdigit() and int(saved.name) > 21:
      saved.rename(parts / f"gone{saved.name}")
  left = sorted(int(p.name) for p in (parts / "checkpoints").glob("[0-9]*"))
  assert left
  assert left[-1] % (50 / 16) != 0
  _run(parts, *SMALL, *extra)
  _assert_same_run(whole, parts)


def test_eight_devices_train_and_the_result_names_the_machine(tmp_path):
  workdir = tmp_path / "eight devices, ü ✓ % 'q' $x"
  # The recipe evaluates in batches of 250, which do not divide.
  done = _run(workdir, *SMALL, "--config.deterministic=true", devices=8)
  assert "on 8 cpu devices" in done.stdout
  result = _result(workdir)
  assert result["devices"] == 8
  assert result["validation"]["last"]["examples"] == 50
  assert result["test"]["examples"] == 1000
  assert result["device_kind"] == "cpu"
  assert "xla_gpu_deterministic_ops=true" in result["xla_flags"]
  assert result["versions"]["jax"] == metadata.version("jax")
  git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
  head = subprocess.run(git, capture_output=True, text=True, check=False)
  assert result["commit"] == (head.stdout.strip() or None)


@pytest.mark.parametrize(
  ("extra", "sentence"),
  [
    (["--config.batch_sze=3"], "did you mean --config.batch_size=3?"),
    (["--config.batch_size=ten"], "must be a whole number"),
    (["--config.optimizer.momentum=2"], "below 1"),
    (["--config.data.name=folder"], "data.dir"),
    (["--config.mix.alpha=0"], "alpha"),
    (["--config.mix.name=cutmx"], "cutmix"),
    (["--config.loss.name=nonesuch:loss"], "there is no module 'nonesuch'"),
    (["--config.log.writers=console,tensorbord"], "'tensorboard'"),
    (["--config.model.name=resnet51"], "resnet"),
    (["--wrokdir=x"], "--wrokdir"),
    (["--workdir="], "--workdir: it is empty"),  # An unset shell variable.
  ],
)
def test_a_mistake_ends_in_one_sentence_with_nothing_written(
  tmp_path, extra, sentence
):
  workdir = tmp_path / "run"
  done = _run(workdir, *extra, code=2)
  assert sentence in done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert not workdir.exists()


def test_a_batch_that_does_not_divide_over_devices_writes_nothing(tmp_path):
  done = _run(tmp_path / "run", devices=5, code=2)
  assert "48 does not divide over 5 devices; try 45 or 50\n" in done.stderr
  assert not (tmp_path / "run").exists()


def test_an_unwritable_workdir_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  done = _run(tmp_path / "file" / "run", code=2)
  assert f"cannot write to {tmp_path / 'file' / 'run'}: Not a" in done.stderr


def test_divergence_stops_with_the_step_and_the_checkpoint(tmp_path):
  done = _run(
    tmp_path / "run", *SMALL, "--config.optimizer.learning_rate=1e30", code=1
  )
  assert "at step" in done.stderr
  assert "checkpoint" in done.stderr
  assert len([s for s in done.stderr.splitlines() if "try a lower" in s]) == 1


def test_a_learning_rate_of_a_million_is_survived_or_reported(tmp_path):
  argv, env = _command(
    tmp_path / "run", *SMALL, "--config.optimizer.learning_rate=1e6"
  )
  done = subprocess.run(
    argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=HANG
  )
  assert "Traceback" not in done.stderr
  if done.returncode == 0:
    assert np.isfinite(_predictions(tmp_path / "run")["logits"]).all()
  else:
    assert done.returncode == 1
    assert "at step" in done.stderr.splitlines()[-1]


_EXTENSIONS = """
import jax.numpy as jnp
from mixaug_jax.training.writers import ScalarWriter

class Csv(ScalarWriter):
  def __init__(self, workdir, first_step):
    self._file = open(workdir / "metrics.csv", "a")

  def write_scalars(self, step, scalars):
    for name, value in scalars.items():
      print(step, name, value, sep=",", file=self._file)

  def close(self):
    self._file.close()

class Broken(Csv):
  def __init__(self, workdir, first_step):
    raise ConnectionError("no server")

def brier(logits, labels):
  probabilities = jnp.exp(logits) / jnp.sum(jnp.exp(logits), -1, keepdims=True)
  return jnp.sum((probabilities - labels) ** 2, axis=-1)
"""


def test_a_writer_and_a_loss_of_the_users_own_are_named_in_the_config(tmp_path):
  (tmp_path / "mine.py").write_text(_EXTENSIONS)
  workdir = tmp_path / "run"
  short = ("--config.steps=2", "--config.loss.name=mine:brier")
  broken = _run(
    *(workdir, *short, "--config.log.writers=mine:Broken"),
    path=tmp_path,
    code=2,
  )
  assert "log.writers: mine:Broken cannot be made: no server" in broken.stderr
  assert "cutmix; 2 steps" not in broken.stdout  # Nothing was started.
  # The same run goes on with another writer.
  _run(workdir, *short, "--config.log.writers=mine:Csv", path=tmp_path)
  rows = [x.split(",") for x in (workdir / "metrics.csv").read_text().split()]
  test = {name: float(value) for _, name, value in rows}
  result = _result(workdir)["test"]
  assert test["test/accuracy"] == result["accuracy"]
  assert test["test/loss"] == result["loss"]
  logits, labels = (_predictions(workdir)[x] for x in ("logits", "labels"))
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  brier = ((p - np.eye(10)[labels]) ** 2).sum(-1).mean()
  assert result["loss"] == pytest.approx(brier, rel=1e-5)
  assert not list(workdir.glob("events.out.tfevents.*"))


def test_tensorflow_is_never_imported(tmp_path):
  code = (
    "import sys; from mixaug_jax.command import train; "
    f"train.main(['--config=configs/cutmix.py', '--workdir={tmp_path}/run', "
    f"*{SMALL}]); "
    "sys.exit('tensorflow' in sys.modules)"
  )
  _, env = _command(tmp_path)
  subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True)
