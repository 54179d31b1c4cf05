"""Links and pipes in a run directory from elsewhere harm no file."""

import os
import pathlib

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import files
from mixaug_jax.errors import UserError
from mixaug_jax.training import checkpoint, loop

RUNS = pathlib.Path(__file__).parent / "data" / "runs"


@pytest.fixture
def victim(tmp_path):
  path = tmp_path / "victim"
  path.write_text("precious")
  yield path
  assert path.read_text() == "precious"


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run directory, and a function that trains in it."""
  monkeypatch.syspath_prepend(RUNS)
  workdir = tmp_path / "run"
  config = config_lib.load(
    "configs/baseline.py",
    {
      "model.name": "tiny_model:Tiny",
      "steps": "2",
      "batch_size": "8",
      "data.classes": "2",
      "data.examples_per_class": "8",
      "evaluate.every_epochs": "1",
    },
  )
  workdir.mkdir()
  return workdir, lambda: loop.train(config, workdir)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_in_place_of_parts_are_replaced(run, victim, link):
  workdir, go = run
  parts = set()
  for name in (
    *("config.json", "version.json", "data.json", "result.json"),
    "predictions_test.npz",
  ):
    with files.replacing(workdir / name) as part:
      parts.add(part.name)
    (workdir / name).unlink()
  for name in parts:
    link(victim, workdir / name)
  assert go().steps == 2
  assert not {path.name for path in workdir.iterdir()} & parts


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_a_link_or_a_pipe_that_would_be_written_is_refused(
  run, victim, tmp_path, name, kind
):
  workdir, go = run
  if kind == "pipe":
    os.mkfifo(workdir / name)
  else:
    target = victim if kind == "link" else tmp_path / "missing"
    (workdir / name).symlink_to(target)
  with pytest.raises(UserError, match=rf"{name} is not a regular file"):
    go()
  assert not (tmp_path / "missing").exists()


def test_a_lock_with_another_name_is_refused(run, victim):
  workdir, go = run
  os.link(victim, workdir / ".lock")
  with pytest.raises(UserError, match=r"\.lock has a hard link"):
    go()


def test_metrics_with_another_name_are_copied_first(run, victim):
  workdir, go = run
  os.link(victim, workdir / "metrics.jsonl")
  assert go().steps == 2
  assert (workdir / "metrics.jsonl").stat().st_nlink == 1


def test_a_run_directory_and_its_checkpoints_may_lie_on_another_disk(
  run, tmp_path
):
  workdir, go = run
  workdir.rmdir()
  (tmp_path / "disk" / "checkpoints").mkdir(parents=True)
  (tmp_path / "disk" / "run").mkdir()
  workdir.symlink_to(tmp_path / "disk" / "run")
  (workdir / "checkpoints").symlink_to(tmp_path / "disk" / "checkpoints")
  assert go().steps == 2
  assert (tmp_path / "disk" / "checkpoints" / "2").is_dir()


@pytest.mark.parametrize("make", [os.mkfifo, lambda x: x.symlink_to("/etc")])
def test_a_checkpoint_with_a_pipe_or_a_link_is_damaged(run, make):
  workdir, go = run
  go()
  saved = workdir / "checkpoints" / "2"
  (saved / "checksums.json").unlink()
  make(saved / "state" / "other")
  assert checkpoint.damage(saved) == "state/other is not a regular file"


@pytest.mark.parametrize(
  "name", ["config.json", "result.json", "data.json", "version.json"]
)
def test_a_pipe_in_place_of_a_file_that_is_read_is_refused(run, name):
  workdir, go = run
  go()
  if name == "data.json":  # It is read while a run is not finished.
    (workdir / "result.json").unlink()
  (workdir / name).unlink()
  os.mkfifo(workdir / name)
  with pytest.raises(UserError, match=rf"cannot read .*{name}: not a regular"):
    go()


def test_reading_follows_links_but_waits_for_no_pipe(tmp_path):
  (tmp_path / "a").write_text("content")
  (tmp_path / "b").symlink_to(tmp_path / "a")
  assert files.read_text(tmp_path / "b") == "content"
  os.mkfifo(tmp_path / "c")
  with pytest.raises(OSError, match="not a regular file"):
    files.read_bytes(tmp_path / "c")
