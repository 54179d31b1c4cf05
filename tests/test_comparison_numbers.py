"""What a comparison concludes from its runs, on made-up predictions."""

import dataclasses
import json
import types

import numpy as np
import pytest

from mixaug_jax.analysis import likelihood
from mixaug_jax.comparison import baselines, circumstances, summary, words
from mixaug_jax.comparison.finished import FinishedRun
from mixaug_jax.runs import Predictions

EXAMPLES, CLASSES = 400, 10


def _run(accuracy, best=None, chosen="best", balanced=None):
  """A finished run with an accuracy on test, and on validation."""
  labels = np.arange(EXAMPLES, dtype=np.int32) % CLASSES
  right = np.arange(EXAMPLES) < accuracy * EXAMPLES
  predicted = np.where(right, labels, (labels + 1) % CLASSES)
  logits = 3 * np.eye(CLASSES, dtype=np.float32)[predicted]
  predictions = Predictions(logits, labels, labels.astype(str))
  evaluation = lambda x: types.SimpleNamespace(
    accuracy=x, balanced_accuracy=balanced
  )
  best = accuracy if best is None else best
  result = types.SimpleNamespace(
    validation=types.SimpleNamespace(
      best=evaluation(best), last=evaluation(accuracy), ema=None
    ),
    chosen=chosen,
    class_names=[str(c) for c in range(CLASSES)],
    steps=1,
    stopped_early=None,
    seconds=1.0,
    compile_seconds=1.0,
    images_per_second=1.0,
  )
  run = types.SimpleNamespace(
    result=result, rows=[], likelihood=likelihood.SOFTMAX
  )
  return FinishedRun(run, "test", predictions, predictions)


def _numbers(
  arms,
  diverged=None,
  seeds=5,
  goal=0.05,
  pairs=(),
  references=None,
  chosen_on=None,
  best_by="accuracy",
):
  """Summarises arms, which are accuracies by seed; the baseline is `base`."""
  runs = {
    name: {
      seed: x if isinstance(x, FinishedRun) else _run(x)
      for seed, x in enumerate(of_arm)
      if x is not None
    }
    for name, of_arm in arms.items()
  }
  runs = {name: of_arm for name, of_arm in runs.items() if of_arm}
  planned = {name: range(seeds) for name in arms}
  return summary.summarise(
    *(runs, "base", goal, diverged or {}, planned, references, pairs),
    *(chosen_on, best_by),
  )


STEADY = [0.50, 0.51, 0.49, 0.50, 0.50]


def test_a_gain_beyond_the_goal_is_better_and_meets_it():
  arm = _numbers({"base": STEADY, "a": [x + 0.3 for x in STEADY]})["arms"]["a"]
  assert arm["verdict"].startswith("a is better than base by 30.0 points")
  assert arm["verdict"].endswith("; the goal of 5 points is met")
  assert arm["goal"] == "met"


def test_losing_the_bad_seed_gains_nothing():
  good, bad = [0.60, 0.61, 0.59, 0.60], 0.1
  whole = _numbers({"base": STEADY, "a": [*good, bad]})
  assert "better" not in whole["arms"]["a"]["verdict"]
  # The bad run diverges instead, and counts with the accuracy of chance.
  numbers = _numbers({"base": STEADY, "a": [*good, None]}, {"a": {4: 17}})
  assert numbers["chance"] == bad
  diverged = numbers["arms"]["a"]
  assert diverged["diverged"] == {"4": 17}
  assert diverged["accuracy"]["each"] == [*good, bad]
  assert diverged["difference"]["mean"] == pytest.approx(
    whole["arms"]["a"]["difference"]["mean"]
  )
  assert "better" not in diverged["verdict"]
  assert sorted(diverged["mcnemar"]) == ["0", "1", "2", "3"]
  # The bad run is missing.
  missing = _numbers({"base": STEADY, "a": [*good, None]})["arms"]["a"]
  assert missing["verdict"] == (
    "a against base is not decided: a/4 is not finished; +10.0 points so far"
  )
  assert missing["goal"] is None


def test_a_seed_that_diverged_keeps_its_place():
  arms = {"base": STEADY, "a": [0.6, None, 0.7, 0.6, 0.6]}
  arm = _numbers(arms, diverged={"a": {1: 17}})["arms"]["a"]
  assert arm["seeds"] == [0, 1, 2, 3, 4]
  assert arm["accuracy"]["each"] == pytest.approx([0.6, 0.1, 0.7, 0.6, 0.6])


def test_an_arm_whose_runs_all_diverged_is_worse_and_has_no_other_figures():
  numbers = _numbers(
    {"base": STEADY, "a": [None] * 5, "b": STEADY},
    {"a": dict.fromkeys(range(5), 3)},
  )
  arm = numbers["arms"]["a"]
  assert arm["verdict"].startswith("a is worse than base by 40.0 points")
  assert arm["accuracy"]["mean"] == pytest.approx(0.1)
  assert arm["loss"] is None
  assert arm["per_class"] is None
  assert numbers["best"] == "b"


def test_one_seed_decides_nothing():
  arm = _numbers({"base": [0.5], "a": [0.9]}, seeds=1)["arms"]["a"]
  assert arm["verdict"].startswith("a against base is not decided: +40.0 point")
  assert arm["goal"] is None
  assert arm["difference"]["p_value"] is None


def _difference(low, high):
  ends = {"low": low, "high": high, "level": 0.99}
  mean = (low + high) / 2
  return {**ends, "mean": mean, "each": [0.0] * 3, "simultaneous": ends}


@pytest.mark.parametrize(
  ("low", "high", "start", "state"),
  [
    (0.06, 0.1, "a is better than base by 8.0 points", "met"),
    (0.05, 0.1, "a is better than base by 7.5 points", "met"),
    (0.005, 0.093, "a is better than base by 4.9 points", "open"),
    (-0.02, 0.06, "a cannot be distinguished from base", "open"),
    (-0.02, 0.04, "a cannot be distinguished from base", "missed"),
    (0.01, 0.04, "a is better than base by 2.5 points", "missed"),
    (-0.04, -0.01, "a is worse than base by 2.5 points", "missed"),
  ],
)
def test_the_goal_is_met_missed_or_open(low, high, start, state):
  text = words.verdict(
    "a", "base", _difference(low, high), goal=0.05, unfinished=[]
  )
  assert text.startswith(start)
  assert "99 % interval" in text
  assert text.endswith(f"the goal of 5 points is {state}")


def test_the_goal_is_judged_by_an_interval_that_holds_for_all_arms():
  arms = {"base": STEADY, "a": [x + 0.3 for x in STEADY]}
  arms["b"] = [0.60, 0.63, 0.62, 0.60, 0.60]
  found = _numbers(arms)["arms"]["b"]["difference"]
  # a is decided first, so Holm judges b against zero alone.
  bounds = found["simultaneous"]
  assert (found["level"], bounds["level"]) == pytest.approx((0.95, 0.975))
  assert bounds["low"] < found["low"]
  goal = (bounds["low"] + found["low"]) / 2
  arm = _numbers(arms, goal=goal)["arms"]["b"]
  assert arm["goal"] == "open"
  low, high = (f"{100 * bounds[end]:.1f}" for end in ("low", "high"))
  assert arm["verdict"].endswith(
    f" points is open by the 97.5 % interval {low} to {high}"
  )
  # The goal of the arm that is decided first has the same interval.
  assert _numbers(arms)["arms"]["a"]["verdict"].endswith(" points is met")


def test_the_interval_and_the_corrected_test_agree():
  rng = np.random.default_rng(0)
  for _ in range(10):
    arms = {"base": 0.5 + rng.normal(0, 0.02, 3)}
    gains = rng.uniform(0, 0.1, 6)
    arms |= {
      f"a{i}": 0.5 + g + rng.normal(0, 0.02, 3) for i, g in enumerate(gains)
    }
    for name, arm in _numbers(arms, seeds=3)["arms"].items():
      if name == "base":
        continue
      found = arm["difference"]
      decided = found["low"] > 0 or found["high"] < 0
      assert decided == (found["p_holm"] < 0.05)
      assert decided == ("cannot be distinguished" not in arm["verdict"])
      assert found["level"] >= 0.95


def test_the_best_arm_is_best_with_the_weights_that_are_compared():
  last = {
    "a": _run(0.6, best=0.7, chosen="last"),
    "b": _run(0.62, 0.65, "last"),
  }
  arms = {"base": [_run(0.5, chosen="last")] * 2} | {
    name: [run] * 2 for name, run in last.items()
  }
  assert _numbers(arms, seeds=2)["best"] == "b"
  best = {
    name: [
      _run(
        run.result.validation.last.accuracy, run.result.validation.best.accuracy
      )
    ]
    * 2
    for name, run in last.items()
  }
  assert _numbers({"base": [0.5] * 2} | best, seeds=2)["best"] == "a"


def test_the_best_arm_is_chosen_by_the_figure_that_best_by_names():
  arms = {
    "base": [_run(0.5, balanced=0.5)] * 2,
    "a": [_run(0.7, balanced=0.6)] * 2,
    "b": [_run(0.6, balanced=0.7)] * 2,
  }
  for best_by, best in (("accuracy", "a"), ("balanced_accuracy", "b")):
    numbers = _numbers(arms, seeds=2, best_by=best_by)
    assert numbers["best"] == best
    text = words.headline(numbers, "test")
    assert f"best of 2 arms by {best_by.replace('_', ' ')} on valid" in text


def test_a_pair_is_compared_and_counts_for_the_correction():
  arms = {"base": STEADY, "a": [x + 0.1 for x in STEADY]}
  arms["a+b"] = [x + 0.13 for x in STEADY]
  without = _numbers(arms)["arms"]
  numbers = _numbers(arms, pairs=[("a+b", "a")])
  [pair] = numbers["pairs"]
  assert (pair["arm"], pair["other"]) == ("a+b", "a")
  assert pair["difference"]["mean"] == pytest.approx(0.03)
  assert pair["verdict"].startswith("a+b ")
  assert " a:" in pair["verdict"] or " than a by 3.0" in pair["verdict"]
  difference = numbers["arms"]["a"]["difference"]
  assert difference["p_value"] == without["a"]["difference"]["p_value"]
  assert difference["p_holm"] > without["a"]["difference"]["p_holm"]


def test_arms_clearly_below_a_classical_classifier_are_named():
  right = lambda share: dict.fromkeys(range(5), _run(share).correct)
  arms = {"base": STEADY, "a": [0.9] * 5, "b": [0.845] * 5}
  references = {"p": right(0.8), "q": right(0.85)}
  numbers = _numbers(arms, references=references)
  assert numbers["references"]["q"]["mean"] == pytest.approx(0.85)
  [text] = baselines.warnings(numbers)
  # b is below q by so little that it may be chance.
  assert text.startswith("Below q (85.0 %): base (50.0 %). ")
  assert not baselines.warnings(_numbers(arms))


def test_losing_a_bad_seed_does_not_make_an_arm_the_best():
  good, other = [0.7] * 4, [0.65] * 5
  arms = {"base": STEADY, "a": [*good, None], "b": other}
  assert _numbers(arms, {"a": {4: 3}})["best"] == "b"
  assert _numbers(arms)["best"] == "b"
  assert _numbers({"base": STEADY, "a": [*good, None]})["best"] == "a"


def test_the_best_arm_is_chosen_on_the_networks_of_the_tuning():
  arms = {"base": STEADY, "a": [0.7] * 5, "b": [0.6, None, 0.6, 0.6, 0.6]}
  tuned = {"base": 0.9, "a": 0.6, "b": 0.7}
  assert _numbers(arms)["best"] == "a"
  # Neither better runs, nor a missing or a diverged one, change the choice.
  assert _numbers(arms, chosen_on=tuned)["best"] == "b"
  assert _numbers(arms, {"b": {1: 7}}, chosen_on=tuned)["best"] == "b"
  # An arm without a finished run has no figures to show.
  arms["b"] = [None] * 5
  lost = {"b": dict.fromkeys(range(5), 7)}
  assert _numbers(arms, lost, chosen_on=tuned)["best"] == "a"


def test_a_page_on_which_all_other_arms_diverged_reports_it():
  numbers = _numbers(
    {"base": STEADY, "a": [None] * 5}, {"a": dict.fromkeys(range(5), 3)}
  )
  assert numbers["best"] == "base"
  text = words.headline(numbers, "test")
  assert text == "Every run of the other arms diverged."
  assert numbers["arms"]["a"]["accuracy"]["low"] is None


def test_what_is_not_known_is_null_in_json():
  broken = _run(0.5)
  broken.compared.logits[0] = np.nan
  numbers = _numbers({"base": [broken] * 2, "a": [0.5] * 2}, seeds=2)
  json.dumps(numbers, allow_nan=False)
  loss = numbers["arms"]["base"]["loss"]
  assert loss == {"mean": None, "low": None, "high": None, "each": [None] * 2}


def test_a_temperature_is_not_fitted_on_the_images_that_it_is_measured_on():
  run = dataclasses.replace(_run(0.5), split="validation")
  arm = _numbers({"base": [run], "a": [run]}, seeds=1)["arms"]["a"]
  assert arm["calibration_error"]["mean"] > 0
  assert arm["temperature"] is arm["calibration_error_scaled"] is None
  tested = _numbers({"base": [0.5], "a": [0.5]}, seeds=1)["arms"]["a"]
  assert tested["temperature"]["mean"] > 0


def _elsewhere(model="vit", kind="cpu", devices=1, jax="0.10.2", commit=None):
  result = types.SimpleNamespace(
    device_kind=kind,
    devices=devices,
    versions={"jax": jax, "numpy": "2"},
    commit=commit,
  )
  config = types.SimpleNamespace(model=types.SimpleNamespace(name=model))
  return types.SimpleNamespace(
    result=result, run=types.SimpleNamespace(config=config)
  )


@pytest.mark.parametrize(
  ("other", "said"),
  [
    ({}, None),
    (
      {"kind": "NVIDIA H100"},
      "The runs were trained on different devices (1 cpu: base/0 and 2 more; "
      "1 NVIDIA H100: a/1). Do not compare",
    ),
    (
      {"devices": 8},
      "different devices (1 cpu: base/0 and 2 more; 8 cpu: a/1)",
    ),
    (
      {"jax": "0.12.0"},
      "different software (jax 0.10.2: base/0 and 2 more; jax 0.12.0: a/1)",
    ),
    (
      {"commit": "0123456789abcdef"},
      "different software (commit unknown: base/0 and 2 more; commit "
      "0123456789ab: a/1)",
    ),
    ({"model": "resnet18"}, "different networks (vit: base/0 and 2 more; resn"),
  ],
)
def test_runs_of_other_circumstances_are_a_warning(other, said):
  runs = {
    "base": {0: _elsewhere(), 1: _elsewhere()},
    "a": {0: _elsewhere(), 1: _elsewhere(**other)},
  }
  found = circumstances.warnings(runs)
  assert len(found) == (said is not None)
  assert all(said in text for text in found)


def _validated(accuracy, seed, examples=EXAMPLES):
  """A run that is measured on validation images of its seed."""
  run = _run(accuracy)
  part = slice(EXAMPLES - examples, None)
  compared = Predictions(
    run.compared.logits[part],
    run.compared.labels[part],
    np.array([f"{seed}/{i}" for i in range(examples)]),
  )
  return dataclasses.replace(run, split="validation", compared=compared)


@pytest.mark.parametrize("examples", [EXAMPLES, EXAMPLES - 40])
def test_without_a_test_set_arms_are_paired_on_the_images_of_a_seed(examples):
  last = lambda x: _validated(x, 2, examples)
  arms = {
    "base": [_validated(0.50, 0), _validated(0.52, 1), last(0.51)],
    "a": [_validated(0.61, 0), None, last(0.61)],
  }
  numbers = _numbers(arms, {"a": {1: 3}}, seeds=3)
  same = examples == EXAMPLES
  assert numbers["examples"] == (EXAMPLES if same else None)
  arm = numbers["arms"]["a"]
  each = [0.11, 0.1 - 0.52, 0.10 * EXAMPLES / examples]
  assert arm["difference"]["each"] == pytest.approx(each)
  assert arm["difference"]["mean"] == pytest.approx(np.mean(each))
  assert arm["difference"]["low"] < -0.4 < 0.1 < arm["difference"]["high"]
  assert arm["mcnemar"]["0"]["gained"] == 0.11 * EXAMPLES
  json.dumps(numbers, allow_nan=False)
  # The runs of a seed must share their images, and those on test all do.
  arms["a"][1] = _validated(0.6, 7)
  with pytest.raises(ValueError, match="measured on different examples"):
    _numbers(arms, seeds=3)
  tested = [
    dataclasses.replace(_validated(0.5, seed), split="test") for seed in (0, 1)
  ]
  with pytest.raises(ValueError, match="measured on different examples"):
    _numbers({"base": tested, "a": tested}, seeds=2)


def test_an_undecided_headline_claims_nothing_of_an_interval():
  arms = {"base": [0.5], "a": [0.6], "b": [0.7]}
  text = words.headline(_numbers(arms, seeds=1), "test")
  assert "not decided" in text
  assert "interval" not in text
