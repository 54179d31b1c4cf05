"""Classes of different sizes: subsets, sampling, and the balanced accuracy."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixaug_jax import config as config_lib
from mixaug_jax import runs
from mixaug_jax.analysis import calibration, views
from mixaug_jax.command import evaluate
from mixaug_jax.comparison import by_class
from mixaug_jax.data import selection
from mixaug_jax.run_page import page
from mixaug_jax.training import evaluation, experiment, loop, parallel, result
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.step import make_eval_step

sizes = st.lists(st.integers(1, 300), min_size=2, max_size=7)


def labels_of(counts):
  labels = np.repeat(np.arange(len(counts)), counts)
  return np.random.default_rng(0).permutation(labels)


@given(sizes, st.floats(1, 1000))
def test_a_long_tail_has_the_profile_of_the_paper(counts, factor):
  labels = labels_of(counts)
  kept = selection.long_tailed(labels, factor, np.random.default_rng(1))
  assert (np.diff(kept) > 0).all()
  last = len(counts) - 1
  wanted = [
    max(1, round(n * factor ** (-c / last))) for c, n in enumerate(counts)
  ]
  assert np.bincount(labels[kept]).tolist() == wanted


def test_the_seed_draws_the_long_tail():
  labels = labels_of([50, 50, 50])
  draw = lambda seed: selection.long_tailed(
    labels, 10, np.random.default_rng(seed)
  ).tolist()
  assert draw(0) == draw(0) != draw(1)


@given(sizes, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_oversampling_follows_the_power(counts, power):
  labels, most = labels_of(counts), max(counts)
  positions = selection.oversampled(labels, power)
  wanted = [round(n**power * most ** (1 - power)) for n in counts]
  found = np.bincount(labels[positions])
  np.testing.assert_allclose(found, wanted, atol=1)
  times = np.bincount(positions)
  for label, count in enumerate(counts):
    of_class = times[labels == label]
    assert of_class.min() >= 1  # None is left out,
    assert of_class.max() - of_class.min() <= 1  # and they take turns.
    assert of_class.sum() == found[label]
    if power == 1:
      assert found[label] == count


def test_a_power_of_zero_is_what_oversampling_was():
  labels = labels_of([7, 3, 1])
  groups = [np.flatnonzero(labels == c) for c in range(3)]
  wanted = np.concatenate([np.resize(group, 7) for group in groups])
  np.testing.assert_array_equal(selection.oversampled(labels), wanted)


def by_hand(logits, labels):
  """The mean recall over the classes that occur."""
  right = logits.argmax(1) == labels
  return np.mean([right[labels == c].mean() for c in np.unique(labels)])


def test_the_balanced_accuracy_is_the_mean_recall():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(60, 5)).astype(np.float32)
  labels = rng.choice(4, 60, p=[0.7, 0.2, 0.05, 0.05])  # Class 4 has none.
  found = calibration.balanced_accuracy(logits, labels)
  assert found == pytest.approx(by_hand(logits, labels))
  assert found != pytest.approx((logits.argmax(1) == labels).mean())
  assert np.isnan(calibration.balanced_accuracy(logits, labels * 0 - 1))


def test_an_evaluation_is_exact_for_any_devices_and_padding():
  values = {"data.examples_per_class": "30", "data.imbalance_factor": "30"}
  exp = experiment.build(config_lib.load("baseline", values))
  state, _ = exp.initial_state()
  split = exp.datasets.train
  assert jax.device_count() == 4
  assert len(split) % 28
  step = parallel.eval_step(make_eval_step(exp.recipe, parallel.devices()))
  measured, logits = evaluation.evaluate(
    step, state.variables, split, batch_size=28, with_logits=True
  )
  wanted = by_hand(logits, split.labels)
  assert measured["balanced_accuracy"] == pytest.approx(wanted)
  each = calibration.per_class_accuracy(logits, split.labels, 10)
  np.testing.assert_allclose(measured["class_accuracy"], each)
  whole, _ = evaluation.evaluate(
    step, state.variables, split, batch_size=4 * len(split)
  )
  assert whole["class_accuracy"] == measured["class_accuracy"]


def test_best_is_by_the_figure_that_is_named():
  rows = [(0.9, 0.5), (0.8, 0.7), (0.7, 0.7), (0.9, 0.6)]
  for key, wanted in (("accuracy", 1), ("balanced_accuracy", 2)):
    state = LoopState()
    for step, (accuracy, balanced) in enumerate(rows, 1):
      figures = {"accuracy": accuracy, "balanced_accuracy": balanced}
      more = {"top5_accuracy": 1.0, "loss": 1.0, "examples": 9}
      state.evaluated(step, figures | more, None, key)
    assert state.best_step == wanted


def test_a_result_without_the_new_figures_is_read():
  evaluated = {"accuracy": 0.5, "top5_accuracy": 1.0, "loss": 1, "examples": 4}
  read = result.from_json(result.Evaluation, {**evaluated, "step": 3})
  assert read.balanced_accuracy is None
  known = {**evaluated, "balanced_accuracy": 0.25, "class_accuracy": [1, None]}
  read = result.from_json(result.Measured, known)
  assert (read.balanced_accuracy, read.class_accuracy) == (0.25, [1.0, None])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run on a long tail, with weights, and best by the balanced accuracy."""
  config = config_lib.load(
    "baseline",
    {
      "data.examples_per_class": "30",
      "data.imbalance_factor": "15",
      "loss.class_weights": "effective",
      "evaluate.best_by": "balanced_accuracy",
      "evaluate.checkpoint": "best",
      "evaluate.every_epochs": "1",
      "evaluate.batch_size": "200",
      "steps": "6",
      "log.writers": "console",
    },
  )
  workdir = tmp_path_factory.mktemp("run") / "run"
  loop.train(config, workdir)
  return runs.open_run(workdir)


def test_a_run_stores_its_figures_by_class(finished):
  stored, exp = finished.result, experiment.build(finished.config)
  assert stored.class_counts == np.bincount(exp.datasets.train.labels).tolist()
  np.testing.assert_allclose(stored.class_weights, exp.class_weights)
  test = finished.predictions("test")
  wanted = by_hand(test.logits, test.labels)
  assert stored.test.balanced_accuracy == pytest.approx(wanted)
  each = calibration.per_class_accuracy(test.logits, test.labels, 10)
  np.testing.assert_allclose(stored.test.class_accuracy, each)
  rows = [row for row in finished.rows if row["split"] == "validation"]
  best = max(row["balanced_accuracy"] for row in rows)
  steps = [r["step"] for r in rows if r["balanced_accuracy"] == best]
  assert stored.chosen_step == stored.validation.best.step == steps[0]
  assert not any("class_accuracy" in row for row in finished.rows)


def test_evaluate_prints_them(finished, capsys):
  evaluate.main([f"--workdir={finished.workdir}", "--json"])
  report = json.loads(capsys.readouterr().out)
  row, test = report["views"]["identity"], finished.result.test
  assert row["balanced_accuracy"] == pytest.approx(test.balanced_accuracy)
  np.testing.assert_allclose(row["class_accuracy"], test.class_accuracy)
  assert report["classes"] == finished.result.class_names
  text = views.table(report)
  assert f"{row['balanced_accuracy']:.2%}" in text
  lowest = int(np.argmin(row["class_accuracy"]))
  assert f"lowest of 10 classes, identity: {lowest} " in text


def test_the_page_shows_them(finished):
  page.write(finished)
  text = (finished.workdir / "report.html").read_text("utf-8")
  assert "balanced, %" in text
  assert f"<td>{finished.result.class_weights[9]:.2f}</td>" in text
  assert "validation, balanced" in text


def test_the_rows_of_a_comparison():
  arms = {
    "a": {"per_class": [0.5, None, 0.25], "balanced_accuracy": {"mean": 0.375}},
    "diverged": {"per_class": None, "balanced_accuracy": None},
  }
  assert by_class.rows(arms, ["x", "y", "z"]) == {
    "a": {"balanced": {"mean": 0.375}, "lowest": "z", "accuracy": 0.25}
  }
