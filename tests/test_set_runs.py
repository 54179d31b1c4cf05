"""Runs with several labels an image: train, resume, measure, predict, show."""

import csv
import dataclasses
import html
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as reference

import mixaug_jax as mx
from benchmarks import several_digits
from mixaug_jax import config as config_lib
from mixaug_jax.classifier import Classifier
from mixaug_jax.command import compare, evaluate, export, preview, train
from mixaug_jax.costs import program, topologies
from mixaug_jax.errors import NoActivationMaps, UserError
from mixaug_jax.runs import open_run
from mixaug_jax.training import experiment, parallel, records, step
from mixaug_jax.training import thresholds as thresholds_lib

ROOT = pathlib.Path(__file__).parent.parent
RUNS = ROOT / "tests" / "data" / "runs"
CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture(autouse=True)
def here(monkeypatch):
  """Lets runs find their model."""
  monkeypatch.syspath_prepend(RUNS)
  monkeypatch.chdir(ROOT)


def _words(root, **overrides):
  values = {
    "model.name": "tiny_model:Tiny",
    "model.head_init": "zeros",
    "data.dir": str(root / "photos"),
    "batch_size": "24",
    "steps": "8",
    "mix.name": "cutmix",
    "mix.per_example": "true",
    "optimizer.learning_rate": "0.5",
    "evaluate.every_epochs": "0.8",  # Every other step.
    "evaluate.checkpoint": "best",
    "ema.decay": "0.5",
    "checkpoint.every_steps": "4",
    "checkpoint.keep": "9",
    "log.every_steps": "3",
    "log.writers": "console",
    **overrides,
  }
  words = [f"--config.{key}={value}" for key, value in values.items()]
  return ["--config=benchmarks/several_digits.py", *words]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Images of several digits and a run on them."""
  root = tmp_path_factory.mktemp("sets")
  several_digits.write(root / "photos", {"train": 120, "test": 60})
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(RUNS)
    patch.chdir(ROOT)
    train.main([*_words(root), f"--workdir={root / 'run'}"])
  return root


def _content(workdir):
  return json.loads((workdir / "result.json").read_text())


def _precision(found):
  some = found.labels.any(0)
  return reference.average_precision_score(
    found.labels[:, some], found.logits[:, some]
  )


def test_the_result_is_that_of_sklearn_on_the_predictions(trained):
  run, content = open_run(trained / "run"), _content(trained / "run")
  test, measured = run.predictions("test"), content["test"]
  assert test.labels.dtype == np.uint8
  assert test.labels.shape == (60, 10)
  assert measured["examples"] == 60
  assert measured["mean_average_precision"] == pytest.approx(_precision(test))
  assert "accuracy" not in json.dumps(content)
  limits = np.array(list(content["thresholds"]["by_class"].values()))
  chosen = special.expit(test.logits.astype(np.float64)) >= limits
  score = lambda how: reference.f1_score(
    test.labels, chosen, average=how, zero_division=0
  )
  assert measured["micro_f1"] == pytest.approx(score("micro"))
  assert measured["macro_f1"] == pytest.approx(score("macro"))
  exact = reference.accuracy_score(test.labels, chosen)
  assert measured["exact_match"] == pytest.approx(exact)
  loss = np.logaddexp(0, np.where(test.labels, -test.logits, test.logits))
  assert measured["loss"] == pytest.approx(loss.sum(-1).mean(), rel=1e-5)


def test_thresholds_are_chosen_on_validation(trained):
  run = open_run(trained / "run")
  found = run.predictions("validation")
  again = thresholds_lib.choose(found.logits, found.labels, CLASSES)
  assert run.result.thresholds == again
  assert list(again.by_class) == run.result.class_names == CLASSES
  few = found.labels.sum(0) < 5
  assert again.default == [CLASSES[i] for i in np.flatnonzero(few)]


def test_the_best_weights_have_the_highest_mean_average_precision(trained):
  run, content = open_run(trained / "run"), _content(trained / "run")
  rows = [row for row in run.rows if row["split"] == "validation"]
  each = {row["step"]: row["mean_average_precision"] for row in rows}
  assert len(set(each.values())) > 1
  best = content["validation"]["best"]
  assert best["mean_average_precision"] == max(each.values())
  assert content["chosen_step"] == best["step"] == max(each, key=each.get)
  found = _precision(run.predictions("validation"))
  assert best["mean_average_precision"] == pytest.approx(found)
  assert all("ema_mean_average_precision" in row for row in rows)
  assert {"loss", "learning_rate"} <= run.rows[1].keys()


def test_a_resumed_run_ends_with_the_same_bits(trained, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(trained / "run", workdir)
  (workdir / "result.json").unlink()
  for path in (workdir / "checkpoints").iterdir():
    if path.name.isdigit() and int(path.name) > 4:
      shutil.rmtree(path)
  train.main([*_words(trained), f"--workdir={workdir}"])
  before, after = _content(trained / "run"), _content(workdir)
  for name in ("test", "validation", "thresholds", "chosen_step"):
    assert after[name] == before[name]
  for split in ("validation", "test"):
    ours = open_run(workdir).predictions(split)
    theirs = open_run(trained / "run").predictions(split)
    np.testing.assert_array_equal(ours.logits, theirs.logits)


def _experiment(root, **overrides):
  words = dict(x[9:].split("=", 1) for x in _words(root)[1:])
  config = config_lib.load(
    "benchmarks/several_digits.py", {**words, **overrides}
  )
  return experiment.build(config)


def test_the_number_of_devices_changes_nothing(trained):
  exp = _experiment(trained)
  batch = {
    "image": exp.datasets.train.images(np.arange(24)),
    "label": exp.datasets.train.labels[:24],
  }
  values = exp.recipe.hyperparameters()
  one = jax.jit(step.make_train_step(exp.recipe, step.Devices()))
  synchronised = _experiment(trained, **{"model.sync_batch_norm": "true"})
  four = parallel.train_step(
    step.make_train_step(synchronised.recipe, parallel.devices())
  )
  inputs = {}
  for name, run, place in (
    ("one", one, lambda x: x),
    ("four", four, parallel.shard),
  ):
    state, _ = exp.initial_state()
    inputs[name] = jax.device_get(
      run(state, np.uint32(0), values, {}, place(batch))
    )
  (ours, our_metrics), (theirs, their_metrics) = inputs.values()
  assert set(our_metrics) == {"loss", "learning_rate", "finite"}
  assert our_metrics["loss"] == pytest.approx(their_metrics["loss"], rel=1e-5)
  for a, b in zip(
    jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("mixer", ["cutmix", "mixup", "cutout"])
def test_label_sets_mix_as_one_hot_labels_do(trained, mixer):
  exp = _experiment(trained, **{"mix.name": mixer})
  images = exp.datasets.train.images(np.arange(24))
  sets = exp.datasets.train.labels[:24]
  assert (sets.sum(-1) == 0).any()

  def mixed(recipe, labels):
    feed = lambda x, y: step.network_input(
      recipe, np.uint32(0), jnp.int32(1), x, y, step.Devices()
    )
    return np.asarray(jax.jit(feed)(images, labels)[1])

  # With a class for each example, labels are the weights of the examples.
  each = dataclasses.replace(exp.recipe, num_classes=24)
  weights = mixed(each, np.arange(24, dtype=np.int32))
  found = mixed(exp.recipe, sets)
  np.testing.assert_allclose(found, weights @ sets, atol=1e-6)
  assert (np.abs(found - sets).max() > 0.01) == (mixer != "cutout")


def test_smoothing_is_that_of_two_classes_a_label(trained):
  exp = _experiment(
    trained, **{"loss.label_smoothing": "0.2", "mix.name": "none"}
  )
  # A loss that shows the labels: their sum.
  recipe = dataclasses.replace(
    exp.recipe, train_loss=lambda logits, y: y.sum(-1) + 0 * logits.sum(-1)
  )
  labels = exp.datasets.train.labels[:24]
  batch = {"image": exp.datasets.train.images(np.arange(24)), "label": labels}
  state, _ = exp.initial_state()
  run = jax.jit(step.make_train_step(recipe, step.Devices()))
  values = recipe.hyperparameters()
  _, measured = run(state, np.uint32(0), values, {}, batch)
  expected = 0.8 * labels.sum(-1).mean() + 0.2 * 10 / 2
  assert measured["loss"] == pytest.approx(expected, rel=1e-5)


def test_evaluate_measures_what_the_result_has(trained, capsys):
  run = mx.open_run(trained / "run")
  found = run.evaluate("test")
  measured, test = found["views"]["identity"], _content(trained / "run")["test"]
  for name in ("mean_average_precision", "micro_f1", "macro_f1", "exact_match"):
    assert measured[name] == pytest.approx(test[name], abs=1e-4)
  assert found["notes"] == []
  evaluate.main([f"--workdir={trained / 'run'}", "--split=validation"])
  text = capsys.readouterr().out
  assert "mean average precision" in text
  assert "top-1" not in text
  with pytest.raises(UserError, match="must be a CSV file, or a folder with"):
    run.evaluate(data_dir=RUNS)
  again = run.evaluate(data_dir=trained / "photos" / "test.csv")
  assert again["views"]["identity"]["exact_match"] == measured["exact_match"]


def test_predict_gives_the_labels_above_their_thresholds(trained, tmp_path):
  run = mx.open_run(trained / "run")
  test = run.predictions("test")
  folder = tmp_path / "out"
  photos = [trained / "photos" / "test" / f"{k:04}.png" for k in range(9)]
  rows = run.predict(photos, output=folder)
  limits = run.result.thresholds.array()
  chosen = special.expit(test.logits.astype(np.float64)) >= limits
  place = {name: row for row, name in enumerate(test.ids)}
  order = [place[f"test/{pathlib.Path(row['image']).name}"] for row in rows]
  assert len(rows) == 9
  for row, number in zip(rows, order, strict=True):
    assert row["labels"] == [CLASSES[i] for i in np.flatnonzero(chosen[number])]
    expected = special.expit(test.logits[number].astype(np.float64))
    np.testing.assert_allclose(list(row["by_class"].values()), expected, 1e-3)
  with open(folder / "predictions.csv", newline="") as file:
    lines = list(csv.DictReader(file))
  assert [line["labels"] for line in lines] == [
    ";".join(row["labels"]) for row in rows
  ]
  assert float(lines[3]["p 7"]) == pytest.approx(rows[3]["by_class"]["7"])
  run.predict(photos[:1], output=folder)  # Replaces its own.
  (folder / "predictions.csv").write_text("path,labels,mine\n")
  with pytest.raises(UserError, match=r"predictions.csv was not written by"):
    run.predict(photos, output=folder)


def test_a_model_without_maps_still_gets_its_table(
  trained, tmp_path, monkeypatch, capsys
):
  def fail(*_):
    raise NoActivationMaps("the model has no maps")

  monkeypatch.setattr(Classifier, "activation_maps", fail)
  run = mx.open_run(trained / "run")
  photo = trained / "photos" / "test" / "0000.png"
  rows = run.predict(photo, output=tmp_path / "out")
  assert "overlay" not in rows[0]
  assert [x.name for x in (tmp_path / "out").iterdir()] == ["predictions.csv"]
  assert "has no maps; --output gets predictions.csv" in capsys.readouterr().err
  with pytest.raises(NoActivationMaps):
    run.predict(photo, output=tmp_path / "out", stage="x")


def test_the_api_refuses_the_figure_that_a_run_does_not_have(trained):
  run = mx.open_run(trained / "run")
  assert "mean average precision" in repr(run)
  test = _content(trained / "run")["test"]
  assert run.mean_average_precision == test["mean_average_precision"]
  with pytest.raises(UserError, match="see mean_average_precision"):
    _ = run.accuracy
  other = mx.open_run(RUNS / "0.1.0" / "finished")
  with pytest.raises(UserError, match="see accuracy"):
    _ = other.mean_average_precision


def test_the_page_shows_precision_thresholds_and_mistakes(trained):
  run = mx.open_run(trained / "run")
  page = run.report().read_text("utf-8")
  text = html.unescape(re.sub(r"<[^>]*>", "", page[page.index("<body>") :]))
  test = _content(trained / "run")["test"]
  score = f"{100 * test['mean_average_precision']:.1f} %"
  assert f"Test mean average precision {score} on 60 images" in text
  assert "Most confident mistakes" in text
  assert "Where the network looks" in text
  for title in ("Accuracies", "Confusion matrix", "calibration"):
    assert title not in text
  assert "What the network is fed" in text
  limit = max(run.result.thresholds.by_class.values())
  assert f"{100 * limit:.1f}" in text


def test_a_file_for_other_programs_gives_the_probability_of_each_label(
  trained, monkeypatch
):
  monkeypatch.setenv("HF_TOKEN", "hf_x")
  run = open_run(trained / "run")
  images = np.zeros((2, 16, 16, 3), np.uint8)
  network = run.classifier()
  logits = network.predictor()(images)[0]
  found = network.probabilities(jnp.asarray(images))
  np.testing.assert_allclose(found, special.expit(logits), rtol=1e-4)
  with pytest.raises(UserError, match="timm takes the softmax"):
    export.main(
      [
        *(f"--workdir={trained / 'run'}", "--format=safetensors"),
        "--push=me/model",
      ]
    )


def test_a_preview_names_all_labels(trained, tmp_path, capsys):
  output = tmp_path / "preview.png"
  preview.main([*_words(trained), f"--output={output}"])
  assert output.stat().st_size > 1000
  assert "step 0" in capsys.readouterr().out


def test_a_comparison_is_refused_before_anything_starts(trained, tmp_path):
  values = ("data.name=csv", "data.label_separator=|", "loss.name=sigmoid")
  with pytest.raises(UserError, match="compare measures arms by accuracy"):
    compare.main(
      [
        *("--config=configs/compare.py", f"--workdir={tmp_path / 'compare'}"),
        f"--config.base.data.dir={trained / 'photos'}",
        *(f"--config.base.{value}" for value in values),
      ]
    )
  assert not (tmp_path / "compare").exists()


def test_fit_compiles_the_step_of_label_sets(trained):
  config = _experiment(trained).config
  found = program.data_size(config)
  assert (found.classes, found.images) == (10, 120)
  chip = topologies.CHIPS["cpu"]
  topology = topologies.Topology("cpu:4", chip, 4, present=True)
  for size in (found, program.DataSize(10)):
    *_, batch = program.build(config, topology, size).arguments
    assert batch["label"].shape == (4, 6, 10)
    assert batch["label"].dtype == np.uint8


@pytest.mark.parametrize(
  "change",
  [
    lambda content: content.pop("thresholds"),
    lambda content: content["thresholds"]["by_class"].pop("3"),
    lambda content: content["test"].pop("mean_average_precision"),
  ],
)
def test_a_result_that_lacks_a_part_is_damaged(trained, tmp_path, change):
  workdir = tmp_path / "run"
  workdir.mkdir()
  content = _content(trained / "run")
  change(content)
  (workdir / "result.json").write_text(json.dumps(content))
  with pytest.raises(UserError, match=r"result.json is damaged"):
    records.read_result(workdir)
