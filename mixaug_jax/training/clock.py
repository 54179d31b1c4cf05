"""The time of a run, with training apart from all that interrupts it."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
  """Counts seconds of training: compilation and pauses are left out.

  Args:
    seconds: seconds of training before this process started.
    compile_seconds: seconds of compilation before this process started.

  Attributes:
    compile_seconds: seconds of compilation, earlier processes included.
  """

  def __init__(self, seconds: float = 0.0, compile_seconds: float = 0.0):
    self.compile_seconds = compile_seconds
    self._earlier = seconds
    self._start: float | None = None
    self._paused = 0.0
    self._steps = 0

  @property
  def seconds(self) -> float:
    """Seconds of training, earlier processes included."""
    return self._earlier + self._here()

  @contextlib.contextmanager
  def compiling(self) -> Iterator[None]:
    """Counts a block as compilation, and the step in it as none of training."""
    begin = time.monotonic()
    yield
    self._start, self._paused, self._steps = time.monotonic(), 0.0, -1
    self.compile_seconds += self._start - begin

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Leaves a block out of the seconds of training."""
    begin = time.monotonic()
    try:
      yield
    finally:
      self._paused += time.monotonic() - begin

  def tick(self) -> None:
    """Counts a training step."""
    self._steps += 1

  def rate(self) -> float | None:
    """Returns steps per second since compilation; None before the first."""
    seconds = self._here()
    return self._steps / seconds if self._steps > 0 and seconds > 0 else None

  def time_left(self, steps: int) -> float | None:
    """Returns the seconds of `steps` more steps, with as many pauses."""
    seconds = self._here()
    if self._steps <= 0 or seconds <= 0:
      return None
    return steps * (seconds + self._paused) / self._steps

  def _here(self) -> float:
    """Returns the seconds of training in this process."""
    if self._start is None:
      return 0.0
    return time.monotonic() - self._start - self._paused
