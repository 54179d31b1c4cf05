"""A run ends when validation no longer improves, and its result shows it."""

import json
import math
import pathlib
import shutil
import types

import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.command import summary
from mixaug_jax.comparison import arms, plan, words
from mixaug_jax.errors import UserError
from mixaug_jax.run_page import words as run_words
from mixaug_jax.runs import open_run
from mixaug_jax.training import loop, parallel
from mixaug_jax.training.early_stopping import Progress, Rule
from mixaug_jax.training.result import StoppedEarly

RUNS = pathlib.Path(__file__).parent / "data" / "runs"
# Three steps an epoch, and an evaluation after each epoch.
TINY = {
  "model.name": "tiny_model:Tiny",
  "model.sync_batch_norm": "true",
  "data.classes": "3",
  "data.examples_per_class": "12",
  "data.image_size": "8",
  "data.validation_fraction": "0.5",
  "batch_size": "12",
  "steps": "24",
  "evaluate.every_epochs": "1",
  "evaluate.checkpoint": "best",
  "checkpoint.every_steps": "5",
  "checkpoint.keep": "9",
  "log.every_steps": "1",
  "log.writers": "",
  "optimizer.learning_rate": "0.3",
}
# No accuracy rises by so much, so the run stops after three evaluations.
STOPPING = {"early_stopping.patience": "2", "early_stopping.min_delta": "0.9"}


@pytest.mark.parametrize(
  ("accuracies", "patience", "min_delta", "ends"),
  [
    ([0.5, 0.6, 0.6, 0.5, 0.9], 2, 0.0, 4),
    ([0.5, 0.6, 0.6, 0.5, 0.9], 3, 0.0, None),
    ([0.5, 0.4, 0.6, 0.6, 0.6], 2, 0.0, 5),
    # Small gains add up to an improvement.
    ([0.5, 0.56, 0.62, 0.68, 0.74], 2, 0.1, None),
    ([0.5, 0.54, 0.58, 0.62, 0.66], 2, 0.1, 3),
    ([0.5, math.nan, math.nan, 0.9], 2, 0.0, 3),
    ([0.5, 0.4, 0.3, 0.2], None, 0.0, None),
  ],
)
def test_the_rule_counts_evaluations_since_the_last_improvement(
  accuracies, patience, min_delta, ends
):
  rule, progress, ended = Rule(patience, min_delta), Progress(), None
  for number, accuracy in enumerate(accuracies, 1):
    progress.evaluated(10 * number, accuracy, min_delta)
    if ended is None and progress.ends(rule):
      ended = number
  assert ended == ends


def _config(**values):
  return config_lib.load("cutmix", TINY | values)


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch):
  monkeypatch.syspath_prepend(RUNS)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """A run that stops early, and what it prints."""
  workdir = tmp_path_factory.mktemp("stopped") / "run"
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(RUNS)
    loop.train(_config(**STOPPING), workdir)
  return workdir


def _content(workdir):
  """Returns rows, predictions and result, without what depends on time."""
  rows = [json.loads(x) for x in (workdir / "metrics.jsonl").open()]
  for row in rows:
    row.pop("images_per_second", None)
  logits = {}
  for split in ("validation", "test"):
    with np.load(workdir / f"predictions_{split}.npz") as file:
      logits[split] = file["logits"].tobytes()
  result = json.loads((workdir / "result.json").read_text())
  timings = ("seconds", "compile_seconds", "evaluation_seconds")
  for name in (*timings, "images_per_second"):
    del result[name]
  return rows, logits, result


def test_a_run_stops_and_its_result_gives_the_reason(stopped):
  rows, _, result = _content(stopped)
  evaluated = [row for row in rows if row["split"] == "validation"]
  assert [row["step"] for row in evaluated] == [3, 6, 9]
  assert max(row["step"] for row in rows) == 9
  assert (result["steps"], result["epochs"]) == (9, 3)
  assert result["stopped_early"] == {
    "planned_steps": 24,
    "patience": 2,
    "min_delta": 0.9,
    "step": 3,
    "score": evaluated[0]["accuracy"],
  }
  run = open_run(stopped)
  assert run.result.planned_steps == 24
  last = summary.of_run(run.result, stopped).splitlines()[-1]
  assert last.startswith(
    "stopped early at step 9 of 24 with 2 evaluations since step 3 that did not"
  )
  training = dict(run_words.setting(run))["training"]
  assert training.startswith("9 of 24 planned steps of 12 images, 3 epochs")
  assert "stopped early with 2 evaluations since step 3" in training


def _killed(stopped, workdir, keep):
  """Copies a run as it was when it was killed after a checkpoint."""
  shutil.copytree(stopped, workdir)
  (workdir / "result.json").unlink()
  for path in (workdir / "checkpoints").iterdir():
    if path.name.isdigit() and int(path.name) > keep:
      shutil.rmtree(path)


# The checkpoint of step 9 stands because the run ended there.
@pytest.mark.parametrize("keep", [5, 9])
def test_a_killed_run_stops_at_the_same_step_with_the_same_bits(
  stopped, tmp_path, keep, capsys
):
  workdir = tmp_path / "run"
  _killed(stopped, workdir, keep)
  loop.train(_config(**STOPPING), workdir)
  assert f"resuming from step {keep}" in capsys.readouterr().out
  assert _content(workdir) == _content(stopped)


def test_a_finished_run_has_no_other_patience(stopped):
  assert loop.train(_config(**STOPPING), stopped).steps == 9
  more = STOPPING | {"early_stopping.patience": "3"}
  with pytest.raises(UserError, match=r"patience \(there 2, here 3\); name an"):
    loop.train(_config(**more), stopped)


def test_a_large_patience_changes_nothing(tmp_path, capsys):
  short = {"steps": "7"}
  loop.train(_config(**short), tmp_path / "without")
  assert "early" not in capsys.readouterr().out
  patient = short | {"early_stopping.patience": "1000000"}
  loop.train(_config(**patient), tmp_path / "patient")
  assert "cannot stop this run early, because it has only 3 evalu" in (
    capsys.readouterr().out
  )
  rows, logits, result = _content(tmp_path / "patient")
  without = _content(tmp_path / "without")
  assert (rows, logits) == without[:2]
  assert result["stopped_early"] is None
  assert result | {"config_crc32": 0} == without[2] | {"config_crc32": 0}


def test_the_average_is_watched_where_it_is_tested(tmp_path):
  values = {"ema.decay": "0.999", "evaluate.checkpoint": "ema"}
  result = loop.train(_config(**STOPPING, **values), tmp_path / "run")
  rows, _, _ = _content(tmp_path / "run")
  first = next(row for row in rows if row["split"] == "validation")
  assert first["ema_accuracy"] != first["accuracy"]
  assert result.stopped_early.score == first["ema_accuracy"]
  assert (result.chosen_step, result.steps) == (9, 9)


def test_the_last_weights_of_a_run_that_stopped_are_saved(tmp_path):
  """No other checkpoint falls on the step: the best one was before it."""
  values = {"early_stopping.patience": "2", "evaluate.checkpoint": "last"}
  values |= {"steps": "60", "checkpoint.every_steps": "59"}
  result = loop.train(_config(**values), tmp_path / "run")
  assert result.stopped_early.step == result.validation.best.step
  assert result.steps == result.chosen_step == result.stopped_early.step + 6
  assert (tmp_path / "run" / "checkpoints" / str(result.steps)).is_dir()
  open_run(tmp_path / "run").classifier()


def test_process_0_decides_for_all(tmp_path, monkeypatch):
  """A process whose own evaluations differ in a bit does what the others do."""
  asked = []

  def from_first(function):
    asked.append(text := function())
    return "" if text in ("", "early") else text

  monkeypatch.setattr(parallel, "from_first", from_first)
  values = {"steps": "10", "data.test": "false"}
  result = loop.train(_config(**STOPPING, **values), tmp_path / "run")
  assert asked.count("early") == 1
  assert (result.steps, result.stopped_early) == (10, None)


@pytest.mark.parametrize(
  ("key", "value", "said"),
  [
    ("patience", "0", "early_stopping.patience must be at least 1"),
    ("patience", "1.5", "early_stopping.patience must be a whole number"),
    ("min_delta", "1", "early_stopping.min_delta must be at least 0 and below"),
    ("min_delta", "-0.1", "early_stopping.min_delta must be at least 0"),
  ],
)
def test_a_wrong_value_is_refused(key, value, said):
  with pytest.raises(UserError, match=said):
    config_lib.load("cutmix", {f"early_stopping.{key}": value})


def test_a_gain_without_a_patience_is_reported():
  config = config_lib.load("cutmix", {"early_stopping.min_delta": "0.1"})
  (report,) = config_lib.without_effect(config)
  assert "min_delta has no effect" in report


def _result(steps, planned):
  early = StoppedEarly(planned, 3, 0.0, 20, 0.8) if steps < planned else None
  result = types.SimpleNamespace(
    steps=steps, planned_steps=planned, stopped_early=early
  )
  return types.SimpleNamespace(result=result)


def test_a_comparison_names_the_runs_that_stopped_early():
  runs = {"baseline": {0: _result(400, 400)}, "cutmix": {0: _result(120, 400)}}
  comparison = types.SimpleNamespace(runs=runs)
  (text,) = words.stopped_early(comparison)
  assert text.startswith("Stopped early: cutmix/0 at step 120 of 400. ")
  del runs["cutmix"]
  assert not words.stopped_early(comparison)
  # Curves are drawn by step, because all runs have one schedule.
  lengths = plan.Comparison.lengths.fget
  runs["cutmix"] = {0: _result(120, 400)}
  assert lengths(comparison) == {400}


def _tuned(**values):
  return arms.load("compare", {"seeds": "2", "tune.trials": "4"} | values)


def _patience(config):
  """Returns the patience of the runs and trials of each arm."""
  planned = plan.make(config, pathlib.Path("/nowhere"), ["cutmix"], check=False)
  return {
    (cell.arm, cell.config.early_stopping.patience)
    for cell in (*planned.trials, *planned.cells)
  }


def test_trials_stop_by_one_rule():
  key = "early_stopping.patience"
  shared = _tuned(**{f"base.{key}": "3"})
  assert _patience(shared) == {("baseline", 3), ("cutmix", 3)}
  with pytest.raises(UserError, match="must be the same in all arms that are"):
    arms.check_tuning(_tuned(**{f"arms.cutmix.{key}": "3"}))
  with pytest.raises(UserError, match="is not a hyperparameter of a recipe"):
    arms.check_tuning(_tuned(**{f"tune.space.{key}": "choice 2 3"}))
  untuned = _tuned(**{"tune.trials": "0", f"arms.cutmix.{key}": "3"})
  assert _patience(untuned) == {("baseline", None), ("cutmix", 3)}
