"""The metrics of training steps, read from the device one step late."""

import jax

from mixaug_jax.errors import Diverged
from mixaug_jax.training.checkpoint import Checkpoints
from mixaug_jax.training.clock import Clock
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.step import Metrics


class StepMetrics:
  """Reads the metrics of a step while the device computes the next one.

  Args:
    loop: keeps the sums since the last line of the log, and the seconds.
    clock: the clock of the run.
    checkpoints: a run that diverges names its newest checkpoint.
    batch_size: images per step.
  """

  def __init__(
    self,
    loop: LoopState,
    clock: Clock,
    checkpoints: Checkpoints,
    batch_size: int,
  ):
    self._loop = loop
    self._clock = clock
    self._checkpoints = checkpoints
    self._batch_size = batch_size
    self._unread: tuple[int, Metrics] | None = None
    self._taken: tuple[int, float] | None = None  # Step, seconds of training.

  def add(self, step: int, metrics: Metrics) -> None:
    """Reads the metrics of the step before `step`; keeps those of `step`.

    Raises:
      Diverged: the loss or a parameter became NaN or infinite.
    """
    self.read()
    self._unread = step, metrics

  def read(self) -> None:
    """Waits for the newest step and reads its metrics, if they are unread.

    Raises:
      Diverged: the loss or a parameter became NaN or infinite.
    """
    if self._unread is None:
      return
    step, metrics = self._unread
    self._unread = None
    values = {name: float(x) for name, x in jax.device_get(metrics).items()}
    if not values.pop("finite"):
      saved = self._checkpoints.steps()
      good = (
        f"the last good checkpoint is that of step {saved[-1]}"
        if saved
        else "there is no checkpoint yet"
      )
      raise Diverged(
        f"the loss ({values['loss']:g}) or a parameter is not finite at step "
        f"{step} and training cannot go on; {good}; try a lower "
        "config.optimizer.learning_rate",
        step,
      )
    self._loop.add(values)
    self._loop.seconds = self._clock.seconds
    self._loop.compile_seconds = self._clock.compile_seconds

  def take(self, step: int) -> dict[str, float]:
    """Returns means over the steps since the last call, and images per second.

    The first call of a process has no images per second.
    """
    means, seconds = self._loop.take_means(), self._clock.seconds
    if self._taken:
      images = (step - self._taken[0]) * self._batch_size
      means["images_per_second"] = images / max(seconds - self._taken[1], 1e-9)
    self._taken = step, seconds
    return means
