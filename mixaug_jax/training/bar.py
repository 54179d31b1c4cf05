"""The progress bar of a training run."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from mixaug_jax.durations import duration
from mixaug_jax.progress import Bar
from mixaug_jax.training.clock import Clock


class TrainingBar(Bar):
  """A bar of steps with images per second and the time left.

  Both come from the clock. Compilation, evaluation and saving do not change the
  rate. The time left includes saving, and evaluation once one has been timed;
  before, the bar shows that evaluation comes on top.

  Args:
    steps: steps of the whole run.
    first: the step that the run starts or resumes from.
    batch_size: images per step.
    clock: counts steps and seconds.
    to_evaluate: returns the number of batches to evaluate after a step.
    may_stop: whether the run may end before its last step; the time left is
      then the most that it takes.
  """

  def __init__(
    self,
    steps: int,
    first: int,
    batch_size: int,
    clock: Clock,
    to_evaluate: Callable[[int], int],
    may_stop: bool = False,
  ):
    self._batch_size = batch_size
    self._clock = clock
    self._to_evaluate = to_evaluate
    self._most = "at most " if may_stop else ""
    self._phase: str | None = None
    super().__init__(steps, self._describe, first)

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Shows what the run does instead of training."""
    self._phase = name
    self.refresh()
    try:
      yield
    finally:
      self._phase = None

  def _describe(self) -> Sequence[str]:
    if self._phase:
      return [f"{self._phase} ..."]
    rate = self._clock.rate()
    left = self._clock.time_left(self.total - self.n, self._to_evaluate(self.n))
    if rate is None or left is None:
      return [""]
    time = f"{self._most}{duration(left)}"
    texts = [f"{time} left", time]
    if self._to_evaluate(self.n) and not self._clock.knows_evaluation:
      texts = [f"{texts[1]} + evaluation left", f"{texts[1]} + evaluation"]
    return [f"{rate * self._batch_size:,.0f} images/s  {texts[0]}", *texts]
