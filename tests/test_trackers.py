"""Weights & Biases and MLflow get what a run writes, without a network."""

import importlib.util
import json
import os
import pathlib
import shutil
import struct
import time

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.run_page import page
from mixaug_jax.runs import open_run
from mixaug_jax.training import records, trackers, writers

RUNS = pathlib.Path(__file__).parent / "data" / "runs"


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A copy of a stored run, in a folder of its own, before it is finished."""
  monkeypatch.syspath_prepend(RUNS)
  monkeypatch.chdir(tmp_path)
  source = RUNS / "0.2.0" / "finished"
  workdir = pathlib.Path(shutil.copytree(source, tmp_path / "run"))
  (workdir / "result.json").rename(tmp_path / "result.json")
  return workdir


def _write(workdir, name, rows, finish=False):
  """Opens a tracker as a run does, and writes rows by step."""
  first = min(rows)
  with writers.open_writers(workdir, name, first - 1, 10**6) as opened:
    for step, scalars in rows.items():
      opened.write_scalars(step, scalars)
    if finish:
      shutil.copy(workdir.parent / "result.json", workdir)


def _set_writers(workdir, name):
  """Names a tracker in the config of a finished run."""
  config = json.loads((workdir / "config.json").read_text())
  config["log"]["writers"] = name
  (workdir / "config.json").write_text(json.dumps(config))
  result = json.loads((workdir / "result.json").read_text())
  result["config_crc32"] = records.checksum(config)
  (workdir / "result.json").write_text(json.dumps(result))


def _keep_in(folder, monkeypatch):
  """Lets MLflow write files; a database takes it 10 s to set up."""
  monkeypatch.setenv("MLFLOW_TRACKING_URI", folder.as_uri())
  monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def test_mlflow_has_the_metrics_the_hyperparameters_and_the_page(
  run, monkeypatch
):
  mlflow = pytest.importorskip("mlflow")
  _keep_in(run.parent / "mlruns", monkeypatch)
  monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
  client = mlflow.MlflowClient()
  _write(run, "mlflow", {1: {"train/loss": 1.5}, 2: {"train/loss": 1.25}})
  (found,) = client.search_runs(
    [client.get_experiment_by_name("digits").experiment_id]
  )
  assert found.info.run_name == "run"
  assert found.info.status == "KILLED"
  assert found.data.params["optimizer.learning_rate"] == "0.3"
  assert found.data.params["mix.name"] == "cutmix"
  _write(run, "mlflow", {3: {"train/loss": 1.0, "test/accuracy": 0.5}}, True)
  run_id = found.info.run_id
  losses = client.get_metric_history(run_id, "train/loss")
  assert [(x.step, x.value) for x in losses] == [(1, 1.5), (2, 1.25), (3, 1.0)]
  assert client.get_run(run_id).info.status == "FINISHED"
  assert len(client.search_runs([found.info.experiment_id])) == 1
  (run / "report.html").write_text("<p>found</p>")
  assert not trackers.attach(run, run / "report.html", "console, mlflow")
  assert [x.path for x in client.list_artifacts(run_id)] == ["report.html"]


def test_training_goes_on_while_mlflow_fails(run, monkeypatch, capfd):
  mlflow = pytest.importorskip("mlflow")
  _keep_in(run.parent / "mlruns", monkeypatch)
  writer = trackers.MlflowWriter(run, 0)

  def fail(*_, **__):
    raise mlflow.exceptions.MlflowException("the server is gone\nat this")

  monkeypatch.setattr(mlflow.MlflowClient, "log_batch", fail)
  for step in (1, 2):
    writer.write_scalars(step, {"train/loss": 1.0})
  assert capfd.readouterr().err == (
    "warning: MLflow does not take the metrics (the server is gone); "
    "metrics.jsonl has them all\n"
  )


def _wandb_records(folder):
  """Returns the records of all offline runs in a folder, by their order.

  A file is a log as that of LevelDB: blocks of 32 KiB with parts of records,
  each after a checksum, its length and its kind.
  """
  from wandb.proto import wandb_internal_pb2

  found = []
  for path in sorted(folder.glob("offline-run-*/*.wandb")):
    content, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
      if (rest := 2**15 - place % 2**15) < 7:
        place += rest
        continue
      length, kind = struct.unpack_from("<HB", content, place + 4)
      whole += content[place + 7 : place + 7 + length]
      place += 7 + length
      if kind in (1, 4):  # All of a record, or its last part.
        found.append(wandb_internal_pb2.Record.FromString(whole))
        whole = b""
  return found


def test_wandb_has_the_metrics_the_hyperparameters_and_the_page(
  run, monkeypatch
):
  pytest.importorskip("wandb")
  monkeypatch.setenv("WANDB_MODE", "offline")
  _write(run, "wandb", {1: {"train/loss": 1.5}})
  _write(run, "wandb", {2: {"train/loss": 1.25}}, finish=True)
  (run / "report.html").write_text("<p>found</p>")
  assert not trackers.attach(run, run / "report.html", "console, wandb")
  codes: list[int] = []
  end = time.monotonic() + 30
  while len(codes) < 3 and time.monotonic() < end:  # Its process writes them.
    found = _wandb_records(run / "wandb")
    codes = [x.exit.exit_code for x in found if x.HasField("exit")]
    time.sleep(0.1)
  assert codes == [1, 0, 0]
  ids = {x.run.run_id for x in found if x.HasField("run")}
  assert ids == {json.loads((run / "wandb.json").read_text())["id"]}
  projects = {x.run.project for x in found if x.HasField("run")}
  assert projects == {"mixaug_jax"}
  config = {
    item.key or ".".join(item.nested_key): json.loads(item.value_json)
    for x in found
    for item in x.run.config.update
  }
  assert config["optimizer.learning_rate"] == 0.3
  rows = [
    {
      item.key or ".".join(item.nested_key): json.loads(item.value_json)
      for item in x.history.item
    }
    for x in found
    if x.HasField("history")
  ]
  scalars = [(x["step"], x["train/loss"]) for x in rows if "step" in x]
  assert scalars == [(1, 1.5), (2, 1.25)]
  (html,) = (run / "wandb").glob("offline-run-*/files/media/html/*.html")
  assert html.read_bytes() == (run / "report.html").read_bytes()


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch):
  there = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda x, *_: None if x == name else there(x)
  )
  with pytest.raises(UserError, match=rf"mixaug-jax\[{name}\]'$") as caught:
    config_lib.load("baseline", {"log.writers": f"console,{name}"})
  assert f"config.log.writers={name} needs the package {name}" in str(
    caught.value
  )


@pytest.mark.parametrize("content", ["", "[]", '{"id": "../x"}'])
def test_a_damaged_id_is_one_sentence(tmp_path, content):
  (tmp_path / "x.json").write_text(content)
  with pytest.raises(UserError, match=r"x\.json is damaged; delete it to"):
    trackers._kept_id(tmp_path / "x.json", os.urandom)


def test_a_tracker_that_fails_leaves_the_page_and_a_warning(run, monkeypatch):
  shutil.copy(run.parent / "result.json", run)
  _set_writers(run, "mlflow")
  (run / "mlflow.json").write_text('{"id": "a"}')

  def fail(*_):
    raise OSError("no route to host")

  monkeypatch.setattr(trackers.MlflowWriter, "attach", fail)
  printed = page.write(open_run(run))
  assert "warning: mlflow does not have the page: no route to host" in printed
  assert (run / "report.html").exists()
