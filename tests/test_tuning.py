"""Trials, the recipes that are chosen by them, and the runs of the choices."""

import copy
import dataclasses
import json
import math
import pathlib
import re
import shutil
import types

import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.analysis import calibration
from mixaug_jax.comparison import (
  arms,
  launch,
  page,
  plan,
  same_data,
  tuning,
)
from mixaug_jax.comparison.executors import Local
from mixaug_jax.errors import Diverged, UserError
from mixaug_jax.training import records

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = str(ROOT / "configs" / "compare.py")
NOWHERE = pathlib.Path("/nowhere")


def _load(**overrides):
  overrides = {key.replace("__", "."): x for key, x in overrides.items()}
  return arms.load(CONFIG, {"seeds": "2", "tune.trials": "8"} | overrides)


@pytest.mark.parametrize(
  ("overrides", "said"),
  [
    ({"tune__trials": "7"}, "must be a multiple of the number of studies, 2"),
    ({"tune__trials": "2"}, "try 4, or 0 for no tuning"),
    ({"tune__trials": "-2"}, "got -2; try 4"),
    ({"tune__design": "fix"}, "config.tune.design must be one of studies, fix"),
    ({"tune__trials": "10000000"}, "at most 10,000, got 10,000,000; try 10,0"),
    (
      {"tune__space__stepz": "log 1 2"},
      "stepz is not a config key; did you",
    ),
    ({"tune__space__epochs": "log 1 2"}, "tune one of the two"),
    ({"tune__space__mix__name": "choice cutmix mixup"}, "not a hyperparameter"),
    ({"tune__space__log__every_steps": "log 1 9"}, "not a hyperparameter"),
    (
      {"tune__space__augment__random_hue__max_delta": "uniform 0.1 0.2"},
      "config.tune.space.augment.random_hue.max_delta has no effect: in every",
    ),
    (
      {"arms__cutmix__mix__name": "cutmx"},
      "arm cutmix: config.mix.name must be one of",
    ),
    (
      {"tune__space__steps": "choice 0 9"},
      "config.tune.space.steps: arm basel",
    ),
    (
      {"tune__space__optimizer__learning_rate": "log 0.1 "},
      "config.tune.space.optimizer.learning_rate must be log LOW HIGH",
    ),
    (
      {"tune__space__mix__probability": "uniform 0.5 2"},
      "config.tune.space.mix.probability: arm basic+cutmix: config.mix: prob",
    ),
  ],
)
def test_a_mistake_is_named(overrides, said):
  with pytest.raises(UserError, match=re.escape(said)):
    plan.make(_load(**overrides), NOWHERE)


def test_a_mistake_of_an_arm_is_not_one_of_a_range():
  overrides = {"arms__cutmix__evaluate__best_by": "balanced_accuracy"}
  with pytest.raises(UserError, match=r"^config\.arms\.cutmix: evaluate\."):
    plan.make(_load(**overrides), NOWHERE)


def test_a_range_is_added_and_removed_on_the_command_line():
  config = _load(
    tune__space__mix__alpha="none",
    tune__space__loss__label_smoothing="uniform 0 0.2",
  )
  texts = arms.space_texts(config)
  assert texts["loss.label_smoothing"] == "uniform 0 0.2"
  assert "mix.alpha" not in texts
  removed = {key: "none" for key in arms.space_texts(_load())}
  removed = {f"tune.space.{key}": text for key, text in removed.items()}
  with pytest.raises(UserError, match=r"config\.tune\.space is empty"):
    plan.make(_load(**removed), NOWHERE)
  del removed["tune.space.mix.alpha"]
  with pytest.raises(UserError, match="no key that applies to the arm basel"):
    plan.make(_load(**removed), NOWHERE)


@pytest.mark.parametrize("key", ["trials", "design", "space"])
def test_a_file_with_half_a_tuning_is_refused(key):
  config = copy.deepcopy(_load())
  with config.unlocked():
    del config.tune[key]
  with pytest.raises(UserError, match=f"config.tune has no '{key}'"):
    plan.make(config, NOWHERE)


@pytest.mark.parametrize(
  ("overrides", "key"),
  [
    ({"optimizer__learning_rate": "0.1"}, "optimizer.learning_rate"),
    ({"steps": "400"}, "steps"),
    ({"epochs": "3"}, "steps"),
    ({"mix__name": "cutmix", "mix__cutmix__alpha": "1"}, "mix.alpha"),
  ],
)
def test_a_value_that_is_pinned_is_not_tuned(overrides, key):
  config = _load(**{f"arms__basic__{k}": x for k, x in overrides.items()})
  tuned = lambda name: [each.key for each in arms.ranges(config, name)]
  assert key not in tuned("basic")
  assert key in tuned("basic+cutmix")
  pinned = arms.of_arm(config, "basic")
  assert str(config_lib.leaves(pinned)[key]) in ("0.1", "400", "None")


def test_the_length_that_an_arm_of_a_file_sets_is_not_tuned():
  config = copy.deepcopy(_load())
  with config.unlocked():
    config.arms.mixup.epochs = 3.0
  assert "steps" not in [each.key for each in arms.ranges(config, "mixup")]


def test_what_an_arm_sets_itself_is_not_tuned_in_it():
  comparison = plan.make(_load(arms__cutmix__mix__alpha="0.5"), NOWHERE)
  alphas = {
    name: {
      cell.config.mix.alpha for cell in comparison.trials if cell.arm == name
    }
    for name in ("cutmix", "mixup")
  }
  assert alphas["cutmix"] == {0.5}
  assert len(alphas["mixup"]) == 7  # None, and six points.


def test_all_arms_have_the_same_trials_of_what_they_share():
  comparison = plan.make(_load(), NOWHERE)
  assert not comparison.cells
  assert len(comparison.trials) == 7 * 8
  by_name = {cell.name: cell for cell in comparison.trials}
  shared = ("optimizer.learning_rate", "optimizer.weight_decay", "steps")
  default = arms.of_arm(_load(), "baseline")
  for number in range(8):
    study = number // 4
    of_all = [by_name[f"{arm}/trial_{number:02}"] for arm in comparison.arms]
    leaves = [config_lib.leaves(cell.config) for cell in of_all]
    for key in (*shared, "model.zero_init_residual", "seed"):
      assert len({x[key] for x in leaves}) == 1, key
    assert {x["data.test"] for x in leaves} == {False}
    # The seeds 0 and 1 are those of the runs that are compared.
    assert {x["seed"] for x in leaves} == {2 + study}
    mixing = [x for x in leaves if x["mix.name"] != "none"]
    assert len(mixing) == 5
    if number % 4:
      assert len({(x["mix.alpha"], x["mix.probability"]) for x in mixing}) == 1
  # The first trial of a study is the recipe as it is written.
  assert by_name["cutmix/trial_04"].config.mix.alpha is None
  assert by_name["mixup/trial_04"].config.optimizer == default.optimizer
  assert by_name["mixup/trial_04"].trial.values == {}
  # Without mixing its keys keep their defaults, whose change has no effect.
  assert by_name["basic/trial_05"].config.mix.probability == 0.5
  values = {cell.config.optimizer.learning_rate for cell in comparison.trials}
  assert len(values) == 1 + 6


@pytest.mark.parametrize(
  ("trials", "seeds"), [(10, 5), (20, 5), (25, 5), (16, 4), (30, 3), (100, 5)]
)
def test_the_trials_leave_no_part_of_a_range_out(trials, seeds):
  config = _load(tune__trials=str(trials), seeds=str(seeds))
  drawn = [x.places for x in tuning.planned(config, ["cutmix"]) if x.places]
  assert len(drawn) == trials - seeds
  for each in arms.ranges(config, "cutmix"):
    if each.kind != "choice":
      places = sorted([0, 1, *(x[each.key] for x in drawn)])
      assert max(np.diff(places)) < 2.5 / len(drawn), each.key


def test_a_fixed_recipe_has_one_study_for_all_seeds():
  comparison = plan.make(_load(tune__design="fixed", tune__trials="5"), NOWHERE)
  assert {cell.seed for cell in comparison.trials} == {2}
  assert {cell.trial.study for cell in comparison.trials} == {0}
  assert sum(not cell.trial.values for cell in comparison.trials) == 7


def test_arms_are_selected_with_the_baseline():
  comparison = plan.make(_load(), NOWHERE, ["basic+mixup", "basic"])
  assert list(comparison.arms) == ["baseline", "basic", "basic+mixup"]
  assert comparison.pairs == (("basic+mixup", "basic"),)
  # The points do not depend on the arms.
  whole = plan.make(_load(), NOWHERE)
  assert (
    comparison.cell("basic/trial_06").config
    == whole.cell("basic/trial_06").config
  )
  with pytest.raises(UserError, match="--arms: mixap is not an arm; the arms"):
    plan.make(_load(), NOWHERE, ["mixap"])
  with pytest.raises(UserError, match="--arms names no arm beside the basel"):
    plan.make(_load(), NOWHERE, ["baseline"])


def test_a_run_waits_for_its_recipe():
  comparison = plan.make(_load(), NOWHERE, ["mixup"])
  with pytest.raises(UserError, match="mixup/1 is not chosen yet; 16 of 16 tr"):
    comparison.cell("mixup/1")
  with pytest.raises(UserError, match="mixup/2 is not a run of this compar"):
    comparison.cell("mixup/2")
  with pytest.raises(UserError, match="16 of 16 trials are not finished"):
    _ = comparison.tuning


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
  """A small tuned comparison, of which one trial diverged."""
  workdir = tmp_path_factory.mktemp("tuned") / "runs"
  config = _load(
    tune__trials="4",
    base__steps="4",
    tune__space__steps="choice 3 6",
    tune__space__optimizer__learning_rate="log 0.01 1e38",
    base__log__writers="console",
  )
  return config, workdir, _train(config, workdir)


def _train(config, workdir):
  """Trains in this process what `launch.run` trains in others."""
  started = []

  def run(comparison, cells, command, executor, later=0):
    failed = []
    for cell in cells:
      if cell.finished or cell.diverged is not None:
        continue
      started.append(cell.name)
      # All recipes are chosen before a run may read the test set.
      assert cell.trial or (workdir / tuning.CHOSEN_FILE).exists()
      try:
        same_data.train(cell, comparison)
      except Diverged:
        failed.append(cell)
    return failed

  make = lambda: plan.make(config, workdir, ["mixup"])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(launch, "run", run)
    comparison, _ = launch.run_all(
      make(), make, lambda x: tuning.choose(x, config), [], Local()
    )
  return comparison, started


def test_trials_come_first_and_leave_the_test_set_unread(tuned):
  _, workdir, (comparison, started) = tuned
  assert started == [cell.name for cell in comparison.trials] + [
    "baseline/0",
    "mixup/0",
    "baseline/1",
    "mixup/1",
  ]
  for cell in comparison.trials:
    assert not (cell.workdir / "predictions_test.npz").exists()
    assert not (cell.workdir / "checkpoints").exists()
    if cell.finished:
      assert records.read_result(cell.workdir).test is None
  for cell in comparison.cells:
    assert (
      cell.diverged is not None
      or (cell.workdir / "predictions_test.npz").exists()
    )
  assert list(workdir.glob("*/seed_*/checkpoints"))


def test_each_study_chooses_its_best_trial(tuned):
  _, workdir, (comparison, _) = tuned
  found = comparison.tuning
  chosen = json.loads((workdir / "chosen.json").read_text())
  assert any(cell.diverged is not None for cell in comparison.trials)
  for name in ("baseline", "mixup"):
    for study in range(2):
      trials = found.trials[name][study]
      assert [trial.number for trial in trials] == [2 * study, 2 * study + 1]
      for trial in trials:
        folder = workdir / name / f"trial_{trial.number:02}"
        if trial.diverged is None:
          with np.load(folder / "predictions_validation.npz") as file:
            correct = file["logits"].argmax(-1) == file["labels"]
          np.testing.assert_array_equal(trial.correct, correct)
          assert trial.accuracy == correct.mean()
        else:
          assert trial.accuracy == 0.1
          assert list(trial.correct) == [0.1] * 50
        assert trial.steps == trial.values["steps"]
      over = [x for x in trials if x.diverged is None] or trials
      best = max(over, key=lambda x: (x.accuracy, -(x.loss or 0)))
      assert found.chosen[name][study] is best
      choice = chosen["arms"][name][study]
      assert choice["trial"] == best.number
      assert choice["values"] == best.values
      assert choice["as_written"] == (best.number % 2 == 0)
      run, tried = (
        copy.deepcopy(comparison.cell(f"{name}/{x}").config)
        for x in (study, f"trial_{best.number:02}")
      )
      assert (run.seed, tried.seed) == (study, 2 + study)
      with run.unlocked(), tried.unlocked():
        run.seed, run.data.test = tried.seed, tried.data.test
      assert run == tried


def test_the_page_shows_the_tuning(tuned):
  _, workdir, (comparison, _) = tuned
  printed = page.write(comparison, "the command")
  html = (workdir / "report.html").read_text("utf-8")
  numbers = json.loads((workdir / "results.json").read_text())
  assert printed.startswith("Tuned alike (4 trials an arm in 2 studies), mi")
  assert "With the recipe as it is written, the difference of mixup" in printed
  found = numbers["tuning"]
  assert found["arms"]["mixup"]["accuracy"] == np.mean(
    [trial.accuracy for trial in comparison.tuning.chosen["mixup"]]
  )
  for text in (
    "Tuning included: 2 studies",
    "Each arm was tuned with 4 trials in 2 studies",
    "Trials that diverged:",
    "The gain at every recipe",
    "4 runs of 2 arms",
  ):
    assert text in html, text
  rows = re.search(
    r'aria-label="Chosen recipes".*?</table>', html, flags=re.DOTALL
  )[0]
  assert rows.count('<th scope="row">') == 4
  for name in ("baseline", "mixup"):
    for trial in comparison.tuning.chosen[name]:
      assert f"<td>{trial.values['optimizer.learning_rate']:.3g}" in rows
  for name in ("best_of_k", "gains"):
    assert (workdir / "figures" / f"{name}.png").exists()


def test_a_finished_comparison_trains_nothing_again(tuned):
  config, workdir, _ = tuned
  assert _train(config, workdir)[1] == []


def test_choices_of_another_tuning_are_refused(tuned):
  config, workdir, _ = tuned
  other = copy.deepcopy(config)
  with other.unlocked():
    other.tune.space.optimizer.learning_rate = "log 0.01 0.5"
  with pytest.raises(UserError, match="choices of another tuning; it differs"):
    plan.make(other, workdir)


@pytest.mark.parametrize(
  "change",
  [
    lambda content: content.pop("arms"),
    lambda content: content["arms"]["mixup"].pop(),
    lambda content: content["arms"]["mixup"][0].pop("values"),
    lambda content: content["arms"]["mixup"].reverse(),
    lambda content: content["arms"].update(mixup=3),
  ],
)
def test_damaged_choices_are_reported(tuned, tmp_path, change):
  config, workdir, _ = tuned
  content = json.loads((workdir / "chosen.json").read_text())
  change(content)
  (tmp_path / "chosen.json").write_text(json.dumps(content))
  with pytest.raises(UserError, match=r"chosen\.json is damaged; delete it"):
    plan.make(config, tmp_path, ["mixup"])


def _trial(score, loss=1.0, diverged=None):
  # The accuracy plays no part.
  return types.SimpleNamespace(
    accuracy=1 - score, score=score, loss=loss, diverged=diverged
  )


@pytest.mark.parametrize(
  ("trials", "best"),
  [
    ([_trial(0.5), _trial(0.6)], 1),
    ([_trial(0.5, 2.0), _trial(0.5, 1.0)], 1),
    ([_trial(0.5), _trial(0.5)], 0),
    ([_trial(0.5, math.nan), _trial(0.5, 9.0)], 1),
    ([_trial(0.1, None, 7), _trial(0.08)], 1),
    ([_trial(0.1, None, 7), _trial(0.1, None, 3)], 0),
  ],
)
def test_the_best_trial_has_a_high_score_then_a_low_loss(trials, best):
  assert tuning._best(trials) is trials[best]


def test_the_score_of_a_trial_is_what_best_by_names(tuned):
  comparison = tuned[2][0]
  cell = next(cell for cell in comparison.trials if cell.finished)
  balanced = copy.deepcopy(cell.config)
  with balanced.unlocked():
    balanced.evaluate.best_by = "balanced_accuracy"
  like = records.read_result(cell.workdir)
  by = {
    x.evaluate.best_by: tuning._read(
      dataclasses.replace(cell, build=lambda x=x: x), like
    )
    for x in (cell.config, balanced)
  }
  with np.load(cell.workdir / "predictions_validation.npz") as file:
    each = calibration.balanced_accuracy(file["logits"], file["labels"])
  trial = by["accuracy"]
  assert trial.score == trial.accuracy != each
  assert by["balanced_accuracy"].score == each
  assert by["balanced_accuracy"].accuracy == trial.accuracy


def test_choices_stand_if_another_trial_is_better(tuned, tmp_path):
  config, workdir, (comparison, _) = tuned
  shutil.copytree(workdir, tmp_path / "runs")
  other = 1 - comparison.tuning.chosen["mixup"][0].number
  content = json.loads((workdir / "chosen.json").read_text())
  content["arms"]["mixup"][0]["trial"] = other
  (tmp_path / "runs" / "chosen.json").write_text(json.dumps(content))
  again = plan.make(config, tmp_path / "runs", ["mixup"], check=False)
  assert again.tuning.chosen["mixup"][0].number == other


def test_a_missing_trial_is_trained_and_a_missing_choice_is_made(
  tuned, tmp_path
):
  config, workdir, _ = tuned
  runs = tmp_path / "runs"
  shutil.copytree(workdir, runs)
  before = (runs / "chosen.json").read_text()
  shutil.rmtree(runs / "mixup" / "trial_00")
  assert _train(config, runs)[1] == ["mixup/trial_00"]
  assert (runs / "chosen.json").read_text() == before
  (runs / "chosen.json").unlink()
  make = lambda: plan.make(config, runs, ["mixup"])
  comparison = make()
  assert not comparison.cells
  settled = launch.settled(comparison, make, lambda x: tuning.choose(x, config))
  assert (runs / "chosen.json").read_text() == before
  assert len(settled.cells) == 4
  assert not settled.unfinished


def test_more_arms_are_tuned_later(tuned):
  config, workdir, _ = tuned
  comparison = plan.make(config, workdir, ["mixup", "cutmix"])
  assert {cell.arm for cell in comparison.unfinished_trials} == {"cutmix"}
  assert {cell.arm for cell in comparison.cells} == {"baseline", "mixup"}
  with pytest.raises(UserError, match="cutmix/0 is not chosen yet; 4 of 12"):
    comparison.cell("cutmix/0")


def test_runs_without_tuning_are_not_taken_for_tuned_ones(tmp_path):
  folder = tmp_path / "mixup" / "seed_0"
  folder.mkdir(parents=True)
  (folder / "config.json").write_text("{}")
  with pytest.raises(UserError, match="a run whose recipe was not tuned here"):
    plan.make(_load(), tmp_path)


def test_a_run_has_the_data_of_its_trials(tuned, tmp_path):
  config, workdir, _ = tuned
  shutil.copytree(workdir, tmp_path / "runs")
  comparison = plan.make(config, tmp_path / "runs", ["mixup"])
  cell = comparison.cell("mixup/0")
  identity = records.read_data(cell.workdir)
  same_data.check(cell, identity, comparison.trials)
  for path in (tmp_path / "runs").glob("*/trial_*/data.json"):
    content = json.loads(path.read_text())
    content["drawn_from"] = "other"
    path.write_text(json.dumps(content))
  with pytest.raises(UserError, match="images of train and validation differ"):
    same_data.check(cell, identity, comparison.trials)
