"""Measures how often intervals hold the true difference, and false alarms.

    python -m benchmarks.coverage [--trials 1000]

The experiments are simulated, so that the truth is known: seeds that move each
arm's accuracy, test examples of different difficulty, and arms that agree on
many of them. The plain bootstrap of seeds and examples stands beside ours. The
second table is about comparisons of a baseline with six arms that equal it: how
often any of them is called better or worse. The third one has recipes that are
tuned, which moves each arm as well: one tuning and five seeds of its recipe
stand beside five studies, each with its own tuning and one seed. In the fourth
one all arms are equal again, and the best of six on validation is compared with
the baseline: how often it is called better, and its mean gain. It is chosen by
the networks that are compared, or by those of other seeds.
"""

import numpy as np
from scipy import stats

from benchmarks import harness
from mixaug_jax.analysis import statistics

EXAMPLES = (100, 1000)
SEEDS = (2, 3, 5, 10)
SPREADS = (0.0, 0.01, 0.03, 0.06)  # Of the difference from seed to seed.
RESAMPLES = 400
ARMS = 6
TUNING = (0.0, 0.01, 0.02, 0.03)  # Of an arm's accuracy from tuning to tuning.
TUNED_SPREAD, STUDIES = 0.04, 5  # As SPREADS and SEEDS.
VALIDATION, TEST = 500, 1000
_SLOPE = 0.2  # Accuracy by shift, in the middle.


def arms(rng, seeds: int, examples: int, spread: float, shifts):
  """Returns which predictions of each arm are correct, `[S, N]` each."""
  difficulty = rng.normal(0, 1.5, examples)
  return [
    rng.normal(shift, 1, (seeds, examples))
    + rng.normal(0, spread / _SLOPE / np.sqrt(2), (seeds, 1))
    > difficulty
    for shift in shifts
  ]


def accuracy(spread: float, shift: float) -> float:
  """Returns the true accuracy of an arm."""
  wide = np.sqrt(1 + 1.5**2 + (spread / _SLOPE) ** 2 / 2)
  return stats.norm.cdf(shift / wide)


def plain(arm, base, rng):
  """Returns the ends of the plain bootstrap's interval."""
  difference = arm.astype(float) - base
  seeds, examples = difference.shape
  of_examples = rng.multinomial(
    examples, np.full(examples, 1 / examples), RESAMPLES
  )
  of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
  drawn = (of_seeds * (of_examples @ difference.T)).sum(1) / difference.size
  return np.quantile(drawn, [0.025, 0.975])


def coverage(rng, seeds: int, examples: int, spread: float, trials: int):
  """Returns coverage and width of differences, plain and ours, and of ours.

  The last two numbers are those of an arm's accuracy.
  """
  truth = accuracy(spread, 0.9) - accuracy(spread, 0.6)
  held, widths = np.zeros(3), np.zeros(3)
  for _ in range(trials):
    arm, base = arms(rng, seeds, examples, spread, (0.9, 0.6))
    ours = statistics.difference(arm, base).interval(0.95, -1, 1)
    alone = statistics.accuracy(arm).interval(0.95, 0, 1)
    for i, (ends, true) in enumerate(
      (
        (plain(arm, base, rng), truth),
        (ours[1:], truth),
        (alone[1:], accuracy(spread, 0.9)),
      )
    ):
      held[i] += ends[0] <= true <= ends[1]
      widths[i] += ends[1] - ends[0]
  return np.stack([held, widths], axis=1).ravel() / trials


def false_alarms(rng, seeds: int, spread: float, trials: int):
  """Returns how often an equal arm differs: uncorrected, and by Holm."""
  alarms = np.zeros(2)
  for _ in range(trials):
    base, *others = arms(rng, seeds, 1000, spread, [0.6] * (ARMS + 1))
    p_values = [statistics.difference(arm, base).p_value for arm in others]
    alarms += min(p_values) < 0.05, min(statistics.holm(p_values)) < 0.05
  return alarms / trials


def tuned_coverage(rng, tuning: float, trials: int):
  """Returns coverage and width with one tuning, and with one for each seed."""
  # The spread of a difference, which has the tunings of two arms.
  both = np.hypot(TUNED_SPREAD, np.sqrt(2) * tuning)
  truth = accuracy(both, 0.9) - accuracy(both, 0.6)
  held, widths = np.zeros(2), np.zeros(2)
  for _ in range(trials):
    shifts = np.array([0.9, 0.6]) + rng.normal(0, tuning / _SLOPE, 2)
    designs = (
      arms(rng, STUDIES, TEST, TUNED_SPREAD, shifts),
      arms(rng, STUDIES, TEST, both, (0.9, 0.6)),
    )
    for i, (arm, base) in enumerate(designs):
      _, low, high = statistics.difference(arm, base).interval(0.95, -1, 1)
      held[i] += low <= truth <= high
      widths[i] += high - low
  return np.stack([held, widths], axis=1).ravel() / trials


def headlines(rng, seeds: int, spread: float, trials: int):
  """Returns how often the best of equal arms is better, and its mean gain.

  Both are given for a choice by the same networks and by those of other seeds.
  """
  found = np.zeros(4)
  for _ in range(trials):
    shifts = [0.6] * (ARMS + 1)
    runs = np.stack(arms(rng, seeds, VALIDATION + TEST, spread, shifts))
    tuning = np.stack(arms(rng, seeds, VALIDATION, spread, shifts))
    base, others = runs[0, :, VALIDATION:], runs[1:, :, VALIDATION:]
    gains = [statistics.difference(arm, base) for arm in others]
    adjusted = statistics.holm([gain.p_value for gain in gains])
    for i, chosen_on in enumerate((runs[1:, :, :VALIDATION], tuning[1:])):
      best = chosen_on.mean((1, 2)).argmax()
      better = adjusted[best] < 0.05 and gains[best].mean > 0
      found[2 * i : 2 * i + 2] += better, gains[best].mean
  return found / trials


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--trials", type=int, default=1000)
  trials = flags.parse_args().trials
  rng = np.random.default_rng(0)
  harness.header(
    *("examples", "seeds", "spread, points"),
    *("plain, %", "width", "ours, %", "width", "accuracy, %", "width"),
  )
  for examples in EXAMPLES:
    for seeds in SEEDS:
      for spread in SPREADS:
        cells = 100 * coverage(rng, seeds, examples, spread, trials)
        harness.row(
          examples, seeds, f"{100 * spread:g}", *(f"{x:.1f}" for x in cells)
        )
  print()
  harness.header("seeds", "spread, points", "any of six, %", "with Holm, %")
  for seeds in SEEDS:
    for spread in SPREADS:
      cells = 100 * false_alarms(rng, seeds, spread, trials)
      harness.row(seeds, f"{100 * spread:g}", *(f"{x:.1f}" for x in cells))
  print()
  harness.header(
    "tuning, points", "one tuning, %", "width", "five studies, %", "width"
  )
  for tuning in TUNING:
    cells = 100 * tuned_coverage(rng, tuning, trials)
    harness.row(f"{100 * tuning:g}", *(f"{x:.1f}" for x in cells))
  print()
  harness.header(
    *("seeds", "spread, points", "same networks: better, %", "gain, points"),
    *("other seeds: better, %", "gain, points"),
  )
  for seeds in SEEDS:
    for spread in SPREADS:
      cells = 100 * headlines(rng, seeds, spread, trials)
      harness.row(seeds, f"{100 * spread:g}", *(f"{x:.1f}" for x in cells))


if __name__ == "__main__":
  main()
