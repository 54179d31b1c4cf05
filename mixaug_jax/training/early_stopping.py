"""Early stopping: a run ends when validation no longer improves.

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
    min_delta: in [0, 1]. The score of an improvement is higher than that of the
      last one by more than this.
  """

  patience: int | None = None
  min_delta: float = 0.0


@dataclasses.dataclass
class Progress:
  """The improvements of a run, saved with the state of the loop.

  Attributes:
    score: of the last improvement, in [0, 1], the figure by which the best
      weights are chosen; None before the first evaluation.
    step: the step of that evaluation.
    without: the evaluations since then.
  """

  score: float | None = None
  step: int = 0
  without: int = 0

  def evaluated(self, step: int, score: float, min_delta: float) -> None:
    """Counts an evaluation after `step` finished steps."""
    if self.score is None or score > self.score + min_delta:
      self.score, self.step, self.without = score, step, 0
    else:
      self.without += 1

  def ends(self, rule: Rule) -> bool:
    """Returns whether the run stops after the newest evaluation."""
    return rule.patience is not None and self.without >= rule.patience
