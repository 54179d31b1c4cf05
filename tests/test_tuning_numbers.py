"""The numbers and the sentences of a tuning, on made-up trials."""

import dataclasses
import html
import itertools
import json
import re

import numpy as np
import pytest
from scipy import stats

from mixaug_jax.analysis import statistics
from mixaug_jax.comparison import (
  tuning_figures,
  tuning_numbers,
  tuning_words,
)
from mixaug_jax.comparison.tuning import Trial, Tuning
from mixaug_jax.pages import drawing

RATE, STEPS = "optimizer.learning_rate", "steps"
_STEPS_RANGE = {STEPS: "choice 100 200 400"}
SPACE = {RATE: "log 0.01 1", **_STEPS_RANGE}
EXAMPLES = 20
CHANCE = 0.1


def _trial(arm, number, study, right, place=0.5, steps=100):
  """A trial with a number of examples right; it diverged if that is None."""
  first = place is None
  correct = (
    np.full(EXAMPLES, CHANCE) if right is None else np.arange(EXAMPLES) < right
  )
  return Trial(
    arm=arm,
    number=number,
    study=study,
    seed=1000 + study,
    values={RATE: 0.1 if first else 0.01 * 100**place, STEPS: steps},
    places={} if first else {RATE: place, STEPS: 0.5},
    accuracy=float(correct.mean()),
    score=float(correct.mean()),
    loss=None if right is None else 1.0,
    correct=correct,
    steps=steps,
    seconds=None if right is None else 2.0,
    diverged=7 if right is None else None,
  )


def _tuning(rights, places=None, design="studies"):
  """A tuning from the right examples of each trial, by arm and study."""
  trials = {
    name: tuple(
      tuple(
        _trial(
          name,
          study * len(of_study) + n,
          study,
          right,
          None if n == 0 else places[study][n] if places else 0.5,
        )
        for n, right in enumerate(of_study)
      )
      for study, of_study in enumerate(studies)
    )
    for name, studies in rights.items()
  }
  chosen = {
    name: tuple(max(study, key=lambda t: t.accuracy) for study in studies)
    for name, studies in trials.items()
  }
  return Tuning(design, SPACE, trials, chosen)


RIGHTS = {
  "base": [[10, 12, 8], [11, 9, 10]],
  "a": [[12, 12, 6], [12, 11, 13]],
  "a+b": [[9, 15, 16], [14, 16, 12]],
}


@pytest.mark.parametrize("values", [[3], [1, 4, 2, 2, 9], [0.5] * 4])
def test_the_best_of_k_is_the_mean_over_all_subsets(values):
  expected = [
    np.mean([max(some) for some in itertools.combinations(values, k)])
    for k in range(1, len(values) + 1)
  ]
  np.testing.assert_allclose(statistics.expected_best(values), expected)


def test_the_best_of_k_has_no_bias_for_independent_draws():
  rng = np.random.default_rng(0)
  found = np.mean(
    [statistics.expected_best(rng.random(6)) for _ in range(4000)], axis=0
  )
  # The greatest of k uniform numbers has the mean k / (k + 1).
  k = np.arange(1, 7)
  np.testing.assert_allclose(found, k / (k + 1), atol=0.01)


def test_the_best_of_k_extends_from_the_lowest_to_the_highest_study():
  arm = tuning_numbers.summarise(_tuning(RIGHTS), "base")["arms"]["a"]
  # Studies of 12, 12, 6 and of 12, 11, 13 right of 20.
  found = arm["best_of_k"]
  each = np.array([[30 / 3, 36 / 3, 12], [36 / 3, 38 / 3, 13]]) / EXAMPLES
  np.testing.assert_allclose(found["mean"], each.mean(0))
  np.testing.assert_allclose(found["low"], each.min(0))
  np.testing.assert_allclose(found["high"], each.max(0))
  one = {name: studies[:1] for name, studies in RIGHTS.items()}
  arm = tuning_numbers.summarise(_tuning(one), "base")["arms"]["a"]
  assert arm["best_of_k"]["low"] is arm["best_of_k"]["high"] is None


def test_gains_are_paired_by_the_number_of_the_trial():
  tuning = _tuning(RIGHTS)
  turned = tuning.trials | {
    "base": tuple(study[::-1] for study in tuning.trials["base"])
  }
  for trials in (tuning.trials, turned):
    changed = dataclasses.replace(tuning, trials=trials)
    numbers = tuning_numbers.summarise(changed, "base", [("a+b", "a")])
    gains = numbers["arms"]["a"]["gains"]
    np.testing.assert_allclose(
      np.array(gains["each"]) * EXAMPLES, [2, 0, -2, 1, 2, 3], atol=1e-9
    )
    assert (gains["ahead"], gains["level"]) == (4, 1)
    assert gains["mean"] == pytest.approx(1 / EXAMPLES)
    [pair] = numbers["pairs"]
    assert (pair["arm"], pair["other"]) == ("a+b", "a")
    np.testing.assert_allclose(
      np.array(pair["gains"]["each"]) * EXAMPLES,
      [-3, 3, 10, 2, 5, -1],
      atol=1e-9,
    )
  assert "gains" not in numbers["arms"]["base"]


@pytest.mark.parametrize(
  ("text", "place", "end"),
  [
    ("log 0.03 1", 0.0, "lower"),
    ("log 0.03 1", 0.099, "lower"),
    ("log 0.03 1", 0.1, None),
    ("uniform 0 5", 0.899, None),
    ("uniform 0 5", 0.9, "upper"),
    ("choice 200 400 800", 0.3, "lower"),
    ("choice 200 400 800", 0.5, None),
    ("choice 200 400 800", 0.7, "upper"),
    ("choice 400 800 200", 0.7, "lower"),
    ("choice 400 800 200", 0.5, "upper"),
    ("choice 200 400", 0.0, None),
    ("choice a b c", 0.0, None),
    ("choice True False", 0.99, None),
  ],
)
def test_the_end_of_a_range(text, place, end):
  assert tuning_numbers.end_of_range(text, place) == end


def test_values_at_an_end_in_half_of_the_studies_are_a_warning():
  studies = 4
  best_second = [[10, 12]] * studies
  rights = {"base": best_second, "a": best_second, "b": [[12, 10]] * studies}
  for at_end, warned in ((1, False), (2, True), (4, True)):
    places = [[None, 0.95 if k < at_end else 0.5] for k in range(studies)]
    numbers = tuning_numbers.summarise(_tuning(rights, places), "base")
    # The choice of b is the recipe as it is written, which has no place.
    expected = {
      "key": RATE,
      "end": "upper",
      "arms": dict.fromkeys(("base", "a"), at_end),
    }
    assert numbers["ends"] == ([expected] if warned else [])
  assert tuning_words.warnings(numbers) == [
    f"The chosen value of {RATE} lies at the upper end of its range (log 0.01 "
    "1) in base (4 of 4 studies), a (4 of 4 studies); widen "
    f"config.tune.space.{RATE} if it can go further."
  ]
  [chosen, *_] = numbers["arms"]["a"]["chosen"]
  assert chosen["ends"] == {RATE: "upper"}
  assert chosen["number"] == 1
  assert chosen["values"][RATE] == pytest.approx(0.01 * 100**0.95)


def test_the_budget_is_equal_and_trials_that_ended_early_are_named():
  rights = RIGHTS | {"a": [[12, None, 6], [12, None, 13]]}
  numbers = tuning_numbers.summarise(_tuning(rights), "base")
  base, arm = numbers["arms"]["base"], numbers["arms"]["a"]
  assert base["steps"] == base["steps_trained"] == arm["steps"] == 600
  assert arm["steps_trained"] == 4 * 100 + 2 * 7
  assert (base["seconds"], arm["seconds"]) == (12, 8)
  assert tuning_words.budget(numbers) == [
    "Each arm was tuned with 6 trials in 2 studies, 600 steps of training in "
    "total.",
    "Trials that diverged: 2 of a. They ended early and count with the "
    "accuracy of chance.",
  ]
  assert tuning_words.budget(numbers, 60.0)[-1] == (
    "Training took 32 s in the trials and 60 s in the runs that are compared, "
    "without compilation, evaluation and saving, and counted one after the "
    "other."
  )
  # A diverged trial counts with chance.
  assert arm["gains"]["each"][1] == pytest.approx(CHANCE - 12 / EXAMPLES)


def test_trials_that_stopped_early_are_counted_with_their_steps():
  tuning = _tuning(RIGHTS)
  first, *rest = tuning.trials["a"]
  stopped = [dataclasses.replace(trial, stopped_early=40) for trial in first]
  changed = dataclasses.replace(
    tuning, trials=tuning.trials | {"a": (tuple(stopped), *rest)}
  )
  numbers = tuning_numbers.summarise(changed, "base")
  arm = numbers["arms"]["a"]
  assert (arm["steps"], arm["steps_trained"]) == (600, 3 * 40 + 3 * 100)
  assert tuning_words.budget(numbers)[1] == (
    "Early stopping, with the same rule in every arm, shortened trials: a 3 "
    "trials, 420 of 600 steps."
  )
  assert numbers["arms"]["a"]["trials"][0]["stopped_early"] == 40


@pytest.mark.parametrize(
  ("text", "value", "outside"),
  [
    ("log 0.01 1", 0.003, True),
    ("log 0.01 1", 1.0, False),
    ("uniform 0 0.2", 0.0, False),
    ("uniform 0.1 0.2", 0, True),
    ("choice 200 400", 400, False),
    ("choice 200 400", 300, True),
    ("choice true false", True, False),
    ("choice true", False, True),
    ("choice cosine step", "constant", True),
    ("choice none 1", 1.0, False),
    ("uniform 0.2 1.5", None, False),
  ],
)
def test_a_value_outside_of_a_range(text, value, outside):
  assert tuning_numbers.is_outside(text, value) == outside


def test_a_written_recipe_outside_of_the_ranges_is_a_warning():
  tuning = _tuning(RIGHTS)
  assert not tuning_numbers.summarise(tuning, "base")["outside"]
  narrow = dataclasses.replace(
    tuning, space={RATE: "log 0.2 1", **_STEPS_RANGE}
  )
  [text] = tuning_words.warnings(tuning_numbers.summarise(narrow, "base"))
  assert text.startswith(
    "The recipe as it is written has optimizer.learning_rate=0.1, outside of "
    "the range that was tuned, log 0.2 1."
  )


def test_different_budgets_are_stated():
  tuning = _tuning(RIGHTS)
  longer = tuple(
    tuple(dataclasses.replace(trial, steps=200) for trial in study)
    for study in tuning.trials["a"]
  )
  changed = dataclasses.replace(tuning, trials=tuning.trials | {"a": longer})
  [text] = tuning_words.budget(tuning_numbers.summarise(changed, "base"))
  assert text == (
    "Each arm was tuned with 6 trials in 2 studies, but not with the same "
    "steps of training: base 600, a 1,200, a+b 600."
  )


@pytest.mark.parametrize("all_arms", [False, True])
def test_a_study_whose_trials_all_diverged_keeps_the_written_recipe(all_arms):
  lost = [[None] * 3, [12, 11, 13]]
  rights = dict.fromkeys(RIGHTS, lost) if all_arms else RIGHTS | {"a": lost}
  numbers = tuning_numbers.summarise(_tuning(rights), "base", [("a+b", "a")])
  json.dumps(numbers, allow_nan=False)
  chosen = numbers["arms"]["a"]["chosen"][0]
  assert (chosen["number"], chosen["ends"]) == (0, {})
  assert chosen["accuracy"] == pytest.approx(CHANCE)
  [text] = tuning_words.warnings(numbers)
  of = "every arm" if all_arms else "a"
  assert text.startswith(f"In study 0 every trial of {of} diverged")


def test_without_tuning_the_first_trials_are_compared():
  found = tuning_numbers.summarise(_tuning(RIGHTS), "base")["untuned"]
  # The first trials have 10, 11 right in base, 12, 12 in a, 9, 14 in a+b.
  difference = found["differences"]["a"]
  np.testing.assert_allclose(difference["each"], [2 / 20, 1 / 20])
  assert difference["mean"] == pytest.approx(1.5 / 20)
  base, ours = (
    np.stack([np.arange(EXAMPLES) < n for n in right])
    for right in ((10, 11), (12, 12))
  )
  _, low, high = statistics.difference(ours, base).interval(0.95, -1, 1)
  assert (difference["low"], difference["high"]) == (low, high)
  assert found["best"] == "a"


def test_another_figure_by_which_trials_are_chosen_is_named_and_counts():
  tuning = _tuning(RIGHTS)
  # By its score, the second trial of a+b is the worst and base is level.
  scored = lambda trials: tuple(
    dataclasses.replace(trial, score=0.9 - trial.accuracy) for trial in trials
  )
  changed = dataclasses.replace(
    tuning,
    best_by="balanced_accuracy",
    trials={x: tuple(map(scored, y)) for x, y in tuning.trials.items()},
    chosen={x: scored(y) for x, y in tuning.chosen.items()},
  )
  numbers = tuning_numbers.summarise(changed, "base")
  assert numbers["untuned"]["best"] == "a+b"
  arm = numbers["arms"]["a"]
  assert arm["score"] == pytest.approx(0.9 - arm["accuracy"])
  assert arm["best_of_k"]["mean"][-1] == pytest.approx(0.9 - (6 + 11) / 40)
  text = tuning_words.headline(_numbers(numbers, "a"), "test")
  assert "best of 2 arms by balanced accuracy on the validation" in text
  text = tuning_words.untuned(_numbers(numbers, "a"))
  assert "The best arm by balanced accuracy would have been a+b, with" in text
  paint = drawing.colours(list(RIGHTS), "base")
  [axes] = tuning_figures.best_of_k(numbers, paint).axes
  title = axes.get_title(loc="left")
  assert title == "Validation balanced accuracy of the best of k trials, %"


def test_studies_with_different_numbers_of_images_have_students_interval():
  tuning = _tuning(RIGHTS)
  # The first study has every second image.
  trials = {
    name: (
      tuple(
        dataclasses.replace(t, correct=t.correct[1::2]) for t in studies[0]
      ),
      studies[1],
    )
    for name, studies in tuning.trials.items()
  }
  found = tuning_numbers.summarise(
    dataclasses.replace(tuning, trials=trials), "base"
  )["untuned"]["differences"]["a+b"]
  each = [-1 / 10, 3 / 20]
  np.testing.assert_allclose(found["each"], each)
  half = stats.t.ppf(0.975, 1) * stats.sem(each)
  assert found["mean"] == pytest.approx(np.mean(each))
  assert found["low"] == max(-1, np.mean(each) - half)


def test_the_interval_holds_if_each_study_has_images_of_its_own():
  held = 0
  for trial in range(400):
    rng = np.random.default_rng(trial)
    # Five studies, each with 60 images of its own and luck of its own.
    shares = np.clip(0.7 + rng.normal(0, 0.03, (2, 5, 1)), 0, 1)
    arm, base = rng.random((2, 5, 60)) < shares
    _, low, high = statistics.difference(arm, base).interval(0.95, -1, 1)
    held += low <= 0 <= high
  assert held / 400 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 400)


def _numbers(tuning, best, verdict="V", goal="met"):
  arm = {"verdict": verdict, "goal": goal, "diverged": {"1": 9}}
  return {
    "best": best,
    "baseline": "base",
    "arms": dict.fromkeys(tuning["arms"], arm),
    "unfinished": {},
    "tuning": tuning,
  }


def test_the_headline_names_the_budget_and_how_the_arm_was_chosen():
  tuning = tuning_numbers.summarise(_tuning(RIGHTS), "base")
  assert tuning_words.headline(_numbers(tuning, "a+b"), "test") == (
    "Tuned alike (6 trials an arm in 2 studies), V. a+b is the best of 2 arms "
    "by accuracy on the validation images of the tuning; its figure comes from "
    "other networks. The interval and the test are adjusted for the number of "
    "comparisons."
  )
  undecided = _numbers(tuning, "a+b", goal=None)
  assert tuning_words.headline(undecided, "test") == (
    "Tuned alike (6 trials an arm in 2 studies), V."
  )


def test_without_another_arm_the_headline_gives_the_reason():
  tuning = tuning_numbers.summarise(_tuning(RIGHTS), "base")
  diverged = tuning_words.headline(_numbers(tuning, "base"), "test")
  assert diverged == "Every run of the other arms diverged."
  partly = _numbers(tuning, "base") | {"unfinished": {"base": [0], "a": [0]}}
  assert tuning_words.headline(partly, "test") == (
    "No other arm has a finished run; unfinished: a/0; diverged: a/1, a+b/1."
  )


def test_the_untuned_sentence_names_the_other_arm_where_it_differs():
  tuning = tuning_numbers.summarise(_tuning(RIGHTS), "base")
  same = tuning_words.untuned(_numbers(tuning, "a"))
  assert same.startswith(
    "With the recipe as it is written, the difference of a to base on "
    "validation would have been +7.5 points (2 seeds, 95 % interval "
  )
  assert "best arm" not in same
  other = tuning_words.untuned(_numbers(tuning, "a+b"))
  assert "would have been +5.0 points" in other
  assert (
    "The best arm by accuracy would have been a, with a difference in accuracy "
    "of +7.5 points" in other
  )
  one = {name: studies[:1] for name, studies in RIGHTS.items()}
  tuning = tuning_numbers.summarise(_tuning(one, design="fixed"), "base")
  assert tuning_words.untuned(_numbers(tuning, "a")) == (
    "With the recipe as it is written, the difference of a to base on "
    "validation would have been +10.0 points (one seed, which decides nothing)."
  )


def test_the_design_states_what_the_intervals_include():
  several = tuning_numbers.summarise(_tuning(RIGHTS), "base")
  assert tuning_words.design(several, 2) == (
    "Tuning included: 2 studies, each with its own tuning and a fresh seed. "
    "The intervals include the noise of tuning."
  )
  one = {name: studies[:1] for name, studies in RIGHTS.items()}
  fixed = tuning_numbers.summarise(_tuning(one, design="fixed"), "base")
  assert tuning_words.design(fixed, 5) == (
    "Recipe fixed: one tuning, 5 fresh seeds. The intervals leave out the noise"
    " of tuning."
  )
  single = tuning_numbers.summarise(_tuning(one), "base")
  assert tuning_words.design(single, 1) == (
    "One study, with one tuning and one fresh seed, which decides nothing."
  )


def test_the_figures_have_every_recipe_and_its_values():
  rights = RIGHTS | {"a": [[12, None, 6], [12, 11, 13]]}
  tuning = tuning_numbers.summarise(_tuning(rights), "base", [("a+b", "a")])
  paint = drawing.colours(list(rights), "base")
  figure = tuning_figures.gains(tuning, paint, "base")
  hints = [
    gid.removeprefix("hint: ")
    for line in figure.axes[0].lines
    if (gid := line.get_gid())
  ]
  assert len(hints) == 3 * 6
  element = str(drawing.element(figure, "gains", "text"))
  shown = re.findall("<title>(.*?)</title>", element, re.DOTALL)
  assert sorted(map(html.unescape, shown)) == sorted(hints)
  assert hints[0] == (
    "a over base: +10.0 points\ntrial 0\nthe recipe as it is written\n"
    f"{RATE}=0.1\n{STEPS}=100"
  )
  assert hints[1].endswith("diverged at step 7")
  assert hints[-1].startswith("a+b over a: -5.0 points\ntrial 5\n")
  figure = tuning_figures.best_of_k(tuning, paint)
  assert len(figure.axes[0].collections) == 3
  assert "a+b, best of 3: 80.0 %" in [
    str(line.get_gid()).removeprefix("hint: ") for line in figure.axes[0].lines
  ]
