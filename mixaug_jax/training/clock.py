"""The time of a run, with training apart from all that interrupts it."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
  """Counts seconds of training: compilation and pauses are left out.

  Args:
    seconds: seconds of training before this process started.
    compile_seconds: seconds of compilation before this process started.
    evaluation_seconds: seconds of evaluation before this process started.

  Attributes:
    compile_seconds: seconds of compilation, earlier processes included.
    evaluation_seconds: seconds of evaluation, likewise, without compilation.
  """

  def __init__(
    self,
    seconds: float = 0.0,
    compile_seconds: float = 0.0,
    evaluation_seconds: float = 0.0,
  ):
    self.compile_seconds = compile_seconds
    self.evaluation_seconds = evaluation_seconds
    self._earlier = seconds
    self._start: float | None = None
    self._paused = 0.0
    self._steps = 0
    self._kinds: set[str] = set()
    self._repeated = 0.0  # Of all pauses but the first of each kind.
    self._evaluated = 0  # Batches in this process,
    self._evaluating = 0.0  # their seconds,
    self._compiling = 0.0  # and those of compilation in the newest evaluation.

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
  def pause(self, kind: str) -> Iterator[None]:
    """Leaves a block out of the seconds of training.

    The first pause of a kind compiles or makes folders, so that it plays no
    part in the time that is left.
    """
    begin = time.monotonic()
    try:
      yield
    finally:
      seconds = time.monotonic() - begin
      self._paused += seconds
      self._repeated += seconds if kind in self._kinds else 0.0
      self._kinds.add(kind)

  @contextlib.contextmanager
  def evaluating(self, batches: int) -> Iterator[None]:
    """Leaves the evaluation of some batches out of the seconds of training."""
    begin, self._compiling = time.monotonic(), 0.0
    try:
      yield
      seconds = time.monotonic() - begin - self._compiling
      self.evaluation_seconds += seconds
      self._evaluating += seconds
      self._evaluated += batches
    finally:
      self._paused += time.monotonic() - begin

  @contextlib.contextmanager
  def compiling_evaluation(self) -> Iterator[None]:
    """Leaves a block out of the evaluation around it."""
    begin = time.monotonic()
    yield
    self._compiling += time.monotonic() - begin

  def tick(self) -> None:
    """Counts a training step."""
    self._steps += 1

  def rate(self) -> float | None:
    """Returns steps per second since compilation; None before the first."""
    seconds = self._here()
    return self._steps / seconds if self._steps > 0 and seconds > 0 else None

  @property
  def knows_evaluation(self) -> bool:
    """Whether `time_left` includes evaluations, after the first of them."""
    return self._evaluated > 0

  def time_left(self, steps: int, batches: int) -> float | None:
    """Returns the seconds of `steps` more steps and their pauses.

    Args:
      steps: their number.
      batches: the number of batches to evaluate during and after them.
    """
    seconds = self._here()
    if self._steps <= 0 or seconds <= 0:
      return None
    left = steps * (seconds + self._repeated) / self._steps
    if self._evaluated:
      left += batches * self._evaluating / self._evaluated
    return left

  def _here(self) -> float:
    """Returns the seconds of training in this process."""
    if self._start is None:
      return 0.0
    return time.monotonic() - self._start - self._paused
