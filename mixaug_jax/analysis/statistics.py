"""Intervals and tests for accuracies and their differences.

Accuracies and differences are fractions. Arrays of correct predictions hold
one value for each seed and example.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_BLOCK = 500  # Bootstrap draws at a time, which bounds the memory.


class Interval(NamedTuple):
  """A mean and its confidence interval; the ends are nan if unknown."""

  mean: float
  low: float
  high: float


class McNemar(NamedTuple):
  """The result of McNemar's test.

  Attributes:
    gained: the number of examples that only the first classifier has correct.
    lost: the number of examples that only the second classifier has correct.
    p_value: two-sided and exact.
  """

  gained: int
  lost: int
  p_value: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
  """Returns the mean and its Student's t interval, `m +- t s / sqrt(n)`.

  Args:
    values: independent measurements, `[n]`; of one, the interval is nan.
    level: the level of confidence.
  """
  values = np.asarray(values, np.float64)
  mean = float(values.mean())
  if len(values) < 2:
    return Interval(mean, np.nan, np.nan)
  half = stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values)
  return Interval(mean, mean - float(half), mean + float(half))


def paired_difference(
  arm: np.ndarray,
  base: np.ndarray,
  *,
  level: float = 0.95,
  resamples: int = 10_000,
  seed: int = 0,
) -> Interval:
  """Returns the gain in accuracy, by a paired bootstrap of seeds and examples.

  Seeds and examples are drawn with replacement, the same ones for both arms.
  A bootstrap of few seeds understates their spread (Hesterberg, 2015,
  doi:10.1080/00031305.2015.1089789). Two factors correct this. The part of a
  draw that comes from the seeds is multiplied by `sqrt(S / (S - 1))`, which
  corrects the variance. The whole draw is multiplied by the ratio of
  Student's quantile to the normal one, which corrects the tails. The degrees
  of freedom are Satterthwaite's for the sum of both parts: S - 1 if all
  variance comes from the seeds, and many if none does. benchmarks/coverage.py
  measures how often the interval covers the true difference.

  Args:
    arm: whether each prediction is correct, `[S, N]` for S seeds and N
      examples.
    base: the same for the baseline.
    level: the level of confidence.
    resamples: the number of bootstrap draws.
    seed: the seed of the draws.

  Returns:
    The difference. With one seed the interval covers the examples only: it
    holds for these two trained networks, not for others of another seed.
  """
  difference = np.asarray(arm, np.float64) - np.asarray(base, np.float64)
  seeds, examples = difference.shape
  rng = np.random.default_rng(seed)
  by_examples, by_seeds = [], []
  for first in range(0, resamples, _BLOCK):
    count = min(_BLOCK, resamples - first)
    # The number of times that each is drawn; means are products with it.
    drawn = rng.multinomial(examples, np.full(examples, 1 / examples), count)
    means = drawn @ difference.T / examples  # [count, S]
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count)
    by_examples.append(means.mean(1))
    by_seeds.append(((drawn - 1) * means).mean(1))
  mean = difference.mean()
  of_examples = np.concatenate(by_examples) - mean
  of_seeds = np.concatenate(by_seeds)
  tail = 0.5 + level / 2
  stretch = 1.0
  if seeds > 1:
    of_seeds *= np.sqrt(seeds / (seeds - 1))
    freedom = _satterthwaite(
      (of_seeds.var(), seeds - 1), (of_examples.var(), max(1, examples - 1))
    )
    stretch = stats.t.ppf(tail, freedom) / stats.norm.ppf(tail)
  ends = np.quantile(of_examples + of_seeds, [1 - tail, tail])
  low, high = mean + stretch * ends
  return Interval(float(mean), float(low), float(high))


def _satterthwaite(*parts: tuple[float, int]) -> float:
  """Degrees of freedom of a sum of parts (variance, degrees of freedom)."""
  total = sum(variance for variance, _ in parts)
  if total == 0:
    return np.inf
  return total**2 / sum(variance**2 / freedom for variance, freedom in parts)


def mcnemar(arm: np.ndarray, base: np.ndarray) -> McNemar:
  """Returns McNemar's exact test of two classifiers on the same examples.

  If both are equally good, an example that only one of them has correct
  belongs to either with equal probability. The p-value is two-sided, from the
  binomial distribution (McNemar, 1947, doi:10.1007/BF02295996).

  Args:
    arm: whether each prediction is correct, `[N]`.
    base: the same for the other classifier.

  Raises:
    ValueError: a value is NaN, which is neither correct nor wrong.
  """
  if np.isnan(arm).any() or np.isnan(base).any():
    raise ValueError("correct predictions must be true or false, got NaN")
  arm, base = np.asarray(arm, bool), np.asarray(base, bool)
  gained, lost = int((arm & ~base).sum()), int((~arm & base).sum())
  if not gained + lost:
    return McNemar(0, 0, 1.0)
  p_value = stats.binomtest(gained, gained + lost, 0.5).pvalue
  return McNemar(gained, lost, float(p_value))


def holm(p_values: Sequence[float]) -> np.ndarray:
  """Returns p-values adjusted for their number (Holm, 1979), same order."""
  p_values = np.asarray(p_values, np.float64)
  order = np.argsort(p_values, kind="stable")
  factors = len(p_values) - np.arange(len(p_values))
  adjusted = np.maximum.accumulate(factors * p_values[order])
  result = np.empty_like(p_values)
  result[order] = np.minimum(adjusted, 1)
  return result


def paired_t(arm: Sequence[float], base: Sequence[float]) -> float:
  """Returns the two-sided p-value of Student's paired t-test over seeds.

  Args:
    arm: the accuracy of each seed.
    base: the same for the baseline.

  Returns:
    The p-value; nan with one seed, or if all differences are equal.
  """
  difference = np.subtract(arm, base)
  if len(difference) < 2 or np.ptp(difference) == 0:
    return float("nan")
  return float(stats.ttest_rel(arm, base).pvalue)
