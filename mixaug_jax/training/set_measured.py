"""Measurements of runs with label sets, as result.json holds them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """The thresholds of a run.

  Attributes:
    by_class: for each class name, in the order of class ids; an image has the
      label if its probability is at least that.
    default: the classes whose threshold is 0.5, because validation has few
      images of them.
  """

  by_class: dict[str, float]
  default: list[str]

  def array(self) -> np.ndarray:
    """Returns the thresholds by class id, float64 `[C]`."""
    return np.array(list(self.by_class.values()))


@dataclasses.dataclass(frozen=True)
class SetMeasured:
  """What was measured on a split whose images have several labels or none.

  Attributes:
    mean_average_precision: over the classes with a positive example.
    classes_left_out: the number of the others.
    loss: in nats, the mean over examples, without label smoothing.
    examples: their number.
    micro_f1: at the thresholds of the run, as `set_metrics.at_thresholds`; None
      where they are not chosen yet.
    macro_f1: likewise.
    exact_match: likewise.
  """

  mean_average_precision: float
  classes_left_out: int
  loss: float
  examples: int
  micro_f1: float | None = None
  macro_f1: float | None = None
  exact_match: float | None = None

  @property
  def score(self) -> float:
    """The figure by which the best weights are chosen."""
    return self.mean_average_precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetEvaluation(SetMeasured):
  """A measurement on validation during training.

  Attributes:
    step: the number of finished training steps.
  """

  step: int


def of(measured: Mapping[str, Any]) -> bool:
  """Returns whether measurements, by name, are those of label sets."""
  return "mean_average_precision" in measured
