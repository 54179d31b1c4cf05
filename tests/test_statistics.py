"""Intervals and tests of accuracies against independent derivations."""

import numpy as np
import pytest
from scipy import stats

from mixaug_jax.analysis import calibration, statistics


def _correct(seeds, examples, spread=0.03, seed=0, shift=0.6):
  """Predictions whose seeds and examples both differ, bool `[S, N]`."""
  rng = np.random.default_rng(seed)
  difficulty = np.random.default_rng(99).normal(0, 1.5, examples)
  luck = rng.normal(0, 5 * spread, (seeds, 1))
  own = rng.normal(0, 1, (seeds, examples))
  return own + shift + luck > difficulty


def _by_regression(values):
  """Mean squares of seeds, examples and the rest, by least squares."""
  seeds, examples = values.shape
  of_seed = np.repeat(np.eye(seeds), examples, axis=0)
  of_example = np.tile(np.eye(examples), (seeds, 1))
  y = values.ravel()

  def residual(*parts):
    design = np.concatenate([np.ones((y.size, 1)), *parts], axis=1)
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return ((y - fitted) ** 2).sum()

  rest = residual(of_seed, of_example)
  return (
    (residual(of_example) - rest) / (seeds - 1),
    (residual(of_seed) - rest) / (examples - 1),
    rest / ((seeds - 1) * (examples - 1)),
  )


@pytest.mark.parametrize("seeds", [3, 6])
def test_the_error_is_that_of_a_regression_on_seeds_and_examples(seeds):
  arm, base = _correct(seeds, 40, 0.3, 1, 0.9), _correct(seeds, 40, 0.3, 2)
  found = statistics.difference(arm, base)
  values = arm.astype(float) - base
  # The pseudo-examples are -1, 0, 0 and 1, of which each counts half.
  a, b, e = _by_regression(values)
  total = 40 + 2
  centre = values.mean(0).sum() / total
  by_examples = ((values.mean(0) ** 2).sum() + 1) / total - centre**2
  # Without pseudo-examples this is the mean square of the examples.
  plain = values.mean(0).var(ddof=1) * seeds
  assert plain == pytest.approx(b)
  assert a > e  # Otherwise the seeds are no part of it.
  parts = np.array([by_examples / total, a / values.size, -e / values.size])
  freedoms = np.array([39, seeds - 1, (seeds - 1) * 39])
  assert found.mean == pytest.approx(values.mean())
  assert found.centre == pytest.approx(centre)
  assert found.error**2 == pytest.approx(parts.sum())
  satterthwaite = parts.sum() ** 2 / (parts**2 / freedoms).sum()
  assert satterthwaite < 2 * (seeds - 1)
  assert found.freedom == pytest.approx(satterthwaite)


def test_seeds_that_agree_by_chance_have_few_degrees_of_freedom():
  arm, base = _correct(1, 500, 0, 1, 0.9), _correct(1, 500, 0, 2)
  agreeing = statistics.difference(arm[[0, 0, 0]], base[[0, 0, 0]])
  assert agreeing.freedom == 4


def test_one_seed_has_the_interval_of_agresti_and_min_and_no_test():
  arm, base = _correct(1, 60, 0, 1, 0.9), _correct(1, 60, 0, 2)
  gained, lost = (arm & ~base).sum() + 0.5, (~arm & base).sum() + 0.5
  total = 60 + 2
  centre = (gained - lost) / total
  error = np.sqrt((gained + lost) - (gained - lost) ** 2 / total) / total
  found = statistics.difference(arm, base)
  half = stats.t.ppf(0.975, 59) * error
  assert found.interval(0.95, -1, 1)[1:] == pytest.approx(
    (centre - half, centre + half)
  )
  assert np.isnan(found.p_value)


def test_one_seed_has_the_accuracy_of_agresti_and_coull():
  found = statistics.accuracy(np.array([[True] * 9 + [False]]))
  share = (9 + 2) / (10 + 4)
  assert found.mean == 0.9
  assert found.centre == pytest.approx(share)
  assert found.error == pytest.approx(np.sqrt(share * (1 - share) / 14))


def test_two_seeds_have_at_least_the_interval_of_student():
  arm, base = _correct(2, 500, 0.1, 1, 0.9), _correct(2, 500, 0.1, 2)
  found = statistics.difference(arm, base)
  each = arm.mean(1) - base.mean(1)
  assert found.freedom == 1
  assert found.error >= stats.sem(each)
  equal = statistics.difference(arm[[0, 0]], base[[0, 0]])
  one = statistics.difference(arm[:1], base[:1])
  assert equal.error == pytest.approx(one.error)


@pytest.mark.parametrize("seeds", [1, 3])
def test_five_images_prove_little_and_nothing_leaves_its_range(seeds):
  right = np.ones((seeds, 5), bool)
  mean, low, high = statistics.accuracy(right).interval(0.95, 0, 1)
  assert (mean, high) == (1, 1)
  assert low < 0.7
  mean, low, high = statistics.difference(right, right).interval(0.95, -1, 1)
  assert mean == 0
  assert low < -0.2
  assert high > 0.2
  rng = np.random.default_rng(0)
  noisy = rng.random((3, 8)) < np.array([[0.1], [0.5], [0.9]])
  _, low, high = statistics.accuracy(noisy).interval(0.95, 0, 1)
  assert low >= 0
  assert high <= 1


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.03), (5, 0.0), (5, 0.06)])
def test_intervals_cover_the_truth_and_the_test_agrees(seeds, spread):
  """benchmarks/coverage.py has more worlds and trials."""
  covered = rejected = 0
  for trial in range(400):
    rng = np.random.default_rng(trial)
    difficulty = rng.normal(0, 1.5, 300)
    arms = [
      rng.normal(0, 1, (seeds, 300))
      + 0.6
      + rng.normal(0, 5 * spread / np.sqrt(2), (seeds, 1))
      > difficulty
      for _ in range(2)
    ]
    found = statistics.difference(*arms)
    _, low, high = found.interval(0.95, -1, 1)
    covered += low <= 0 <= high
    rejected += found.p_value < 0.05
  # Four standard errors of a share of 400 trials.
  assert covered / 400 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 400)
  assert rejected == 400 - covered


def test_seeds_with_different_numbers_of_examples_have_students_interval():
  correct = [np.arange(20) < 12, np.arange(30) < 27, np.arange(25) < 20]
  each = [12 / 20, 27 / 30, 20 / 25]
  found = statistics.accuracy(correct)
  assert (found.mean, found.freedom) == (pytest.approx(np.mean(each)), 2)
  assert found.error == pytest.approx(stats.sem(each))
  # Seeds that agree by chance keep the error of their examples.
  agreeing = [np.arange(n) < n / 2 for n in (20, 30, 40)]
  error = np.sqrt(sum(0.25 / (n + 4) for n in (20, 30, 40))) / 3
  assert statistics.accuracy(agreeing).error == pytest.approx(error)
  equal = statistics.difference(agreeing, agreeing)
  assert equal.mean == 0
  assert equal.p_value == 1
  assert equal.error > 0.01


@pytest.mark.parametrize("least", [60, 40])
def test_intervals_hold_if_seeds_draw_their_images_from_the_same_ones(least):
  held = 0
  for trial in range(400):
    rng = np.random.default_rng(trial)
    # Of 200 images, five seeds draw 60, or 40 to 60; arms differ by image.
    difficulty = rng.normal(0, 1.5, 200) + rng.normal(0, 1, (2, 200))
    luck = rng.normal(0, 0.1, (2, 5))
    arm, base = [], []
    for seed, count in enumerate(np.linspace(least, 60, 5).astype(int)):
      drawn = difficulty[:, rng.permutation(200)[:count]]
      noise = rng.normal(0, 1, drawn.shape) + 0.6 + luck[:, [seed]]
      arm.append(noise[0] > drawn[0])
      base.append(noise[1] > drawn[1])
    _, low, high = statistics.difference(arm, base).interval(0.95, -1, 1)
    held += low <= 0 <= high
  assert held / 400 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 400)


def test_holm_by_its_definition():
  p_values = [0.02, 0.3, 0.001, 0.02]
  # Sorted: 0.001 * 4, 0.02 * 3, 0.02 * 2, 0.3 * 1, never falling.
  np.testing.assert_allclose(
    statistics.holm(p_values), [0.06, 0.3, 0.004, 0.06]
  )


def test_intervals_exclude_zero_where_the_corrected_test_does():
  rng = np.random.default_rng(0)
  for _ in range(200):
    estimates = [
      statistics.Mean(x, x, 1.0, 7.0, 3) for x in rng.normal(2.5, 1.5, 5)
    ]
    p_values = [estimate.p_value for estimate in estimates]
    levels = statistics.holm_levels(p_values)
    assert min(levels) >= 0.95
    adjusted = statistics.holm(p_values)
    for estimate, p, level in zip(estimates, adjusted, levels, strict=True):
      _, low, high = estimate.interval(level, -np.inf, np.inf)
      assert (low > 0 or high < 0) == (p < 0.05)


@pytest.mark.parametrize(
  ("examples", "least", "most"), [(50, 0.11, 0.18), (1000, 0.025, 0.045)]
)
def test_a_calibrated_network_shows_the_error_of_chance(examples, least, most):
  rng = np.random.default_rng(3)
  logits = rng.normal(0, 1.2, (examples, 10))
  chance = calibration.calibration_error_by_chance(logits)
  shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  errors = []
  for _ in range(50):
    labels = np.array([rng.choice(10, p=share) for share in shares])
    errors.append(calibration.expected_calibration_error(logits, labels))
  assert chance == pytest.approx(np.mean(errors), rel=0.1)
  assert least < chance < most
