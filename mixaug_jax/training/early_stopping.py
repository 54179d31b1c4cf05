"""Early stopping: a run ends when its validation accuracy no longer rises.

The rule is the third criterion of Prechelt (1998), counted in evaluations: a
run stops after some of them in a row without an improvement. It reads nothing
but the evaluations, and its state is saved with the run. A run that is killed
and resumed therefore stops at the same step.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rule:
  """When to stop; the keys of `config.early_stopping`.

  Attributes:
    patience: the evaluations in a row without an improvement after which the
      run stops; None: never.
    min_delta: an accuracy in [0, 1]. An improvement is higher than the last
      one by more than this.
  """

  patience: int | None = None
  min_delta: float = 0.0


@dataclasses.dataclass
class Progress:
  """The improvements of a run, saved with the state of the loop.

  Attributes:
    accuracy: of the last improvement, in [0, 1]; None before the first
      evaluation.
    step: the step of that evaluation.
    without: the evaluations since then.
  """

  accuracy: float | None = None
  step: int = 0
  without: int = 0

  def evaluated(self, step: int, accuracy: float, min_delta: float) -> None:
    """Counts an evaluation of the accuracy after `step` finished steps."""
    if self.accuracy is None or accuracy > self.accuracy + min_delta:
      self.accuracy, self.step, self.without = accuracy, step, 0
    else:
      self.without += 1

  def ends(self, rule: Rule) -> bool:
    """Returns whether the run stops after the newest evaluation."""
    return rule.patience is not None and self.without >= rule.patience
