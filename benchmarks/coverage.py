"""Measures how often the interval of a difference holds the true difference.

    python -m benchmarks.coverage [--trials 1000]

The experiments are simulated, so that the truth is known: seeds that move each
arm's accuracy, test examples of different difficulty, and arms that agree on
many of them. The plain bootstrap of seeds and examples stands beside ours.
"""

import numpy as np
from scipy import stats

from benchmarks import harness
from mixaug_jax.analysis import statistics

EXAMPLES = 1000
SEEDS = (2, 3, 5, 10)
SPREADS = (0.0, 0.01, 0.03, 0.06)  # Of the difference from seed to seed.
RESAMPLES = 400


def experiment(rng, seeds: int, spread: float):
  """Returns what two arms got right, `[S, N]` each, and the true difference."""
  difficulty = rng.normal(0, 1.5, EXAMPLES)
  # Divided by the slope of the accuracy in the middle, spread is in accuracy.
  slope = 0.2
  move = lambda: rng.normal(0, spread / slope / np.sqrt(2), (seeds, 1))
  right = []
  for shift in (0.6, 0.9):
    own = rng.normal(0, 1, (seeds, EXAMPLES))
    right.append(own + shift + move() > difficulty)
  wide = np.sqrt(1 + 1.5**2 + (spread / slope) ** 2 / 2)
  truth = stats.norm.cdf(0.9 / wide) - stats.norm.cdf(0.6 / wide)
  return right[1], right[0], truth


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


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--trials", type=int, default=1000)
  trials = flags.parse_args().trials
  rng = np.random.default_rng(0)
  harness.header(
    *("seeds", "spread, points", "plain, %", "width", "ours, %", "width")
  )
  for seeds in SEEDS:
    for spread in SPREADS:
      held, widths = np.zeros(2), np.zeros(2)
      for trial in range(trials):
        arm, base, truth = experiment(rng, seeds, spread)
        ours = statistics.paired_difference(
          arm, base, resamples=RESAMPLES, seed=trial
        )
        for i, ends in enumerate((plain(arm, base, rng), ours[1:])):
          held[i] += ends[0] <= truth <= ends[1]
          widths[i] += ends[1] - ends[0]
      # Plain and ours, each with its width.
      cells = 100 * np.stack([held, widths], axis=1).ravel() / trials
      harness.row(seeds, f"{100 * spread:g}", *(f"{x:.1f}" for x in cells))


if __name__ == "__main__":
  main()
