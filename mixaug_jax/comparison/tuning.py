"""The trials of a comparison, and the recipes that are chosen by them.

Every arm has the same number of trials on the same points of the shared
hyperparameters. A trial is a run that leaves the test set unread. The recipe of
the highest accuracy on validation is chosen. Trials are grouped into studies: a
study has a seed of its own, and its choice is trained with a fresh seed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Trial:
  """A finished trial.

  Attributes:
    arm: the name of its arm.
    number: of the trial in its arm, from 0 over all studies; trials of the same
      number have the same values of the shared hyperparameters in all arms.
    study: the study that it belongs to.
    seed: of the run.
    values: the value of each hyperparameter that is tuned, by its dotted key.
    places: the place of each value in its range, in [0, 1); empty for the first
      trial of a study, which is the recipe as it is written.
    accuracy: on validation, with the weights that are compared; the accuracy of
      chance if it diverged.
    loss: the same, in nats; None if it diverged.
    correct: which examples of validation are classified correctly, bool `[N]`;
      a share of chance if it diverged.
    steps: of its training.
    seconds: of its training; None if it diverged.
    diverged: the step at which it diverged, or None.
  """

  arm: str
  number: int
  study: int
  seed: int
  values: Mapping[str, Any]
  places: Mapping[str, float]
  accuracy: float
  loss: float | None
  correct: np.ndarray
  steps: int
  seconds: float | None
  diverged: int | None


@dataclasses.dataclass(frozen=True)
class Tuning:
  """The finished tuning of a comparison.

  Attributes:
    design: `studies`, one for each seed, or `fixed`, one for all seeds.
    space: the range of each hyperparameter as text, such as `log 0.03 1`, by
      its dotted key.
    trials: the trials by arm and study.
    chosen: the trial that each study chose, by arm.
  """

  design: str
  space: Mapping[str, str]
  trials: Mapping[str, tuple[tuple[Trial, ...], ...]]
  chosen: Mapping[str, tuple[Trial, ...]]
