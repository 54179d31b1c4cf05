"""Where metrics go: metrics.jsonl, the console, TensorBoard, a tracker, others.

A metric is named `split/name`, for example `validation/accuracy`. A writer is
a `MetricWriter` of CLU that is called with the run directory and the first
step. `config.log.writers` names it, by its name in WRITERS or as
`package.module:Name`.
"""

import contextlib
import functools
import importlib.util
import json
import logging
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import logging as absl_logging

from mixaug_jax import files, progress, registry
from mixaug_jax.errors import UserError, first_line
from mixaug_jax.training import parallel, trackers
from mixaug_jax.training.scalar_writer import (
  MetricWriter,
  ScalarWriter,
  metric_writers,
)

METRICS_FILE = "metrics.jsonl"
_EVENTS_SECONDS = 120.0  # Between the moments at which TensorBoard sees more.


class JsonLinesWriter(ScalarWriter):
  """Writes one JSON object per line: {"step": 40, "split": "train", ...}.

  Args:
    path: the file.
    size: bytes of the file that belong to the run; see `rewind`.
    step: the step that the run resumes from, 0 for a new one.
  """

  def __init__(self, path: pathlib.Path, size: int, step: int):
    rewind(path, size, step)
    self._path = path
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    for split, metrics in _by_split(scalars).items():
      row = {"step": step, "split": split, **metrics}
      with files.naming(self._path):
        self._file.write(json.dumps(row) + "\n")

  def flush(self) -> None:
    with files.naming(self._path):
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    with files.naming(self._path), self._file:
      self.flush()


def rewind(path: pathlib.Path, size: int, step: int) -> None:
  """Cuts a file back to the `size` in bytes that a checkpoint recorded.

  The resumed run writes what follows again, which may be half a line. If the
  rest is not whole rows up to `step`, the file was changed: a warning reports
  it, and the rows up to `step` are kept. A file with hard links is replaced by
  a copy, so that its other names, such as those in a backup, keep their rows.

  Raises:
    UserError: there is a link or a pipe in place of the file.
    OSError: it cannot be read or written.
  """
  names = files.refuse_link(path)
  text = files.read_bytes(path) if names else b""
  kept = text[:size]
  rows = kept.splitlines(keepends=True)
  good = [row for row in rows if _is_row(row, step)]
  if len(kept) < size or len(good) < len(rows):
    progress.write(
      f"warning: {path} is not what it was when the checkpoint of step {step} "
      "was saved; rows of earlier steps are lost"
    )
    kept = b"".join(good)
  if kept != text or names != 1:
    with files.replacing(path) as part:
      part.write_bytes(kept)


def _is_row(line: bytes, step: int) -> bool:
  """Returns whether a line is a whole row of a step up to `step`."""
  try:
    return line.endswith(b"\n") and json.loads(line)["step"] <= step
  except (ValueError, KeyError, TypeError):
    return False


class ConsoleWriter(ScalarWriter):
  """Prints a line for each split on stderr, above the progress bar.

      step  40/400  epoch  38.4  train       loss  1.234  accuracy  61.2 %

  Args:
    workdir: the run directory.
    first_step: the step that the run resumes from.
    steps: of the whole run; 0: unknown.
    steps_per_epoch: of an epoch; 0: unknown.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    first_step: int,
    steps: int = 0,
    steps_per_epoch: float = 0.0,
  ):
    del workdir, first_step
    self._steps, self._steps_per_epoch = steps, steps_per_epoch

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    for split, metrics in _by_split(scalars).items():
      fields = [*self._place(step), f"{split:{len('validation')}}"]
      for name in sorted(metrics, key=_order):
        fields.append(_field(name, metrics[name]))
      progress.write(progress.joined(fields, progress.watched()))

  def _place(self, step: int) -> list[str]:
    """Returns where a step is in the run, in columns of constant width."""
    if not self._steps:
      return [f"step {step}"]
    place = [f"step {step:{len(str(self._steps))}}/{self._steps}"]
    if per_epoch := self._steps_per_epoch:
      last = f"{self._steps / per_epoch:.1f}"
      place.append(f"epoch {step / per_epoch:{len(last)}.1f}")
    return place


# The other metrics stand between those that a reader looks for first and those
# that describe the training.
_FIRST = (
  *("loss", "accuracy", "balanced_accuracy", "top5_accuracy"),
  *("mixed_accuracy", "mean_average_precision"),
)
_LAST = ("learning_rate", "images_per_second")


def _order(name: str) -> tuple[int, str]:
  if name in _FIRST:
    return _FIRST.index(name), ""
  if name in _LAST:
    return len(_FIRST) + 1 + _LAST.index(name), ""
  return len(_FIRST), name


def _field(name: str, value: float) -> str:
  """Returns a metric in words, rounded and of constant width."""
  if name == "images_per_second":
    return f"{value:,.0f} images/s"
  words = name.replace("_", " ").replace("top5", "top-5")
  if name.endswith(("accuracy", "average_precision", "_f1", "exact_match")):
    return f"{words} {100 * value:5.1f} %"
  if name.endswith("loss"):
    return f"{words} {value:6.3f}"
  text = f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
  return f"{words} {text:8}"


def _by_split(scalars: Mapping[str, float]) -> dict[str, dict[str, float]]:
  """Groups metrics named `split/name` by their split."""
  rows: dict[str, dict[str, float]] = {}
  for name, value in scalars.items():
    split, _, metric = name.rpartition("/")
    rows.setdefault(split, {})[metric] = float(value)
  return rows


class TensorBoardWriter(ScalarWriter):
  """Writes event files for TensorBoard, without TensorFlow.

  tensorboardX's SummaryWriter writes on a thread, which dies silently when the
  disk fails. This writes on the thread of the caller, which gets the error.
  """

  def __init__(self, workdir: pathlib.Path, first_step: int):
    # tensorboardX imports PyTorch, where it is installed, for the name of a
    # type, which takes seconds. None in its place means: not installed.
    torch = sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    if torch is None:
      del sys.modules["torch"]

    self._event, self._scalar = event_pb2.Event, summary.scalar
    self._path = workdir / "events.out.tfevents"
    self._next_flush = 0.0
    with files.naming(self._path):
      self._writer = event_file_writer.EventsWriter(str(workdir / "events"))
      if first_step:
        # A resumed run hides what an earlier one wrote beyond its first step.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(first_step + 1, session_log=start)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    with files.naming(self._path):
      for name, value in scalars.items():
        self._write(step, summary=self._scalar(name, float(value)))
    if time.monotonic() > self._next_flush:
      self.flush()

  def flush(self) -> None:
    self._next_flush = time.monotonic() + _EVENTS_SECONDS
    with files.naming(self._path):
      self._writer.flush()

  def close(self) -> None:
    with files.naming(self._path):
      self._writer.close()

  def _write(self, step: int, **content: Any) -> None:
    event = self._event(step=step, wall_time=time.time(), **content)
    self._writer.write_event(event)


# Run directory, and the step that the run resumes from, 0 for a new one.
WriterFactory = Callable[[pathlib.Path, int], MetricWriter]

WRITERS: dict[str, WriterFactory] = {
  "console": ConsoleWriter,
  "tensorboard": TensorBoardWriter,
  **trackers.TRACKERS,
}


def find(
  names: str, writers: Mapping[str, WriterFactory] = WRITERS
) -> dict[str, WriterFactory]:
  """Returns the writers of `config.log.writers`, by name.

  Args:
    names: names separated by commas; an empty text names none.
    writers: those that have a short name.

  Raises:
    ValueError: a name is unknown, or the package of a tracker is missing.
  """
  separate = filter(None, (name.strip() for name in names.split(",")))
  key = "config.log.writers"
  found = {name: registry.find(key, name, writers) for name in separate}
  for name in found.keys() & trackers.TRACKERS.keys():
    if importlib.util.find_spec(name) is None:
      raise ValueError(
        f"{key}={name} needs the package {name}; pip install "
        f"'mixaug-jax[{name}]'"
      )
  return found


@contextlib.contextmanager
def open_writers(
  workdir: pathlib.Path,
  names: str,
  first_step: int,
  metrics_bytes: int,
  steps: int = 0,
  steps_per_epoch: float = 0.0,
) -> Iterator[MetricWriter]:
  """Opens the writers of a run; metrics.jsonl is always one of them.

  Process 0 writes, and the writers of the others are silent. Warnings go
  above the progress bar meanwhile.

  Args:
    workdir: the run directory.
    names: as in `find`.
    first_step: the step that the run resumes from, 0 for a new one.
    metrics_bytes: the size of metrics.jsonl at that step.
    steps: as in `ConsoleWriter`.
    steps_per_epoch: as in `ConsoleWriter`.

  Raises:
    UserError: a writer cannot be made; every process raises it.
  """
  opened: list[MetricWriter] = []
  console = functools.partial(
    ConsoleWriter, steps=steps, steps_per_epoch=steps_per_epoch
  )

  def open_all() -> str:
    rows = JsonLinesWriter(workdir / METRICS_FILE, metrics_bytes, first_step)
    opened.append(stack.enter_context(contextlib.closing(rows)))
    for name, make in find(names, WRITERS | {"console": console}).items():
      try:
        writer = make(workdir, first_step)
      except Exception as error:  # The user's own code may raise anything.
        return f"config.log.writers: {name} cannot be made: {first_line(error)}"
      if not isinstance(writer, metric_writers.MetricWriter):
        return f"config.log.writers: {name} does not make a MetricWriter of CLU"
      opened.append(stack.enter_context(contextlib.closing(writer)))
    return ""

  with contextlib.ExitStack() as stack:
    if why := parallel.from_first(open_all):
      raise UserError(why)
    stack.enter_context(_warnings_above_the_bar())
    yield metric_writers.MultiWriter(opened)


class _AboveTheBar(logging.Handler):
  """Prints messages on stderr, above the progress bar."""

  def emit(self, record: logging.LogRecord) -> None:
    progress.write(record.getMessage())


@contextlib.contextmanager
def _warnings_above_the_bar() -> Iterator[None]:
  """Sends warnings of absl, which Orbax uses, to `_AboveTheBar`."""
  logger = absl_logging.get_absl_logger()
  before = logger.handlers[:], logger.propagate
  logger.handlers[:] = [_AboveTheBar(logging.WARNING)]
  logger.propagate = False
  try:
    yield
  finally:
    logger.handlers[:], logger.propagate = before
