"""What the writers write, and what a resumed run finds of it."""

import io
import json
import os

import pytest

from mixaug_jax.training import writers


def _rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_grouped_by_split_and_event_files_are_written(tmp_path):
  progress = writers.Progress(10, 2, io.StringIO())
  with writers.open_writers(tmp_path, 0, 0, progress, True) as writer:
    writer.write_scalars(3, {"train/loss": 1.5, "train/accuracy": 0.25})
    writer.write_scalars(4, {"validation/loss": 2.0})
  assert _rows(tmp_path / "metrics.jsonl") == [
    {"step": 3, "split": "train", "loss": 1.5, "accuracy": 0.25},
    {"step": 4, "split": "validation", "loss": 2.0},
  ]
  assert list(tmp_path.glob("events.out.tfevents.*"))


def test_the_event_file_is_what_tensorboard_reads(tmp_path):
  event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator"
  )
  writer = writers.TensorBoardWriter(tmp_path, 0)
  writer.write_scalars(7, {"train/loss": 0.5})
  writer.close()
  events = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
  (scalar,) = events.Scalars("train/loss")
  assert (scalar.step, scalar.value) == (7, 0.5)


def test_rewind_drops_what_a_checkpoint_did_not_see(tmp_path):
  path = tmp_path / "metrics.jsonl"
  seen = '{"step": 1, "split": "train"}\n'
  path.write_text(seen + '{"step": 2, "spl')
  writers.rewind(path, len(seen))
  assert path.read_text() == seen
  writers.rewind(path, 1000)  # Of a file that someone has shortened.
  assert path.read_text() == seen


def test_only_the_primary_process_writes(tmp_path):
  progress = writers.Progress(10, 2, io.StringIO())
  with writers.open_writers(tmp_path, 0, 0, progress, False) as writer:
    writer.write_scalars(3, {"train/loss": 1.5})
  assert list(tmp_path.iterdir()) == []


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def test_the_bar_leaves_pauses_out_of_rate_and_time_left(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(writers.time, "monotonic", lambda: now[0])
  monkeypatch.setenv("COLUMNS", "100")
  stream = _Terminal()
  progress = writers.Progress(100, 10, stream)
  with progress.pause("compiling"):
    now[0] += 1000
  progress.begin()
  progress.update(1)
  now[0] += 10
  with progress.pause("evaluating"):
    now[0] += 500
  progress.update(11)  # Ten steps of ten images in ten seconds.
  assert progress.seconds() == 10
  last = stream.getvalue().rpartition("\r")[2]
  assert "11/100  10 images/s  1:29 left" in last
  assert len(last.removeprefix("\033[K")) < 100


def test_there_is_no_bar_on_a_pipe():
  stream = io.StringIO()
  progress = writers.Progress(10, 2, stream)
  with progress.pause("compiling"):
    progress.update(1)
  progress.clear()
  assert stream.getvalue() == ""


def test_the_log_shows_metrics_and_warnings_but_not_others_chatter(
  tmp_path, capfd
):
  from absl import logging

  progress = writers.Progress(10, 2, io.StringIO())
  with writers.open_writers(tmp_path, 0, 0, progress, True) as writer:
    writer.write_scalars(3, {"train/loss": 1.5})
    logging.info("chatter")
    logging.warning("beware")
  shown = capfd.readouterr().err
  assert "[3] train/loss=1.5" in shown
  assert "beware" in shown
  assert "chatter" not in shown
  assert os.path.getsize(tmp_path / "metrics.jsonl")
