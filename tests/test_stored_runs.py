"""Runs of every released version are read, resumed and reported.

tests/data/make_runs.py makes them. Their numbers come from another machine, so
they are compared with a tolerance.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import files
from mixaug_jax.command import start
from mixaug_jax.errors import UserError
from mixaug_jax.runs import open_run
from mixaug_jax.training import records

ROOT = pathlib.Path(__file__).parent.parent
RUNS = ROOT / "tests" / "data" / "runs"
VERSIONS = sorted(path.parent.name for path in RUNS.glob("*/commands.json"))


@pytest.fixture(params=VERSIONS)
def runs(request, tmp_path, monkeypatch):
  """A copy of the runs of a version, with which commands work."""
  monkeypatch.syspath_prepend(RUNS)
  monkeypatch.chdir(ROOT)
  return pathlib.Path(shutil.copytree(RUNS / request.param, tmp_path / "runs"))


def _call(command, *argv):
  name = "train" if command == "main" else command
  start.call(name, list(map(str, argv)))


def _flags(runs, command):
  return json.loads((runs / "commands.json").read_text())[command]


def _close(actual, expected, path=""):
  """Compares JSON, numbers with a tolerance; timings play no part."""
  if isinstance(expected, dict):
    for name in expected.keys() - _OF_A_MACHINE:
      _close(actual[name], expected[name], f"{path}/{name}")
  elif isinstance(expected, list):
    assert len(actual) == len(expected), path
    for place, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
      _close(ours, theirs, f"{path}/{place}")
  elif isinstance(expected, float):
    # One or two examples may fall on the other side.
    slack = 0.1 if path.endswith("accuracy") else 0.02
    assert actual == pytest.approx(expected, rel=0.02, abs=slack), path
  else:
    assert actual == expected, path


_OF_A_MACHINE = {
  *("seconds", "compile_seconds", "images_per_second", "device_kind"),
  *("devices", "versions", "xla_flags", "commit", "evaluation_seconds"),
  "config_crc32",  # A later version has more keys; `open_run` checks it.
}


def _content(workdir):
  rows = files.read_text(workdir / "metrics.jsonl").splitlines()
  return {
    "rows": [json.loads(row) for row in rows],
    "result": json.loads(files.read_text(workdir / "result.json")),
  }


def test_this_version_has_stored_runs():
  from mixaug_jax import __version__

  assert __version__ in VERSIONS


def test_an_unfinished_run_is_resumed(runs, capsys):
  workdir = runs / "unfinished"
  _call("main", *_flags(runs, "main"), f"--workdir={workdir}")
  assert "resuming from step 3" in capsys.readouterr().out
  _close(_content(workdir), _content(runs / "finished"))
  open_run(workdir)


def test_a_finished_run_is_read_evaluated_and_predicts(runs, capsys):
  workdir = runs / "finished"
  _call("main", *_flags(runs, "main"), f"--workdir={workdir}")
  assert "is finished" in capsys.readouterr().out
  _call("evaluate", f"--workdir={workdir}")
  accuracy = _content(workdir)["result"]["test"]["accuracy"]
  assert f"(1)  {accuracy:.2%}" in capsys.readouterr().out
  image = runs / "image.png"
  Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(image)
  _call("predict", f"--workdir={workdir}", image)
  assert str(image) in capsys.readouterr().out


@pytest.mark.parametrize(
  ("key", "value", "sentence"),
  [
    ("data.image_size", 10**12, "config.data.image_size must be at least 8"),
    ("data.image_size", 10**400, "config.data.image_size must be at least 8"),
    ("data.cache_size", 30_000, "config.data.cache_size must be at least 8"),
    ("seed", float("inf"), "config.seed must be a whole number, got inf"),
    ("data.bits", "x", "config.data.bits must be a whole number, got 'x'"),
    ("data.resize", 7, "config.data.resize must be a text, got 7"),
    ("ema.decay", 10**400, "a number is too large"),
    ("data", 5, ""),
    ("model", 5, "config.model."),
    ("seed", {}, "config.seed is missing"),
  ],
)
def test_a_config_of_wrong_values_is_damaged(runs, key, value, sentence):
  workdir = runs / "finished"
  config, result = (
    json.loads((workdir / name).read_text())
    for name in ("config.json", "result.json")
  )
  group, _, leaf = key.rpartition(".")
  (config[group] if group else config)[leaf] = value
  (workdir / "config.json").write_text(json.dumps(config))
  result["config_crc32"] = records.checksum(config)
  (workdir / "result.json").write_text(json.dumps(result))
  with pytest.raises(UserError) as caught:
    open_run(workdir)
  assert f"{workdir}/config.json is damaged: {sentence}" in str(caught.value)


@pytest.mark.parametrize(
  ("key", "value"), [("epochs", 10**400), ("class_names", [])]
)
def test_a_result_of_wrong_values_is_damaged(runs, key, value):
  path = runs / "finished" / "result.json"
  result = json.loads(path.read_text()) | {key: value}
  path.write_text(json.dumps(result))
  with pytest.raises(UserError, match=r"result\.json is damaged"):
    open_run(path.parent)


def test_a_comparison_is_reported(runs, capsys):
  workdir = runs / "comparison"
  expected = json.loads(files.read_text(workdir / "results.json"))
  (workdir / "results.json").unlink()
  flags = _flags(runs, "compare")
  _call("compare", *flags, f"--workdir={workdir}", "--report_only")
  actual = json.loads(files.read_text(workdir / "results.json"))
  # The figures of the runs stay; a version may draw other conclusions.
  assert actual["arms"].keys() == expected["arms"].keys()
  for name, arm in expected["arms"].items():
    for figure in ("accuracy", "top5_accuracy", "loss"):
      _close(actual["arms"][name][figure]["each"], arm[figure]["each"])
  assert (workdir / "report.html").exists()


def test_a_run_without_a_version_is_read_and_one_of_a_newer_format_is_not(
  runs, capsys
):
  workdir = runs / "finished"
  version = workdir / "version.json"
  version.unlink()
  _call("main", *_flags(runs, "main"), f"--workdir={workdir}")
  assert "is finished" in capsys.readouterr().out
  newer = {"format": records.FORMAT + 1, "mixaug_jax": "9.9"}
  for path in (version, runs / "comparison/cutmix/seed_0/version.json"):
    path.write_text(json.dumps(newer))
  train = _flags(runs, "main")
  compare = [*_flags(runs, "compare"), f"--workdir={runs / 'comparison'}"]
  commands = [
    ["main", *train, f"--workdir={workdir}"],
    ["main", *train, f"--config.model.pretrained={workdir}"],
    ["evaluate", f"--workdir={workdir}"],
    ["predict", f"--workdir={workdir}", "image.png"],
    ["export", f"--workdir={workdir}", "--format=safetensors"],
    ["report", f"--workdir={workdir}"],
    ["compare", *compare],
    ["compare", *compare, "--report_only"],
  ]
  for command in commands:
    with pytest.raises(UserError, match=r"install the version.*, 9\.9$"):
      _call(*command)


def test_a_version_that_is_damaged_is_named(runs):
  (runs / "finished" / "version.json").write_text('{"format": "1"}')
  with pytest.raises(UserError, match=r"version\.json is damaged; delete it"):
    _call("evaluate", f"--workdir={runs / 'finished'}")
