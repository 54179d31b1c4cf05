"""How much better, and how sure: arrays of right and wrong in, numbers out.

Accuracies and differences are fractions. An interval is of 95 % unless told.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_BLOCK = 500  # Resamples at a time, to bound the memory.


class Interval(NamedTuple):
  """A mean and its interval; the ends are nan where they cannot be known."""

  mean: float
  low: float
  high: float


class McNemar(NamedTuple):
  """Examples right in one of two classifiers only, and the exact p-value."""

  gained: int
  lost: int
  p_value: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
  """The mean and Student's interval for it, `m +- t s / sqrt(n)`."""
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
  """Gain in accuracy, by a bootstrap of seeds and examples, in pairs.

  Both are drawn with replacement, the same ones for both arms. Drawing few
  seeds from themselves understates their spread (Hesterberg, 2015,
  doi:10.1080/00031305.2015.1089789): the part of a draw that is due to seeds
  is stretched by `sqrt(S / (S - 1))`, which mends the variance, and all of it
  by Student's quantile over the normal one, which mends the tails. Student's
  degrees of freedom are Satterthwaite's for the sum of both parts: S - 1 where
  seeds are all that matters, many where they do not. benchmarks/coverage.py
  measures how often the interval holds the truth.

  Args:
    arm: right or wrong, of each seed and test example, `[S, N]`.
    base: the same of the baseline.
    level: of the interval.
    resamples: bootstrap draws.
    seed: of the draws.

  Returns:
    The difference. With one seed the interval knows of the examples only: it
    holds for these two trained networks, not for others trained alike.
  """
  difference = np.asarray(arm, np.float64) - np.asarray(base, np.float64)
  seeds, examples = difference.shape
  rng = np.random.default_rng(seed)
  by_examples, by_seeds = [], []
  for first in range(0, resamples, _BLOCK):
    count = min(_BLOCK, resamples - first)
    # How often each one is drawn; means are products with these weights.
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
  """Degrees of freedom of a sum of (variance, degrees of freedom)."""
  total = sum(variance for variance, _ in parts)
  if total == 0:
    return np.inf
  return total**2 / sum(variance**2 / freedom for variance, freedom in parts)


def mcnemar(arm: np.ndarray, base: np.ndarray) -> McNemar:
  """McNemar's exact test of two classifiers on the same examples.

  Among the examples that one gets right and the other wrong, either is as
  likely if both are equally good; the p-value is two-sided, of the binomial
  distribution (McNemar, 1947, doi:10.1007/BF02295996).

  Args:
    arm: right or wrong, `[N]`.
    base: the same of the other.
  """
  arm, base = np.asarray(arm, bool), np.asarray(base, bool)
  gained, lost = int((arm & ~base).sum()), int((~arm & base).sum())
  if not gained + lost:
    return McNemar(0, 0, 1.0)
  p_value = stats.binomtest(gained, gained + lost, 0.5).pvalue
  return McNemar(gained, lost, float(p_value))


def holm(p_values: Sequence[float]) -> np.ndarray:
  """P-values adjusted for their number, in the order given (Holm, 1979)."""
  p_values = np.asarray(p_values, np.float64)
  order = np.argsort(p_values, kind="stable")
  factors = len(p_values) - np.arange(len(p_values))
  adjusted = np.maximum.accumulate(factors * p_values[order])
  result = np.empty_like(p_values)
  result[order] = np.minimum(adjusted, 1)
  return result


def paired_t(arm: Sequence[float], base: Sequence[float]) -> float:
  """Student's paired test over seeds, two-sided; nan where it knows nothing.

  That is with one seed, or where all differences are the same.
  """
  difference = np.subtract(arm, base)
  if len(difference) < 2 or np.ptp(difference) == 0:
    return float("nan")
  return float(stats.ttest_rel(arm, base).pvalue)
