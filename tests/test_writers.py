"""Metrics reach their writers, and a resumed run continues metrics.jsonl."""

import json
import pathlib
from logging import StreamHandler, getLogger

import pytest
from absl import logging

from mixaug_jax.errors import UserError
from mixaug_jax.training import parallel, writers


def _rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def _open(workdir, names="console,tensorboard"):
  return writers.open_writers(workdir, names, 0, 0)


def test_rows_are_grouped_by_split_and_event_files_are_written(tmp_path):
  with _open(tmp_path) as opened:
    opened.write_scalars(3, {"train/loss": 1.5, "train/accuracy": 0.25})
    opened.write_scalars(4, {"validation/loss": 2.0})
  assert _rows(tmp_path / "metrics.jsonl") == [
    {"step": 3, "split": "train", "loss": 1.5, "accuracy": 0.25},
    {"step": 4, "split": "validation", "loss": 2.0},
  ]
  assert list(tmp_path.glob("events.out.tfevents.*"))


def test_metrics_jsonl_needs_no_name(tmp_path, capfd):
  with _open(tmp_path, "") as opened:
    opened.write_scalars(3, {"train/loss": 1.5})
  assert len(_rows(tmp_path / "metrics.jsonl")) == 1
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
  assert capfd.readouterr().err == ""


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


def test_rewind_drops_rows_that_are_newer_than_the_checkpoint(tmp_path):
  path = tmp_path / "metrics.jsonl"
  seen = '{"step": 1, "split": "train"}\n'
  path.write_text(seen + '{"step": 2, "spl')
  writers.rewind(path, len(seen), 1)
  assert path.read_text() == seen


@pytest.mark.parametrize(
  "change",
  [
    lambda rows: rows[:1],
    lambda rows: rows[1:],
    lambda rows: ["no JSON\n", *rows],
    lambda rows: [],
  ],
)
def test_changed_metrics_are_reported_and_no_row_comes_twice(
  tmp_path, capsys, change
):
  rows = [f'{{"step": {step}, "split": "train"}}\n' for step in (1, 2, 3)]
  path = tmp_path / "metrics.jsonl"
  path.write_text("".join(change(rows)))
  writers.rewind(path, len(rows[0]) * 2, 2)
  assert "rows of earlier steps are lost" in capsys.readouterr().err
  kept = [json.loads(line)["step"] for line in path.read_text().splitlines()]
  assert len(set(kept)) == len(kept)
  assert set(kept) <= {1, 2}


def test_only_the_primary_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(parallel, "from_first", lambda say: "")
  with _open(tmp_path) as opened:
    opened.write_scalars(3, {"train/loss": 1.5})
  assert list(tmp_path.iterdir()) == []


class Recorder(writers.ScalarWriter):
  """A writer that a config finds as `test_writers:Recorder`."""

  calls = []  # noqa: RUF012

  def __init__(self, workdir: pathlib.Path, first_step: int):
    self.calls[:] = [(workdir, first_step)]

  def write_scalars(self, step, scalars):
    self.calls.append((step, scalars))

  def flush(self):
    self.calls.append("flush")

  def close(self):
    self.calls.append("close")


def test_a_writer_of_the_users_own_is_opened_written_flushed_and_closed(
  tmp_path, monkeypatch
):
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
  name = "test_writers:Recorder"
  calls = writers.find(name)[name].calls
  with writers.open_writers(tmp_path, f"console, {name}", 5, 0) as opened:
    opened.write_scalars(6, {"train/loss": 1.5})
    opened.flush()
  expected = [(tmp_path, 5), (6, {"train/loss": 1.5}), "flush", "close"]
  assert calls == expected


@pytest.mark.parametrize(
  ("names", "sentence"),
  [
    ("consol", "'console'"),
    ("console,nonesuch:Writer", "there is no module 'nonesuch'"),
    ("json:Nonesuch", "has no attribute 'Nonesuch'"),
  ],
)
def test_a_writer_that_does_not_exist_is_named(names, sentence):
  with pytest.raises(ValueError, match=r"^config.log.writers") as caught:
    writers.find(names)
  assert sentence in str(caught.value)


@pytest.mark.parametrize(
  ("name", "sentence"),
  [
    ("operator:add", "operator:add cannot be made: unsupported operand"),
    ("operator:is_", "operator:is_ does not make a MetricWriter"),
  ],
)
def test_a_writer_that_cannot_be_made_is_one_sentence(tmp_path, name, sentence):
  with (
    pytest.raises(UserError, match=f"^config.log.writers: {sentence}"),
    _open(tmp_path, name),
  ):
    pass


def test_the_log_shows_metrics_and_warnings_but_not_others_chatter(
  tmp_path, capfd
):
  elsewhere = StreamHandler()  # Other libraries may log to stderr as well.
  getLogger().addHandler(elsewhere)
  with _open(tmp_path) as opened:
    opened.write_scalars(3, {"train/loss": 1.5})
    logging.info("chatter")
    logging.warning("beware")
  getLogger().removeHandler(elsewhere)
  shown = capfd.readouterr().err
  assert shown == "step 3  train       loss  1.500\nbeware\n"


def test_the_console_has_the_place_in_the_run_and_rounded_numbers(
  tmp_path, capfd
):
  writer = writers.ConsoleWriter(tmp_path, 0, 400, 1.0416666)
  writer.write_scalars(
    40,
    {
      "train/learning_rate": 0.09765,
      "train/gradient_norm": 12.3456,
      "train/mixed_accuracy": 0.5,
      "train/accuracy": 0.61234,
      "train/images_per_second": 3400.4,
      "train/loss": 1.23456,
    },
  )
  writer.write_scalars(400, {"test/loss": 12.5, "test/examples": 1000.0})
  train, test = capfd.readouterr().err.splitlines()
  assert train == (
    "step  40/400  epoch  38.4  train       loss  1.235  accuracy  61.2 %  "
    "mixed accuracy  50.0 %  gradient norm 12.3      learning rate 0.0977    "
    "3,400 images/s"
  )
  assert test == (
    "step 400/400  epoch 384.0  test        loss 12.500  examples 1,000"
  )
