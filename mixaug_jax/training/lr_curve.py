"""The loss by learning rate: smoothing, divergence, and the rate to try.

Smith (2015, arXiv:1506.01186) reads the learning rate off a curve of the loss
against a rising rate. This reads the curve by fixed rules.
"""

import dataclasses

import numpy as np

_WIDTH = 0.02  # Standard deviation of the smoothing, in steps of the test,
_LEAST_WIDTH = 1.0  # and at least this many steps.
_TOO_HIGH = 4.0  # Times the lowest loss.
_FALL = 0.05  # The least fall of the loss that counts, a share of its start.
_BELOW = 10.0  # The highest rate worth trying, below that of the lowest loss.


@dataclasses.dataclass(frozen=True)
class Curve:
  """The losses of a learning-rate range test.

  Attributes:
    planned: the number of steps, if the loss had not diverged.
    rates: the learning rate of each step that was run, rising, float64 `[T]`.
    losses: the training loss before the update with that rate, float64 `[T]`;
      the last one may not be finite.
  """

  planned: int
  rates: np.ndarray
  losses: np.ndarray

  @property
  def smooth(self) -> np.ndarray:
    """The smoothed losses, float64 `[T]`, see `smooth`."""
    return smooth(self.losses, width(self.planned))

  @property
  def diverged(self) -> bool:
    return diverged(self.losses, width(self.planned))


@dataclasses.dataclass(frozen=True)
class Suggestion:
  """The learning rates that a curve points at.

  Attributes:
    steepest: where the smoothed loss falls fastest per factor of the rate.
    lowest: where the smoothed loss is lowest.
    still_falling: whether the loss is lowest at the end of the test, so that
      a higher rate may be as good.
  """

  steepest: float
  lowest: float
  still_falling: bool

  @property
  def rate(self) -> float:
    """The suggestion: the geometric mean of the two rules, two digits."""
    return float(f"{np.sqrt(self.steepest * self.tenth):.1e}")

  @property
  def tenth(self) -> float:
    """A tenth of the rate at which the loss is lowest."""
    return self.lowest / _BELOW


def width(planned: int) -> float:
  """Returns the standard deviation of the smoothing of a test, in steps."""
  return max(_LEAST_WIDTH, _WIDTH * planned)


def smooth(losses: np.ndarray, width: float) -> np.ndarray:
  """Returns means with Gaussian weights, which do not shift the curve.

  A running average of the past would: it follows the loss late, and points at
  rates that are too high. At the ends, the weights are those of the steps that
  are there.

  Args:
    losses: float `[T]`; one that is not finite is left out of all means, and
      the result is nan in its place.
    width: the standard deviation of the weights, in steps.
  """
  reach = int(width * np.sqrt(2 * np.log(1e4)))  # Other weights are < 1e-4.
  weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
  good = np.isfinite(losses)

  def near(x: np.ndarray) -> np.ndarray:
    return np.convolve(x, weights)[reach : reach + len(x)]

  count = np.where(good, near(good.astype(np.float64)), np.nan)
  return near(np.where(good, losses, 0.0)) / count


def diverged(losses: np.ndarray, width: float) -> bool:
  """Returns whether the newest loss ends a test.

  It is not finite, or the smoothed loss is above four times its lowest value.
  """
  if not np.isfinite(losses[-1]):
    return True
  values = smooth(losses, width)
  return bool(values[-1] > _TOO_HIGH * values.min())


def suggest(curve: Curve) -> Suggestion | None:
  """Returns what a curve points at; None if its loss does not fall.

  The loss falls if its lowest value is more than 5 % below the first one. The
  steepest fall lies before the lowest value.
  """
  finite = np.isfinite(curve.losses)
  rates, values = curve.rates[finite], curve.smooth[finite]
  if len(rates) < 3:
    return None
  lowest = int(values.argmin())
  if not lowest or values[lowest] > (1 - _FALL) * values[0]:
    return None
  slopes = np.gradient(values, np.log(rates))[: lowest + 1]
  steepest = int(slopes.argmin())
  at_the_end = not curve.diverged and lowest >= len(rates) - 1
  return Suggestion(float(rates[steepest]), float(rates[lowest]), at_the_end)


def describe(curve: Curve, found: Suggestion | None) -> list[str]:
  """Returns what a test found, in lines; the suggestion can be pasted."""
  first, last, count = curve.rates[0], curve.rates[-1], len(curve.rates)
  end = "the loss did not diverge"
  if curve.diverged:
    end = f"there the loss diverged, after {count} of {curve.planned} steps"
  lines = [f"{count} learning rates from {first:.2g} to {last:.2g}; {end}"]
  if found is None:
    return [
      *lines,
      "no suggestion: the loss did not fall; lower --min, raise --max, or set "
      "more --steps",
    ]
  lines.append(
    f"the smoothed loss falls fastest at {found.steepest:.2g} and is lowest at "
    f"{found.lowest:.2g}"
  )
  if found.still_falling:
    lines.append("it is lowest at the end of the test; raise --max")
  lines.append(
    "a suggestion, between the steepest fall and a tenth of the lowest; only "
    "trained runs show which rate is best:"
  )
  return [*lines, f"--config.optimizer.learning_rate={found.rate:g}"]
