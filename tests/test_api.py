"""The Python API in programs of its users."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

import mixaug_jax as mx
from mixaug_jax import api, jax_setup
from mixaug_jax.configs import compare, cutmix, default

ROOT = pathlib.Path(__file__).parent.parent
STEPS = {"steps": 6, "log.every_steps": 2}


def _python(*words, cwd, code=0):
  done = subprocess.run(
    [sys.executable, *map(str, words)],
    cwd=cwd,
    env={
      **os.environ,
      "HOME": str(cwd),
      "PYTHONPATH": f"{ROOT}{os.pathsep}{cwd}",
      "XLA_FLAGS": "",
    },
    capture_output=True,
    text=True,
    timeout=1200,
  )
  assert done.returncode == code, done.stdout + done.stderr
  return done


_PRESS = """
import signal
from mixaug_jax.training.writers import ScalarWriter

class Writer(ScalarWriter):
  def __init__(self, workdir, first_step):
    self.first_step = first_step

  def write_scalars(self, step, scalars):
    if step == 4 and not self.first_step:
      signal.raise_signal(signal.SIGINT)
"""

_SESSION = """
import concurrent.futures
import contextlib
import io
import json
import logging
import os
import signal
import sys
import warnings

import mixaug_jax as mx

facts = {"imported": [x for x in ("jax", "numpy") if x in sys.modules]}
warnings.simplefilter("error", UserWarning)
# Where a shell runs the tests in the background, Ctrl-C is switched off.
signal.signal(signal.SIGINT, signal.default_int_handler)
mx.prepare()

import absl.logging
import jax
import numpy as np
from PIL import Image
from mixaug_jax.configs import cutmix

jax.devices()
STEPS = {"steps": 6, "log.every_steps": 2}

def surroundings():
  loggers = (logging.getLogger(), absl.logging.get_absl_logger())
  # tensorboardX sets it when it is imported.
  environment = {k: x for k, x in os.environ.items() if k != "CRC32C_SW_MODE"}
  return [
    [str(signal.getsignal(x)) for x in (1, 2, 15)],
    [[str(x.handlers), x.propagate, x.level] for x in loggers],
    environment,
    [x for x, m in sys.modules.items() if m is None],
    "clu.metric_writers.summary_writer" in sys.modules,
    os.getcwd(),
    str((sys.stdout, sys.stderr, sys.excepthook)),
  ]

def result(run):
  return (run.workdir / "result.json").stat().st_mtime_ns

facts["before"] = surroundings()
run = mx.train("cutmix", overrides=STEPS)
facts["workdir"], facts["repr"] = str(run.workdir), repr(run)
facts["after"] = surroundings()
first = result(run)
mx.train("cutmix", workdir=run.workdir, overrides=STEPS)
facts["trained again"] = result(run) != first

def interrupted():
  return mx.train(
    "cutmix",
    workdir="interrupted",
    overrides={**STEPS, "log.writers": "press:Writer"},
  )

try:
  interrupted()
except mx.Interrupted as error:
  facts["interrupted"] = str(error)
facts["after an interruption"] = surroundings()
interrupted()

raw = cutmix.get_config()
text = raw.to_json_best_effort()
raw_run = mx.train(raw, workdir="~/raw", overrides=STEPS)
facts["raw is unchanged"] = raw.to_json_best_effort() == text

raw.steps, raw.seed = 3, 7
config = mx.train(raw, workdir="changed").config
with concurrent.futures.ThreadPoolExecutor(1) as pool:
  thread_run = pool.submit(
    mx.train,
    config,
    workdir="thread",
    overrides={"steps": np.int64(6), "log.every_steps": "2", "seed": 0},
  ).result()

from mixaug_jax.command import evaluate

facts["evaluated"] = run.evaluate(views=["identity", "shifts"])
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
  flags = [f"--workdir={run.workdir}", "--views=identity,shifts", "--json"]
  evaluate.main(flags)
facts["printed"] = json.loads(printed.getvalue())

os.mkdir("photos")
Image.new("RGB", (20, 16), "red").save("photos/a.png")
Image.new("RGB", (20, 16), "blue").save("photos/b.png")
open("photos/c.png", "w").write("no image")
images = lambda named: [x["image"] for x in run.predict(named)]
facts["predicted"] = [images("photos"), images("photos/b.png")]
facts["predicted"].append(images(["photos/b.png", "photos/a.png"]))
facts["overlay"] = run.predict("photos/a.png", output="maps")[0]["overlay"]
facts["report"] = str(run.report())
json.dump(facts, open("facts.json", "w"))
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  """What one program of a user saw, and its folder."""
  folder = tmp_path_factory.mktemp("session")
  (folder / "press.py").write_text(_PRESS)
  done = _python("-c", _SESSION, cwd=folder)
  return json.loads((folder / "facts.json").read_text()), folder, done


def test_importing_the_package_imports_nothing_else(session):
  facts, _, _ = session
  assert facts["imported"] == []


def test_a_run_has_the_bits_of_the_command(session):
  facts, folder, _ = session
  flags = [f"--config.{key}={x}" for key, x in STEPS.items()]
  main = ("-m", "mixaug_jax.main", "--config=cutmix", "--workdir=command")
  _python(*main, *flags, cwd=folder)
  content = lambda name: (folder / name / "predictions_test.npz").read_bytes()
  expected = content("command")
  assert content(facts["workdir"]) == expected
  # A raw config, one of a run, another thread, and an interrupted run.
  assert content("raw") == content("thread") == expected
  assert content("interrupted") == expected
  assert content("changed") != expected


def test_an_interruption_saves_the_run(session):
  facts, _, done = session
  assert facts["interrupted"].startswith("stopped by Ctrl-C at step 4; saved")
  assert "Ctrl-C: the run saves and ends; another Ctrl-C" in done.stderr
  assert "resuming from step 4" in done.stdout


def test_a_finished_run_is_not_trained_again(session):
  facts, _, _ = session
  assert not facts["trained again"]


def test_a_run_leaves_nothing_behind(session):
  facts, _, _ = session
  assert facts["after"] == facts["before"]
  assert facts["after an interruption"] == facts["before"]


def test_a_config_is_not_changed(session):
  facts, _, _ = session
  assert facts["raw is unchanged"]


def test_a_run_shows_its_accuracy(session):
  facts, folder, _ = session
  run = mx.open_run(folder / facts["workdir"])
  assert run.accuracy == run.result.test.accuracy
  shown = f"<Run {facts['workdir']}: test accuracy {run.accuracy:.2%}>"
  assert facts["repr"] == shown
  untested = dataclasses.replace(run.result, test=None)
  run = mx.Run(run.workdir, run.config, untested)
  assert run.accuracy == run.result.validation.last.accuracy
  assert f"validation accuracy {run.accuracy:.2%}" in repr(run)
  with pytest.raises(mx.UserError, match="has no test split"):
    run.predictions("test")


def test_an_evaluation_has_the_numbers_of_the_command(session):
  facts, _, _ = session
  assert facts["evaluated"].pop("notes") == []
  for measured in (facts["evaluated"], facts["printed"]):
    for view in measured["views"].values():
      assert view.pop("milliseconds") > 0
  assert facts["evaluated"] == facts["printed"]
  assert "accuracy" in facts["evaluated"]["views"]["identity+shifts"]


def test_predictions_of_a_folder_a_file_and_a_list(session):
  facts, folder, done = session
  assert facts["predicted"] == [
    ["photos/a.png", "photos/b.png"],
    ["photos/b.png"],
    ["photos/b.png", "photos/a.png"],
  ]
  assert "photos/c.png" in done.stderr
  assert (folder / facts["overlay"]).is_file()
  assert "<html" in (folder / facts["report"]).read_text("utf-8")


def _without(config, key):
  del config[key]
  return config


def _with(**values):
  config = cutmix.get_config()
  config.update(values)
  return config


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    ({"config": "cutmux"}, "there is no file or recipe 'cutmux'"),
    ({"config": 5}, "config must be a text, a path or a ConfigDict, got int$"),
    ({"config": {"seed": 1}}, "config must be .*, got dict$"),
    ({"config": "compare"}, "by the command compare or mixaug_jax.compare"),
    ({"config": _with(mix={"alhpa": 0.2})}, "did you mean mix.alpha"),
    ({"config": _with(mixx={"name": "x"})}, "config.mixx.name is not a config"),
    (
      {"config": _with(mix={"cutmix": {"alfa": 1.0}})},
      "mix.cutmix.alfa is not",
    ),
    ({"config": _with(steps=True)}, "config.steps must be a whole number, got"),
    ({"overrides": {"steps": True}}, "config.steps must be a whole number"),
    ({"overrides": {"epochs": np.bool_(True)}}, "epochs must be a number, got"),
    ({"overrides": {"steps": np.ones(9)}}, "whole number, got ndarray$"),
    ({"overrides": [("steps", 6)]}, "overrides must be a dict, .* got list$"),
    ({"overrides": {1: 6}}, "a key of overrides must be a text, got int$"),
    ({"workdir": "x\0y"}, "workdir: it holds a zero byte"),
    ({"config": "compare"}, "compare is a comparison"),
    ({"config": compare.get_config()}, "is a comparison"),
    ({"config": ConfigDict({"seed": 1})}, "lacks augment."),
    ({"config": _without(default.get_config(), "mix")}, "lacks mix."),
    ({"config": cutmix.get_config(), "workdir": None}, "name a workdir"),
    ({"workdir": 5}, "workdir must be a text or a path, got int$"),
    ({"workdir": ""}, "workdir: it is empty"),
    ({"workdir": "gs://bucket/run"}, "workdir: gs://bucket/run is an address"),
    ({"data_dir": "gs://bucket"}, "config.data.dir: gs://bucket is an address"),
    ({"epochs": "ten"}, "config.epochs must be a number, got 'ten'"),
    ({"epochs": [1]}, "config.epochs must be a number, got list$"),
    ({"epochs": -1}, "config.epochs must be above 0"),
    ({"epochs": 3, "overrides": {"epochs": 4}}, "config.epochs is given twice"),
    ({"overrides": {"stepz": 3}}, "stepz is not a config key; did you mean"),
    ({"overrides": {"steps": 2.5}}, "config.steps must be a whole number"),
    ({"overrides": {"seed": None}}, "config.seed must be set"),
    ({"epochs": 3, "overrides": {"steps": 6}}, "set one of config.steps"),
  ],
)
def test_a_wrong_value_is_one_sentence(tmp_path, arguments, sentence):
  arguments = {"config": "cutmix", "workdir": tmp_path / "a"} | arguments
  with pytest.raises(mx.UserError, match=sentence) as raised:
    mx.train(**arguments)
  assert len(str(raised.value).splitlines()) == 1
  assert not (tmp_path / "a").exists()


def test_a_wrong_keyword_is_a_type_error(tmp_path):
  with pytest.raises(TypeError, match="epoch"):
    mx.train("cutmix", epoch=3)
  with pytest.raises(AttributeError, match="has no attribute 'trian'"):
    _ = mx.trian


def test_a_directory_without_a_run_and_wrong_words(session, tmp_path):
  facts, folder, _ = session
  with pytest.raises(mx.UserError, match="is not the directory of a finished"):
    mx.open_run(tmp_path)
  run = mx.open_run(folder / facts["workdir"])
  for call, sentence in (
    (lambda: run.evaluate("tset"), "split must be one of train, validation"),
    (lambda: run.evaluate(average="x"), "average must be one of logits, prob"),
    (lambda: run.evaluate(views="spin"), "views must be one of"),
    (lambda: run.predict([]), "images is empty"),
    (lambda: run.predict(tmp_path), "no image"),
    (lambda: run.predict(tmp_path / "gone.png"), "gone.png"),
  ):
    with pytest.raises(mx.UserError, match=sentence):
      call()


def test_jax_that_is_in_use_is_a_warning(session, monkeypatch):
  facts, folder, _ = session
  jax.devices()
  monkeypatch.setenv("XLA_FLAGS", "")
  monkeypatch.setattr(jax_setup, "_WITH_YNNPACK", [_jaxlib()])
  with pytest.warns(UserWarning, match="JAX is in use already, so that --xla"):
    mx.train("cutmix", workdir=folder / facts["workdir"], overrides=STEPS)
  assert os.environ["XLA_FLAGS"] == ""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert jax_setup.prepare() == []
  assert jax_setup.prepare(True) == ["--xla_gpu_deterministic_ops=true"]


def _jaxlib():
  import jaxlib.version

  return jaxlib.version.__version_info__[:2]


def test_the_names_are_listed_and_documented():
  assert set(mx.__all__) <= set(dir(mx))
  for name in mx.__all__:
    assert getattr(mx, name).__doc__, name
  assert mx.augment.cutmix.__name__ == "cutmix"


_SMALL = """
from ml_collections import ConfigDict
from mixaug_jax.configs import default

def get_config(dataset="digits"):
  config = ConfigDict()
  config.base = default.get_config(dataset)
  config.base.steps = 4
  config.base.log.writers = ""
  config.baseline, config.goal, config.seeds = "none", 0.05, 2
  config.arms = ConfigDict({"none": {}, "cut": {"mix": {"name": "cutmix"}}})
  return config
"""

_COMPARE = """
import json
import pathlib
import shutil
import sys

import mixaug_jax as mx
from mixaug_jax.comparison import arms, plan

sys.argv = ["/lib/ipykernel_launcher.py", "-f", "/run/kernel-1.json"]
mx.prepare()
# All but the last run are trained here, which takes less time.
cells = plan.make(arms.load("small.py", {}), pathlib.Path("runs")).cells
runs = {x.name: mx.train(x.config, workdir=x.workdir) for x in cells[:-1]}
shutil.copytree("runs", "failing")
shutil.rmtree("failing/cut")
found = mx.compare("small.py", workdir="runs", jobs=1)
last = cells[-1]
runs[last.name] = mx.open_run(last.workdir)
facts = {
  "accuracy": {name: x.result.test.accuracy for name, x in runs.items()},
  "results": found.results,
  "repr": repr(found),
  "page": str(found.page),
}
try:
  mx.compare(
    pathlib.Path("small.py"),
    workdir="failing",
    overrides={"seeds": 1, "arms.cut.log.writers": "builtins:int"},
  )
except RuntimeError as error:
  facts["failure"] = str(error)
json.dump(facts, open("facts.json", "w"))
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
  folder = tmp_path_factory.mktemp("comparison")
  (folder / "small.py").write_text(_SMALL)
  done = _python("-c", _COMPARE, cwd=folder)
  return json.loads((folder / "facts.json").read_text()), folder, done


def test_a_comparison_returns_the_numbers_of_its_runs(compared):
  facts, folder, done = compared
  accuracy = facts["accuracy"]
  for name, arm in facts["results"]["arms"].items():
    each = [accuracy[f"{name}/{seed}"] for seed in (0, 1)]
    assert arm["accuracy"]["each"] == pytest.approx(each)
  assert facts["repr"] == "<Comparison runs: none, cut>"
  text = (folder / facts["page"]).read_text("utf-8")
  assert "python -m mixaug_jax.compare --config=small.py" in text
  assert "ipykernel" not in text + done.stdout + done.stderr


def test_a_run_that_fails_raises(compared):
  facts, _, done = compared
  assert facts["failure"].startswith("some runs of failing failed")
  assert "cut/0: failed with 2: config.log.writers" in done.stdout


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    ({"config": "cutmix"}, "cutmix"),
    (
      {"config": compare.get_config()},
      "config must be the name .* ConfigDict$",
    ),
    ({"workdir": 5}, "workdir must be a text or a path"),
    ({"arms": "cutmux"}, "^arms: cutmux"),
    ({"arms": 3}, "arms must be a text or a list of texts, got int$"),
    ({"arms": [3]}, "arms must be .*, got list of other values$"),
    ({"arms": ["cutmux"]}, "cutmux"),
    ({"overrides": {"seeds": "x"}}, "config.seeds must be a whole number"),
    ({"overrides": {"seeds": None}}, "config.seeds must be"),
    ({"overrides": {"base.data.dir": "a"}, "data_dir": "b"}, "given twice"),
    ({"jobs": "many"}, "jobs must be a whole number from 1 on, got str$"),
    ({"jobs": 0}, "jobs must be a whole number from 1 on, got 0$"),
  ],
)
def test_a_wrong_value_of_a_comparison_is_one_sentence(
  tmp_path, arguments, sentence
):
  with pytest.raises(mx.UserError, match=sentence):
    mx.compare(**{"workdir": tmp_path / "a"} | arguments)
  assert not (tmp_path / "a").exists()


def test_a_comparison_checks_the_data_before_a_run_starts(tmp_path):
  (tmp_path / "small.py").write_text(_SMALL)
  workdir = tmp_path / "a"
  with pytest.raises(mx.UserError, match=r"is not read.*:folder to config$"):
    mx.compare(tmp_path / "small.py", workdir=workdir, data_dir=tmp_path)
  assert not workdir.exists()


def test_a_frozen_config_and_the_group_of_a_mixer_are_taken():
  config = _with(mix={"BandMix": {"max_share": 0.3}})
  resolved = api._resolved(config, {"steps": 6})
  assert resolved == api._resolved(FrozenConfigDict(config), {"steps": 6})
  assert (resolved.steps, resolved.mix.BandMix.max_share) == (6, 0.3)


@pytest.mark.parametrize(
  ("call", "sentence"),
  [
    (lambda run: run.evaluate(views=None), "views must be .*, got NoneType$"),
    (lambda run: run.evaluate(views=[1]), "views must be .* other values$"),
    (lambda run: run.evaluate(np.ones(9)), "split must be .*, got ndarray$"),
    (lambda run: run.predict(3), "images must be a path, .*, got int$"),
    (
      lambda run: run.predict(np.ones((9, 9))),
      "images must be .* got ndarray$",
    ),
    (
      lambda run: run.predict("digit.png", stage="stage1"),
      "^stage draws nothing without output=",
    ),
    (lambda run: run.predictions("foo"), "split must be .*, got foo$"),
  ],
)
def test_a_wrong_argument_is_one_sentence(
  tmp_path, monkeypatch, call, sentence
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("digit.png").touch()
  # Nothing of the run is read before its arguments are checked.
  with pytest.raises(mx.UserError, match=sentence):
    call(mx.Run(tmp_path, None, None))
