"""Checkpoints are restored exactly, and damaged ones are passed over."""

import errno
import json
import os
import shutil

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import config
from mixaug_jax.command import failures
from mixaug_jax.errors import UserError
from mixaug_jax.training import loop
from mixaug_jax.training.checkpoint import Checkpoints, read_loop
from mixaug_jax.training.early_stopping import Progress
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.result import Evaluation


def _state(step: int):
  return {
    "step": jnp.int32(step),
    "w": jnp.arange(2000.0) + step,
    "half": jnp.ones((3, 2), jnp.bfloat16) * step,
    "nothing": None,
  }


def _loop(best=None, **values):
  """Returns the state of a loop whose best evaluation fell on step `best`."""
  if best is not None:
    values["best"] = Evaluation(0.5, 0.75, 1.25, 8, best)
  return LoopState(**values)


def _saved(tmp_path, steps, keep=2, best=None):
  checkpoints = Checkpoints(tmp_path, keep)
  for step in steps:
    checkpoints.save(step, _state(step), _loop(best, seconds=step / 3))
  checkpoints.close()
  return Checkpoints(tmp_path, keep)


def test_state_and_loop_come_back_exactly(tmp_path):
  state, loop = _saved(tmp_path, [5]).restore(_state(0))
  chex.assert_trees_all_equal(state, _state(5))
  assert state["half"].dtype == jnp.bfloat16
  assert loop == LoopState(seconds=5 / 3)


def test_every_field_of_the_loop_comes_back(tmp_path):
  evaluation = Evaluation(0.25, 0.5, 1.5, 9, 3)
  loop = LoopState(
    *(evaluation, evaluation, None, Progress(0.25, 3, 1)),
    *({"steps": 2, "loss": 1 / 3, "learning_rate": 0.1}, 77, 1 / 7, 2.5),
  )
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(3, _state(3), loop)
  checkpoints.close()
  assert Checkpoints(tmp_path).restore(_state(0))[1] == loop


def test_a_loop_that_is_not_one_counts_as_damage(tmp_path):
  _saved(tmp_path, [1, 2])
  # A valid file with other content, and no checksums that reveal it.
  saved = tmp_path / "checkpoints" / "2"
  (saved / "checksums.json").unlink()
  path = saved / "loop" / "metadata"
  loop = json.loads(path.read_text())
  path.write_text(json.dumps({**loop, "best": {"step": 1}}))
  state, _ = Checkpoints(tmp_path).restore(_state(0))
  assert state["step"] == 1


def test_a_new_run_has_nothing_to_restore(tmp_path):
  assert Checkpoints(tmp_path).restore(_state(0)) is None


def test_a_link_to_a_missing_folder_is_named(tmp_path):
  gone = tmp_path / "other_disk"
  (tmp_path / "checkpoints").symlink_to(gone)
  with pytest.raises(OSError, match="checkpoints") as caught:
    Checkpoints(tmp_path)
  sentence = failures.sentence(caught.value)
  assert f"checkpoints: it is a link to {gone}, which is missing" in sentence


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_read(tmp_path):
  workdir = tmp_path / os.fsdecode(b"w\xff")
  for use in (
    lambda: loop.train(config.load("configs/cutmix.py:digits", {}), workdir),
    lambda: read_loop(workdir / "checkpoints" / "1"),
  ):
    with pytest.raises(UserError, match=r"w\\udcff\S* is not UTF-8"):
      use()
    assert not workdir.exists()


@pytest.mark.parametrize("name", ["runs[1]", "what?", "a*b"])
def test_a_path_that_orbax_takes_for_a_pattern_is_refused(tmp_path, name):
  workdir = tmp_path / name / "run"
  loaded = config.load("configs/cutmix.py:digits", {})
  with pytest.raises(UserError, match=r"has a \[, \* or \? in its name"):
    loop.train(loaded, workdir)
  assert not workdir.parent.exists()


def test_the_newest_and_the_best_are_kept(tmp_path):
  checkpoints = _saved(tmp_path, [10, 20, 30, 40, 50], keep=2, best=20)
  assert checkpoints.steps() == [20, 40, 50]


def test_the_best_is_kept_by_a_run_that_ends_before_it_saves_again(tmp_path):
  checkpoints = _saved(tmp_path, [10, 20, 30], keep=1, best=10)
  checkpoints.restore(_state(0))
  checkpoints.close()
  assert Checkpoints(tmp_path).steps() == [10, 30]


def test_the_best_so_far_stays_until_a_better_one_is_on_the_disk(
  tmp_path, monkeypatch
):
  checkpoints = _saved(tmp_path, [10, 20, 30], best=10)
  checkpoints.restore(_state(0))

  def fail(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(checkpoints._manager, "save", fail)
  with pytest.raises(OSError, match="No space"):
    checkpoints.save(40, _state(40), _loop(best=40))
  assert Checkpoints(tmp_path).steps() == [10, 20, 30]


def test_a_best_that_is_gone_is_forgotten_with_a_warning(tmp_path, caplog):
  _saved(tmp_path, [10, 20, 30], best=10)
  shutil.rmtree(tmp_path / "checkpoints" / "10")
  checkpoints = Checkpoints(tmp_path)
  with caplog.at_level("WARNING"):
    _, loop = checkpoints.restore(_state(0))
  assert loop.best is None
  assert "step 10, the best on validation so far, are missing" in caplog.text


def test_reading_an_older_step_does_not_change_which_is_the_best(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=1)
  checkpoints.save(10, _state(10), _loop())
  for step in (20, 30):
    checkpoints.save(step, _state(step), _loop(best=10))
  checkpoints.wait()
  checkpoints.restore(_state(0), 10)
  checkpoints.close()
  assert Checkpoints(tmp_path).steps() == [10, 30]


def test_saving_a_step_twice_is_saving_it_once(tmp_path):
  assert _saved(tmp_path, [3, 3]).steps() == [3]


def _files(tmp_path, step):
  files = (tmp_path / "checkpoints" / str(step)).rglob("*")
  return sorted(f for f in files if f.is_file())


def _truncate(files):
  for file in files:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _remove(files):
  for file in files:
    if "manifest" in file.name:
      file.unlink()


def _flip_a_bit(files):
  file = max(files, key=lambda f: f.stat().st_size)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _remove, _flip_a_bit])
def test_a_damaged_newest_is_named_and_the_one_before_used(
  tmp_path, damage, caplog
):
  from absl import logging

  logging.get_absl_logger().addHandler(caplog.handler)
  checkpoints = _saved(tmp_path, [1, 2])
  damage(_files(tmp_path, 2))
  state, _ = checkpoints.restore(_state(0))
  logging.get_absl_logger().removeHandler(caplog.handler)
  np.testing.assert_array_equal(state["w"], _state(1)["w"])
  assert "checkpoint 2 is damaged" in caplog.text
  assert checkpoints.steps() == [1]
  checkpoints.save(2, _state(2), LoopState())  # The step is free again.
  checkpoints.close()
  assert (tmp_path / "damaged_checkpoint_2").is_dir()


def test_a_half_written_newest_is_passed_over(tmp_path):
  _saved(tmp_path, [1])
  half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  half.mkdir()
  (half / "state").mkdir()
  state, _ = Checkpoints(tmp_path).restore(_state(0))
  assert state["step"] == 1


def test_when_all_are_damaged_nothing_is_touched(tmp_path):
  checkpoints = _saved(tmp_path, [1, 2])
  _truncate(_files(tmp_path, 1) + _files(tmp_path, 2))
  with pytest.raises(UserError, match="no checkpoint can be read"):
    checkpoints.restore(_state(0))
  with pytest.raises(UserError, match=r"^checkpoint 1 in .* cannot be read"):
    checkpoints.restore(_state(0), 1)
  assert checkpoints.steps() == [1, 2]


def test_changes_after_saving_are_not_saved(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  loop = LoopState(window={"steps": 9, "loss": 14.4})
  checkpoints.save(49, _state(49), loop)
  # The loop goes on while the checkpoint is written in the background.
  loop.window.pop("steps")
  loop.window["loss"] += 1.6
  checkpoints.close()
  restored = Checkpoints(tmp_path).restore(_state(0))
  assert restored[1].window == {"steps": 9, "loss": 14.4}


def test_arrays_that_orbax_did_not_merge_are_no_checkpoint(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.close()  # Its thread removes unfinished checkpoints.
  checkpoints._saving = 3
  part = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
  (part / "state" / "ocdbt.process_0").mkdir(parents=True)
  with pytest.raises(OSError, match=r"Input/output error.*/state"):
    checkpoints._before_the_name()
  (part / "state" / "manifest.ocdbt").touch()
  checkpoints._before_the_name()
