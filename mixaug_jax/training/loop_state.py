"""The state of the training loop that is not part of the train state."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mixaug_jax.training import set_measured
from mixaug_jax.training.early_stopping import Progress
from mixaug_jax.training.result import Evaluation
from mixaug_jax.training.set_measured import SetEvaluation


@dataclasses.dataclass
class LoopState:
  """The state of the loop, saved as JSON in every checkpoint.

  Attributes:
    best: the best evaluation on validation, the earliest of equals.
    last: the newest evaluation on validation.
    ema: the newest evaluation of the moving average.
    progress: the improvements that early stopping counts.
    window: sums of the step metrics since the last line of the log; `steps` is
      their number and `learning_rate` the newest.
    metrics_bytes: the size of metrics.jsonl.
    seconds: seconds of training, see `Clock`.
    compile_seconds: seconds of compilation.
    evaluation_seconds: seconds of evaluation, see `Clock`.
  """

  best: Evaluation | SetEvaluation | None = None
  last: Evaluation | SetEvaluation | None = None
  ema: Evaluation | SetEvaluation | None = None
  progress: Progress = dataclasses.field(default_factory=Progress)
  window: dict[str, float] = dataclasses.field(default_factory=dict)
  metrics_bytes: int = 0
  seconds: float = 0.0
  compile_seconds: float = 0.0
  evaluation_seconds: float = 0.0

  @property
  def best_step(self) -> int | None:
    return self.best.step if self.best else None

  def add(self, metrics: dict[str, float]) -> None:
    """Adds the metrics of a step to the window."""
    window = self.window
    window["steps"] = window.get("steps", 0) + 1
    for name, value in metrics.items():
      if name == "learning_rate":
        window[name] = value
      else:
        window[name] = window.get(name, 0.0) + value

  def take_means(self) -> dict[str, float]:
    """Empties the window; returns means and the last learning rate."""
    window, self.window = self.window, {}
    rate, steps = window.pop("learning_rate"), window.pop("steps")
    means = {name: total / steps for name, total in window.items()}
    return {**means, "learning_rate": rate}

  def evaluated(
    self,
    step: int,
    measured: Mapping[str, Any],
    average: Mapping[str, Any] | None,
    best_by: str = "accuracy",
  ) -> None:
    """Records an evaluation on validation, and that of the moving average.

    Args:
      step: the number of finished steps.
      measured: the fields of `Evaluation` or `SetEvaluation`.
      average: the same of the moving average, if there is one.
      best_by: the field whose highest value is the best.
    """
    kind = SetEvaluation if set_measured.of(measured) else Evaluation
    self.last = kind(step=step, **measured)
    if self.best is None or measured[best_by] > getattr(self.best, best_by):
      self.best = self.last
    if average:
      self.ema = kind(step=step, **average)
