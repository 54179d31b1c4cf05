"""The length of a run that sets neither `config.epochs` nor `config.steps`.

BiT-HyperRule (Kolesnikov et al., 2020, arXiv:1912.11370) fine-tunes on fewer
than 20,000 images for 500 steps, whatever their number. So do small sets here;
larger ones take the 25 passes of the recipe for Stanford Dogs, whose 12,000
images this rule gives 4,700 steps of 64. Very few images are seen at most 200
times each. From random weights, training converges several times later (He et
al., 2019, arXiv:1811.08883): runs are four times as long here.
"""

import math

from ml_collections import ConfigDict

_PASSES, _FEWEST_STEPS, _MOST_PASSES = 25, 500, 200
_FROM_RANDOM_WEIGHTS = 4
_EVALUATIONS = 20  # At most, of a run that sets no other period.


def is_derived(config: ConfigDict) -> bool:
  """Returns whether the length follows the number of images."""
  return config.steps is None and config.epochs is None


def steps(config: ConfigDict, images: int) -> int:
  """Returns the optimizer steps of a run.

  Args:
    config: a resolved config.
    images: the number of training images.
  """
  if config.steps is not None:
    return config.steps
  per_epoch = images / config.batch_size
  epochs = config.epochs
  if epochs is None:
    epochs = min(max(_PASSES, _FEWEST_STEPS / per_epoch), _MOST_PASSES)
    epochs *= 1 if config.model.pretrained else _FROM_RANDOM_WEIGHTS
  return max(1, math.ceil(epochs * per_epoch - 1e-6))


def count_due(step: int, steps: int, period: float) -> int:
  """Returns how often a period or the run ends after a step.

  Args:
    step: the number of finished steps.
    steps: those of the whole run, whose last one always counts.
    period: steps, not always a whole number.
  """
  if period <= 1 or step >= steps:
    return steps - step
  # The step that ends an epoch may be a rounding error short of its end.
  periods = lambda step: int((step + 1e-6) // period)
  return periods(steps - 1) - periods(step) + 1  # The last step has one.


def evaluation_epochs(config: ConfigDict, epochs: float) -> float:
  """Returns the epochs between two evaluations on validation.

  Args:
    config: a resolved config.
    epochs: the length of the run.
  """
  return config.evaluate.every_epochs or max(1, epochs / _EVALUATIONS)
