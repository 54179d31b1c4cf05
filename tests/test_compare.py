"""Comparisons: arms, the command, resuming, mistakes, the page."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from matplotlib.figure import Figure

from mixaug_jax import classifier
from mixaug_jax import config as config_lib
from mixaug_jax.analysis import calibration, likelihood
from mixaug_jax.command import compare
from mixaug_jax.comparison import (
  arms,
  drawings,
  launch,
  page,
  pictures,
  plan,
  words,
)
from mixaug_jax.comparison.executors import local
from mixaug_jax.errors import Interrupted, NoActivationMaps, UserError
from mixaug_jax.training import loop

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = str(ROOT / "configs" / "compare.py")
SMALL = """
from ml_collections import ConfigDict
from configs import default


def get_config(dataset="digits"):
  config = ConfigDict()
  config.base = default.get_config(dataset)
  config.base.steps = 20
  config.base.evaluate.every_epochs = 9.6  # 10 steps.
  config.base.log.every_steps = 2
  config.baseline, config.goal, config.seeds = "none", 0.05, 2
  config.arms = ConfigDict({"none": {}, "cut": {"mix": {"name": "cutmix"}}})
  return config
"""


def _plan(workdir="/nowhere", **overrides):
  """The plan of configs/compare.py with three seeds and without tuning."""
  overrides = {key.replace("__", "."): x for key, x in overrides.items()}
  plain = {"tune.trials": "0", "seeds": "3"}
  config = arms.load(CONFIG, plain | overrides)
  return plan.make(config, pathlib.Path(workdir))


def test_arms_of_a_seed_differ_in_their_overrides_alone():
  cells = {cell.name: cell for cell in _plan(base__steps="7").cells}
  assert len(cells) == 21
  base, other = cells["baseline/2"].config, cells["basic+mixup/2"].config
  assert (base.seed, base.steps, base.mix.name) == (2, 7, "none")
  assert other.mix.name == "mixup"
  assert other.augment.random_crop.padding == 2
  with other.unlocked():
    other.mix, other.augment = base.mix, base.augment
  assert other == base


def test_all_arms_see_the_same_stored_images():
  config = arms.load(f"{CONFIG}:folder", {})
  cells = plan.make(config, pathlib.Path("/nowhere")).cells
  assert {cell.config.data.cache_size for cell in cells} == {256}
  assert {cell.config.data.cache_size for cell in _plan().cells} == {16}


def test_an_arm_of_other_weights_has_their_recipe():
  one_key = {"arms.mixup.model.pretrained": "none"}
  config = arms.load(f"{CONFIG}:folder", one_key)
  comparison = plan.make(config, pathlib.Path("/nowhere"))
  cutmix, mixup = (
    comparison.cell(f"{name}/0").config for name in ("cutmix", "mixup")
  )
  assert (cutmix.model.pretrained, mixup.model.pretrained) == ("keras", None)
  rates = [each.optimizer.learning_rate for each in (cutmix, mixup)]
  assert rates == [0.003, 0.05]
  assert mixup.optimizer.freeze is None


def test_the_rates_that_are_tuned_on_a_folder_follow_its_weights():
  tuned = {"tune.trials": "10", "base.model.name": "resnet18"}
  config = arms.load(f"{CONFIG}:folder", tuned)
  plan.make(config, pathlib.Path("/nowhere"))
  rate = arms.space_texts(config)["optimizer.learning_rate"]
  assert rate == "log 0.0003 0.03"


def test_seeds_are_complete_so_that_an_interrupted_comparison_has_pairs():
  seeds = [cell.seed for cell in _plan().cells]
  assert seeds == sorted(seeds)


@pytest.mark.parametrize(
  ("overrides", "said"),
  [
    ({"base__stepz": "3"}, "base.stepz is not a config key; did you mean"),
    ({"seeds": "0"}, "config.seeds"),
    ({"goal": "5"}, "config.goal"),
    ({"pairs": "basic"}, "config.pairs must be pairs ARM:OTHER"),
    ({"pairs": "basic:basic"}, "config.pairs must be pairs ARM:OTHER"),
    ({"pairs": "basic:none"}, "config.pairs must be pairs ARM:OTHER"),
    (
      {"pairs": "basic:baseline"},
      "every arm is compared with baseline already",
    ),
    ({"baseline": "nothing"}, "config.baseline must be an arm"),
    ({"arms__mixup__mix__alfa": "1"}, "mix.alfa is not a config key; did you"),
    ({"arms__mixup__mix__alpha": "x"}, "arm mixup: config.mix.alpha must be a"),
    ({"arms__mixup__mix": "x"}, "arm mixup: config.mix is a group"),
    ({"arms__mixup__seed": "4"}, "seed must be the same in all arms"),
    ({"arms__mixup__evaluate__best_by": "accuracy"}, "best_by must be the sam"),
    ({"arms__mixup__evaluate__every_epochs": "1"}, "epochs must be the same"),
    ({"arms__mixup__data__classes": "3"}, "data.classes must be the same"),
    ({"arms__mixap__mix__alpha": "1"}, "did you mean arms.mixup?"),
    ({"arms__mixup": "mix.alpha=1 steps=3"}, "config.arms.mixup.mix.alpha=0.5"),
    ({"arms__mixup__": "1"}, "set its keys one by one"),
    ({"arms": "1"}, "config.arms is a group"),
  ],
)
def test_a_mistake_is_named(overrides, said):
  with pytest.raises(UserError, match=re.escape(said)):
    _plan(**overrides)


def test_any_key_of_an_arm_is_set_to_the_type_of_the_base():
  comparison = _plan(
    arms__cutmix__optimizer__learning_rate="1",
    arms__cutmix__mix__name="none",
    arms__mixup__epochs="3",
    arms__baseline__ema__decay="0.9",
  )
  changed = {n: config_lib.leaves(arm) for n, arm in comparison.arms.items()}
  assert changed["cutmix"] == {
    "mix.name": "none",  # As in the base, but it is set.
    "optimizer.learning_rate": 1.0,
  }
  assert type(changed["cutmix"]["optimizer.learning_rate"]) is float
  assert changed["baseline"] == {"ema.decay": 0.9}
  cutmix, mixup = (
    comparison.cell(f"{name}/1").config for name in ("cutmix", "mixup")
  )
  assert (cutmix.mix.name, cutmix.optimizer.learning_rate) == ("none", 1.0)
  # A length replaces that of the base, in whichever unit.
  assert (mixup.epochs, mixup.steps, mixup.mix.name) == (3.0, None, "mixup")
  assert comparison.cell("basic+mixup/1").config.steps == 400


@pytest.mark.parametrize(
  ("arm", "said"),
  [
    ("mix.name=cutmix", "config.arms.cut must be a dict of the keys"),
    ({"mix": {"nam": "cutmix"}}, "arm cut: config.mix.nam is not a config key"),
    ({"mix": "cutmix"}, "arm cut: config.mix is a group"),
    ({"mix": {"alpha": "one"}}, "arm cut: config.mix.alpha must be a number"),
    ({"batch_size": None}, "arm cut: config.batch_size must be set"),
  ],
)
def test_a_mistake_in_an_arm_of_a_file_is_named(tmp_path, arm, said):
  path = tmp_path / "arms.py"
  path.write_text(SMALL.replace('{"mix": {"name": "cutmix"}}', repr(arm)))
  with pytest.raises(UserError, match=re.escape(said)):
    plan.make(arms.load(str(path), {}), tmp_path / "runs")


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ("config.seedz = 9", "config.seedz is not a key of a comparison; did you "),
    ("config.view = 'flip'", "did you mean config.views?"),
    (
      "config.tune = ConfigDict({'trials': 0, 'desing': 'fixed'})",
      "config.tune.desing is not a key of a comparison; did you mean "
      "config.tune.design?",
    ),
    ("config.zzz = 1", "its keys are arms, base"),
  ],
)
def test_a_key_of_a_file_that_nothing_reads_is_refused(tmp_path, line, said):
  path = tmp_path / "arms.py"
  path.write_text(
    SMALL.replace("  return config", f"  {line}\n  return config")
  )
  with pytest.raises(UserError, match=re.escape(said)):
    arms.load(str(path), {})


def test_the_overrides_of_an_arm_in_words():
  arms = _plan().arms
  assert words.overrides(arms["baseline"]) == ""
  assert words.overrides(arms["basic+mixup"]) == (
    "augment.random_crop.padding=2 mix.name=mixup"
  )


def test_a_missing_cell_is_named():
  with pytest.raises(UserError, match="cutmix/9 is not a run"):
    _plan().cell("cutmix/9")
  assert _plan().cell("cutmix/1").seed == 1
  argv = [f"--config={CONFIG}", "--workdir=/nowhere", "--only=cutmix/9"]
  with pytest.raises(UserError, match="--only: cutmix/9 is not a run"):
    compare.main(argv)


def _command(tmp_path, workdir, *extra):
  config = tmp_path / "small.py"
  config.write_text(SMALL)
  return [
    *(sys.executable, "-m", "mixaug_jax.compare", f"--config={config}"),
    *(f"--workdir={workdir}", *extra),
  ]


def _run(tmp_path, workdir, *extra, code=0):
  done = subprocess.run(
    _command(tmp_path, workdir, *extra),
    cwd=ROOT,
    env=dict(os.environ, XLA_FLAGS=""),
    capture_output=True,
    text=True,
    timeout=1200,
  )
  assert done.returncode == code, done.stdout + done.stderr
  assert "Traceback" not in done.stderr
  return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished comparison: two arms, two seeds, 20 steps each."""
  root = tmp_path_factory.mktemp("comparison")
  return root, _run(root, root / "runs")


def test_a_page_without_activation_maps_gives_the_reason(
  finished, tmp_path, monkeypatch
):
  root, _ = finished
  shutil.copytree(root / "runs", tmp_path / "runs")
  comparison = plan.make(
    arms.load(str(root / "small.py"), {}), tmp_path / "runs"
  )

  def refuse(*_):
    raise NoActivationMaps("the head is not linear")

  monkeypatch.setattr(classifier.Classifier, "activation_maps", refuse)
  page.write(comparison, os.fsdecode(b"--config.data.dir=caf\xe9"))
  text = (tmp_path / "runs" / "report.html").read_text("utf-8")
  assert "No activation maps: the head is not linear." in text
  assert r"--config.data.dir=caf\udce9" in text


def test_predictions_that_are_not_numbers_count_as_wrong(finished, tmp_path):
  root, _ = finished
  shutil.copytree(root / "runs", tmp_path / "runs")
  cell = tmp_path / "runs" / "cut" / "seed_1"
  with np.load(cell / "predictions_test.npz") as file:
    content = dict(file)
  content["logits"][:7] = np.nan
  np.savez(cell / "predictions_test.npz", **content)
  comparison = plan.make(
    arms.load(str(root / "small.py"), {}), tmp_path / "runs"
  )
  page.write(comparison, "command")
  text = (tmp_path / "runs" / "report.html").read_text("utf-8")
  assert "cut/1 are not numbers for 7 examples, which count as wrong" in text
  right = content["logits"].argmax(-1) == content["labels"]
  assert float(_csv(tmp_path / "runs")[3]["accuracy"]) == right[7:].sum() / 1000


def test_without_a_test_set_each_seed_has_images_of_its_own(finished, tmp_path):
  root, _ = finished
  runs = tmp_path / "runs"
  shutil.copytree(root / "runs", runs)
  for path in runs.glob("*/seed_*/result.json"):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test": None}))
  comparison = dataclasses.replace(
    plan.make(arms.load(str(root / "small.py"), {}), runs), views="identity"
  )
  first, second = comparison.runs["cut"].values()
  assert set(first.compared.ids) != set(second.compared.ids)
  page.write(comparison, "command")
  numbers = json.loads((runs / "results.json").read_text())
  for arm, of_arm in comparison.runs.items():
    accuracies = [
      run.result.validation.best.accuracy for run in of_arm.values()
    ]
    found = numbers["arms"][arm]["accuracy"]["each"]
    assert found == pytest.approx(accuracies)
    # One view is the image itself, so its images are those of the seed.
    row = numbers["views"]["arms"][arm]
    assert row["with"]["each"] == row["without"]["each"] == found
  assert numbers["views"]["notes"] == []
  text = (runs / "report.html").read_text("utf-8")
  assert "Each seed is measured on validation images of its own." in text
  assert "examples of each seed that only the arm classifies" in text
  assert "An arm that has not finished this seed has no maps." in text
  assert "No activation maps" not in text
  # An arm without the seed of the maps is left out of them.
  del comparison.runs["cut"][0]
  maps = pictures._on_the_same_images(comparison)
  assert {name: len(of_arm) for name, of_arm in maps.items()} == {"none": 1}
  page.write(comparison, "command")


def test_losses_of_different_kinds_are_never_mixed(tmp_path, monkeypatch):
  drawn, captions = {}, []

  def reliability(name, colour, confidence, *rest):
    drawn[name] = confidence
    return Figure((1, 1))

  def picture_table(_, texts, *rest):
    captions.extend(texts)
    return Figure((1, 1))

  monkeypatch.setattr(drawings.measured.figures, "reliability", reliability)
  monkeypatch.setattr(pictures.figures, "picture_table", picture_table)
  path = tmp_path / "small.py"
  text = SMALL.replace('"cut": {"mix": {"name": "cutmix"}}', _KINDS)
  path.write_text(text.replace("steps = 20", "steps = 4"))
  overrides = {"seeds": "1", "base.evaluate.batch_size": "200"}
  overrides |= {"base.batch_size": "48", "base.log.writers": "console"}
  comparison = plan.make(arms.load(str(path), overrides), tmp_path / "runs")
  results = {c.arm: loop.train(c.config, c.workdir) for c in comparison.cells}
  page.write(comparison, "command")
  numbers = json.loads((tmp_path / "runs" / "results.json").read_text())
  of_arms, best = numbers["arms"], numbers["best"]
  rows = {row["arm"]: row for row in _csv(tmp_path / "runs")}
  for name, result in results.items():
    loss = pytest.approx(result.test.loss, rel=1e-5)
    assert of_arms[name]["loss"]["mean"] == float(rows[name]["loss"]) == loss
    kind = "softmax" if name == "none" else "sigmoid"
    assert of_arms[name]["loss_name"] == rows[name]["loss_name"] == kind
    run = comparison.runs[name][0]
    known = likelihood.of_loss(kind)
    scale = calibration.fit_temperature(*_pair(run.validation), known)
    assert of_arms[name]["temperature"]["mean"] == scale
    for key, value in (("", 1.0), ("_scaled", scale)):
      error = calibration.expected_calibration_error(
        *_pair(run.compared), temperature=value, likelihood=known
      )
      assert of_arms[name][f"calibration_error{key}"]["mean"] == error
    bins = calibration.reliability(*_pair(run.compared), likelihood=known)
    np.testing.assert_array_equal(drawn[name], bins[1])
    column = 1 + list(results).index(name)
    chosen = pictures._telling(
      comparison.first.correct, comparison.runs[best][0].correct
    )
    shares = known.probabilities(run.compared.logits[chosen]).max(-1)
    assert [text[column].split("\n")[1] for text in captions] == [
      f"{share:.0%}" for share in shares
    ]
  text = (tmp_path / "runs" / "report.html").read_text("utf-8")
  assert "different losses (softmax: none; sigmoid: each, more)" in text
  for arm in of_arms.values():
    assert f"{arm['loss']['mean']:.3f} ({arm['loss_name']})" in text
  assert text.count("need not sum to 1") == 2
  curves = sorted((tmp_path / "runs" / "figures").glob("curve_train_loss*"))
  assert [x.stem for x in curves] == [
    "curve_train_loss_0",
    "curve_train_loss_1",
  ]
  assert "Training loss, sigmoid" in text


_KINDS = (
  '"each": {"loss": {"name": "sigmoid"}}, '
  '"more": {"loss": {"name": "sigmoid"}, "mix": {"name": "cutmix"}}'
)


def _pair(predictions):
  return predictions.logits, predictions.labels


def _csv(workdir):
  rows = list(csv.DictReader((workdir / "results.csv").open()))
  for row in rows:
    del row["seconds"], row["images_per_second"]
  return rows


def test_the_numbers_are_those_of_the_runs(finished):
  root, done = finished
  workdir = root / "runs"
  rows = _csv(workdir)
  assert [(r["arm"], r["seed"]) for r in rows] == [
    *(("none", "0"), ("none", "1"), ("cut", "0"), ("cut", "1")),
  ]
  for row in rows:
    of_run = workdir / row["arm"] / f"seed_{row['seed']}" / "result.json"
    measured = json.loads(of_run.read_text())["test"]
    for name in ("accuracy", "top5_accuracy", "loss"):
      assert float(row[name]) == pytest.approx(measured[name], rel=1e-5)
  numbers = json.loads((workdir / "results.json").read_text())
  accuracies = [float(row["accuracy"]) for row in rows]
  difference = numbers["arms"]["cut"]["difference"]
  assert difference["mean"] == pytest.approx(
    np.mean(accuracies[2:]) - np.mean(accuracies[:2])
  )
  assert difference["low"] <= difference["mean"] <= difference["high"]
  assert numbers["best"] == "cut"
  assert numbers["arms"]["cut"]["verdict"] in done.stdout
  assert {"accuracy.png", "difference.png", "activation_maps.png"} <= {
    path.name for path in (workdir / "figures").iterdir()
  }


def test_finished_cells_are_not_trained_again(finished):
  root, _ = finished
  result = root / "runs" / "cut" / "seed_1" / "result.json"
  before = result.stat().st_mtime_ns
  done = _run(root, root / "runs")
  assert "4 finished already" in done.stdout
  assert result.stat().st_mtime_ns == before


def test_another_config_is_refused_before_anything_runs(finished):
  root, _ = finished
  done = _run(root, root / "runs", "--config.base.batch_size=10", code=2)
  assert "batch_size (there 48, here 10)" in done.stderr


def test_a_report_without_runs_is_refused(tmp_path):
  done = _run(tmp_path, tmp_path / "runs", "--report_only", code=2)
  assert "no run in" in done.stderr
  assert not (tmp_path / "runs").exists()


def test_a_killed_comparison_resumes_to_the_same_results(finished, tmp_path):
  root, _ = finished
  workdir = tmp_path / "runs"
  # The first and the last run are kept, and those between are trained again.
  shutil.copytree(root / "runs", workdir)
  for unfinished in ("cut/seed_0", "none/seed_1", "results.csv"):
    path = workdir / unfinished
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  process = subprocess.Popen(
    _command(tmp_path, workdir),
    cwd=ROOT,
    env=dict(os.environ, XLA_FLAGS=""),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  second = workdir / "none" / "seed_1" / "config.json"
  while not second.exists():
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  done = _run(tmp_path, workdir)
  assert re.search(r"[34] finished already", done.stdout)
  assert _csv(workdir) == _csv(root / "runs")


def test_a_failed_run_is_reported_and_the_others_continue(finished, tmp_path):
  root, _ = finished
  shutil.copytree(root / "runs", tmp_path / "runs")
  shutil.rmtree(tmp_path / "runs" / "cut")
  done = _run(
    tmp_path,
    tmp_path / "runs",
    "--config.arms.cut.log.writers=builtins:int",  # It takes no folder.
    "--config.seeds=1",
    code=1,
  )
  assert "cut/0: failed with 2: config.log.writers" in done.stdout
  assert "seed_0.log" in done.stdout
  page = (tmp_path / "runs" / "report.html").read_text()
  assert "Not finished and left out: cut/0" in page


def test_a_run_that_diverges_counts_and_is_not_trained_again(
  finished, tmp_path
):
  root, _ = finished
  shutil.copytree(root / "runs", tmp_path / "runs")
  shutil.rmtree(tmp_path / "runs" / "cut")
  overrides = (
    "--config.arms.cut.optimizer.learning_rate=1e30",
    "--config.seeds=1",
  )
  done = _run(tmp_path, tmp_path / "runs", *overrides)
  assert "arms, 1 seed; " in done.stdout
  assert "cut/0: diverged: the loss (" in done.stdout
  step = json.loads(
    (tmp_path / "runs" / "cut" / "seed_0" / "diverged.json").read_text()
  )["step"]
  words = f"Diverged: cut/0 at step {step}. Such a run counts with the accuracy"
  assert words in done.stdout
  numbers = json.loads((tmp_path / "runs" / "results.json").read_text())
  assert numbers["arms"]["cut"]["accuracy"]["each"] == pytest.approx([0.1])
  again = _run(tmp_path, tmp_path / "runs", *overrides)
  assert "1 finished already, 1 diverged" in again.stdout
  assert words in again.stdout
  page = (tmp_path / "runs" / "report.html").read_text()
  assert words in page


def test_a_mistake_in_the_base_ends_the_comparison_at_once(tmp_path):
  done = _run(
    tmp_path,
    tmp_path / "runs",
    "--config.base.optimizer.warmup_epochs=90",
    code=2,
  )
  assert done.stdout.count("failed with 2") == 1
  assert "the run has only 20" in done.stderr


def test_a_dry_run_prints_commands_and_trains_nothing(finished, tmp_path):
  # The few steps that it times are fewer than those of the warm-up.
  warmup = "--config.base.optimizer.warmup_epochs=10"
  done = _run(tmp_path, tmp_path / "runs", "--dry_run", warmup)
  assert "cut/1: python -m mixaug_jax.compare" in done.stdout
  assert "--only=cut/1" in done.stdout
  assert re.search(r"4 runs of about \d+ s", done.stdout)
  assert not (tmp_path / "runs").exists()


def test_runs_that_a_comparison_stops_did_not_fail(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(local, "places", lambda jobs: [{}])
  program = (
    "import os, signal, sys; os.kill(os.getppid(), signal.SIGINT); "
    "sys.stdin.read(); print('stopped by SIGTERM'); sys.exit(143)"
  )
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  comparison = _plan(tmp_path)
  try:
    with pytest.raises(Interrupted, match="stopped by Ctrl-C"):
      launch.run(comparison, comparison.cells, ["-c", program], local.Local())
  finally:
    signal.signal(signal.SIGINT, before)
  printed = capsys.readouterr().out
  assert ": stopped by SIGTERM; " in printed
  assert "failed" not in printed


def test_each_run_has_a_gpu(monkeypatch):
  monkeypatch.setattr(
    local.subprocess,
    "run",
    lambda *_, **__: subprocess.CompletedProcess([], 0, "gpu 2\n", ""),
  )
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  name = "CUDA_VISIBLE_DEVICES"
  assert local.places(None) == [{name: "0"}, {name: "1"}]
  monkeypatch.setenv(name, "5,7")
  assert local.places(None) == [{name: "5"}, {name: "7"}]
  assert local.places(1) == [{name: "5"}]
  with pytest.raises(UserError, match="2 GPUs for 3 jobs"):
    local.places(3)


def test_a_cpu_is_shared_by_the_chosen_number_of_runs():
  assert local.places(3) == [{}] * 3
  assert local.places(None) == [{}]
  with pytest.raises(UserError, match="at least 1, got 0"):
    local.places(0)


class _Boxed:
  """A source whose images all come with the same bounding box."""

  def __init__(self, source, box):
    self._source, self.boxes = source, np.tile(np.float32(box), (1797, 1))

  def __getitem__(self, row):
    return self._source[row]


def test_the_halves_of_the_images_share_the_activation_maps(finished):
  root, _ = finished
  comparison = plan.make(arms.load(f"{root}/small.py", {}), root / "runs")
  images = pictures.compared_images(comparison)
  assert pictures.energy_inside_boxes(comparison, images) == ({}, None)
  means = []
  for box in ([0, 0, 0.5, 1], [0.5, 0, 1, 1]):
    boxed = dataclasses.replace(images, source=_Boxed(images.source, box))
    shares, area = pictures.energy_inside_boxes(comparison, boxed)
    assert area == 0.5
    assert [len(share["each"]) for share in shares.values()] == [2, 2]
    means.append([share["mean"] for share in shares.values()])
  np.testing.assert_allclose(np.sum(means, axis=0), 1, rtol=1e-5)
