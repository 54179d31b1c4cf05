"""Intervals and tests for accuracies and their differences.

Accuracies and differences are fractions. Arrays of correct predictions hold
one value for each seed and example.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


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
  each = np.asarray(values, np.float64)
  mean = float(each.mean())
  if len(each) < 2:
    return Interval(mean, np.nan, np.nan)
  half = stats.t.ppf(0.5 + level / 2, len(each) - 1) * stats.sem(each)
  return Interval(mean, mean - float(half), mean + float(half))


class Mean(NamedTuple):
  """A mean over seeds and examples, with what is known of its error.

  Attributes:
    mean: of the values.
    centre: of the interval: the mean with pseudo-observations.
    error: the standard error of `centre`.
    freedom: degrees of freedom of `error`.
    seeds: their number. With one seed the error is that of the examples alone:
      it holds for these trained networks, not for others of another seed.
  """

  mean: float
  centre: float
  error: float
  freedom: float
  seeds: int

  def interval(self, level: float, least: float, most: float) -> Interval:
    """Returns Student's t interval, cut off at `least` and `most`."""
    half = stats.t.ppf(0.5 + level / 2, self.freedom) * self.error
    low, high = self.centre - half, self.centre + half
    # The pseudo-observations may move the centre beyond the mean.
    low, high = min(low, self.mean), max(high, self.mean)
    return Interval(self.mean, max(least, float(low)), min(most, float(high)))

  @property
  def p_value(self) -> float:
    """Two-sided p-value of a true mean of zero; nan with one seed."""
    if self.seeds < 2:
      return float("nan")
    t = abs(self.centre) / self.error
    return float(2 * stats.t.sf(t, self.freedom))


def accuracy(correct: Sequence[np.ndarray] | np.ndarray) -> Mean:
  """Returns the accuracy over seeds and examples.

  Two successes and two failures are added to the examples (Agresti and Coull,
  1998, doi:10.1080/00031305.1998.10480550).

  Args:
    correct: whether each prediction is correct, `[S, N]` for S seeds and N
      examples; a share where only that is known. If each seed has examples of
      its own, their number may differ, `[N]` for each seed.
  """
  return _estimate(list(correct), ((0, 2), (1, 2)))


def difference(
  arm: Sequence[np.ndarray] | np.ndarray,
  base: Sequence[np.ndarray] | np.ndarray,
) -> Mean:
  """Returns the gain in accuracy, paired by seed and example.

  Half an example is added to each cell of the table of two classifiers that
  are right or wrong (Agresti and Min, 2005, doi:10.1002/sim.1781).

  Args:
    arm: as in `accuracy`.
    base: the same for the baseline.
  """
  values = [
    np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    for ours, theirs in zip(arm, base, strict=True)
  ]
  return _estimate(values, ((-1, 0.5), (0, 1), (1, 0.5)))


def _estimate(
  values: Sequence[np.ndarray], pseudo: Sequence[tuple[float, float]]
) -> Mean:
  """Estimates a mean; see `_crossed` and `_nested`.

  If each seed has examples of its own, `_crossed` holds as well: their effect
  is then part of the residual. It needs the same number in each seed.
  """
  if len({len(of_seed) for of_seed in values}) == 1:
    return _crossed(np.stack(values), pseudo)
  return _nested(values, pseudo)


def _nested(
  values: Sequence[np.ndarray], pseudo: Sequence[tuple[float, float]]
) -> Mean:
  """Estimates a mean over seeds with different numbers of examples.

  The variance of the mean is that of the seeds' means over S, and at least that
  of the examples alone, `sum(var_s / N_s) / S^2`, which pseudo-observations
  keep above zero.

  Args:
    values: `[N_s]` for each seed s.
    pseudo: as in `_crossed`.
  """
  of_seeds = np.array([np.mean(of_seed) for of_seed in values])
  x, weights = np.transpose(pseudo)
  of_examples = []
  for of_seed in values:
    each = np.append(of_seed, x)
    counts = np.append(np.ones(len(of_seed)), weights)
    centre = np.average(each, weights=counts)
    variance = np.average((each - centre) ** 2, weights=counts)
    of_examples.append(variance / counts.sum())
  seeds = len(values)
  variance = max(of_seeds.var(ddof=1) / seeds, sum(of_examples) / seeds**2)
  mean = float(of_seeds.mean())
  return Mean(mean, mean, float(variance**0.5), seeds - 1, seeds)


def _crossed(values: np.ndarray, pseudo: Sequence[tuple[float, float]]) -> Mean:
  """Estimates a mean whose seeds and examples are both samples.

  The value of seed s and example i is modelled as `mu + a_s + b_i + e_si`, with
  crossed random effects (Searle, Casella and McCulloch, 1992, chapter 4). The
  variance of the mean is

      var(a) / S + var(b) / N + var(e) / (S N).

  The last two terms together are the variance of the examples' means over N,
  which pseudo-observations keep above zero. The first one is estimated from
  mean squares, `(MS_a - MS_e) / (S N)`, and is zero where that is negative. The
  degrees of freedom are Satterthwaite's, but at most `2 (S - 1)`: a few seeds
  that happen to agree would otherwise count as certainty, which matters at the
  high levels that `holm_levels` returns. Two seeds are too few for that: they
  have one degree of freedom, and their plain variance is the least.
  benchmarks/coverage.py measures coverage and false alarms.

  Args:
    values: `[S, N]`.
    pseudo: values and weights of examples that are added for every seed.
  """
  values = np.asarray(values, np.float64)
  seeds, examples = values.shape
  mean, of_seeds, of_examples = (
    values.mean(),
    values.mean(1),
    values.mean(0),
  )
  total = examples + sum(weight for _, weight in pseudo)
  moment = lambda power: (
    ((of_examples**power).sum() + sum(w * x**power for x, w in pseudo)) / total
  )
  centre = moment(1)
  by_examples = (moment(2) - centre**2) / total
  if seeds == 1:
    error, freedom = by_examples**0.5, max(1, examples - 1)
    return Mean(float(mean), float(centre), float(error), freedom, 1)
  rest = values - of_examples - of_seeds[:, None] + mean
  of_rest = max(1, (seeds - 1) * (examples - 1))
  # Mean squares over S N.
  square_seeds = ((of_seeds - mean) ** 2).sum() / (seeds - 1) / seeds
  square_rest = (rest**2).sum() / of_rest / (seeds * examples)
  variance = by_examples + max(0.0, square_seeds - square_rest)
  if seeds == 2:
    variance, freedom = max(variance, square_seeds), 1
  else:
    parts = [(by_examples, max(1, examples - 1))]
    if square_seeds > square_rest:
      parts += [(square_seeds, seeds - 1), (square_rest, of_rest)]
    freedom = variance**2 / sum(part**2 / count for part, count in parts)
    freedom = min(freedom, 2 * (seeds - 1))
  return Mean(
    float(mean), float(centre), float(variance**0.5), float(freedom), seeds
  )


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
  given = np.asarray(p_values, np.float64)
  order = np.argsort(given, kind="stable")
  factors = len(given) - np.arange(len(given))
  adjusted = np.maximum.accumulate(factors * given[order])
  result = np.empty_like(given)
  result[order] = np.minimum(adjusted, 1)
  return result


def holm_levels(p_values: Sequence[float], level: float = 0.95) -> list[float]:
  """Returns the level of confidence at which Holm's test judges each p-value.

  The interval of that level excludes zero if and only if the p-value adjusted
  by `holm` is below `1 - level`. It is at least as wide as one of `level`. The
  intervals are tests against zero: they do not hold for another value together.

  Args:
    p_values: of tests against zero.
    level: the level of the test, for all p-values together.
  """
  alpha, adjusted = 1 - level, holm(p_values)
  order = np.argsort(p_values, kind="stable")
  levels = [level] * len(p_values)
  left = len(p_values)  # Not rejected yet.
  for place in order:
    levels[place] = 1 - alpha / left
    if adjusted[place] < alpha:
      left -= 1
  return levels


def expected_best(values: Sequence[float]) -> np.ndarray:
  """Returns the expected maximum of k values, for k from 1 to n.

  It is the mean of the maximum over all subsets of k of the n values,

      sum over j of C(j - 1, k - 1) x_(j) / C(n, k),

  where x_(j) is the j-th smallest value. It has no bias if the values are
  independent (Tang et al., 2020, arXiv:2004.13705), unlike the mean over
  samples with replacement (Dodge et al., 2019, arXiv:1909.03004).

  Args:
    values: of n trials, `[n]`.

  Returns:
    float64 `[n]`.
  """
  ordered = np.sort(np.asarray(values, np.float64))
  count = len(ordered)
  weights = [
    [math.comb(j, k - 1) / math.comb(count, k) for j in range(count)]
    for k in range(1, count + 1)
  ]
  return np.asarray(weights) @ ordered
