"""The progress bar of a training run."""

import contextlib
from collections.abc import Iterator

from mixaug_jax.durations import duration
from mixaug_jax.progress import Bar
from mixaug_jax.training.clock import Clock


class TrainingBar(Bar):
  """A bar of steps with images per second and the time left.

  Both come from the clock. Compilation, evaluation and saving do not change the
  rate, and the time left includes evaluation and saving.

  Args:
    steps: steps of the whole run.
    first: the step that the run starts or resumes from.
    batch_size: images per step.
    clock: counts steps and seconds.
  """

  def __init__(self, steps: int, first: int, batch_size: int, clock: Clock):
    self._batch_size = batch_size
    self._clock = clock
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

  def _describe(self) -> str:
    if self._phase:
      return f"{self._phase} ..."
    rate = self._clock.rate()
    left = self._clock.time_left(self.total - self.n)
    if rate is None or left is None:
      return ""
    return f"{rate * self._batch_size:,.0f} images/s  {duration(left)} left"
