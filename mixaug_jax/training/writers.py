"""Where metrics go: the log, TensorBoard, metrics.jsonl, a progress bar.

The writers are CLU's, or stand behind its `MetricWriter` interface. A metric
is named `split/name`, for example `validation/accuracy`.
"""

import contextlib
import json
import logging
import pathlib
import shutil
import sys
import time
import types
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from absl import logging as absl_logging

# CLU imports TensorFlow for its SummaryWriter alone, which is not used here
# (google/CommonLoopUtils#358); an empty module in its place keeps it out.
_stand_in = types.ModuleType("clu.metric_writers.summary_writer")
_stand_in.SummaryWriter = None
sys.modules.setdefault(_stand_in.__name__, _stand_in)

from clu import metric_writers  # noqa: E402

METRICS_FILE = "metrics.jsonl"


class _ScalarWriter(metric_writers.MetricWriter):
  """A MetricWriter of scalars: training here writes nothing else."""

  def _refuse(self, step: int, *_: Any, **__: Any) -> None:
    raise TypeError(f"{type(self).__name__} writes scalars only")

  write_summaries = write_images = write_videos = write_audios = _refuse
  write_texts = write_histograms = write_pointcloud = _refuse

  def write_hparams(self, hparams: Mapping[str, Any]) -> None:
    del hparams  # config.json has them.


class JsonLinesWriter(_ScalarWriter):
  """A JSON object a line: {"step": 40, "split": "train", "loss": ...}."""

  def __init__(self, path: pathlib.Path):
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    rows: dict[str, dict[str, float]] = {}
    for name, value in scalars.items():
      split, _, metric = name.rpartition("/")
      rows.setdefault(split, {})[metric] = float(value)
    for split, metrics in rows.items():
      row = {"step": step, "split": split, **metrics}
      self._file.write(json.dumps(row) + "\n")

  def flush(self) -> None:
    self._file.flush()

  def close(self) -> None:
    self._file.close()


class TensorBoardWriter(_ScalarWriter):
  """Event files for TensorBoard, by tensorboardX; needs no TensorFlow."""

  def __init__(self, directory: pathlib.Path, first_step: int):
    # tensorboardX imports PyTorch, where there is one, for the name of a type:
    # seconds at every start. None in its place says that there is none.
    torch = sys.modules.setdefault("torch", None)
    from tensorboardX import SummaryWriter

    if torch is None:
      del sys.modules["torch"]

    # A resumed run hides what an earlier one wrote beyond its first step.
    self._writer = SummaryWriter(
      str(directory), purge_step=first_step + 1 if first_step else None
    )

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    for name, value in scalars.items():
      self._writer.add_scalar(name, float(value), step)

  def flush(self) -> None:
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


def rewind(path: pathlib.Path, size: int) -> None:
  """Cuts metrics.jsonl back to the `size` in bytes that a checkpoint saw.

  What follows, half a line perhaps, is written again by the resumed run.
  """
  if path.exists():
    with open(path, "r+b") as file:
      file.truncate(min(size, path.stat().st_size))


class Progress:
  """A bar on a terminal, nothing on a pipe, where the log is enough.

  The rate and the time left count training alone: what happens inside
  `pause()` (compilation, evaluation, saving) is left out.
  """

  def __init__(self, steps: int, batch_size: int, stream: TextIO | None = None):
    self._steps = steps
    self._batch_size = batch_size
    self._stream = stream or sys.stderr
    self._bar = self._stream.isatty()
    self._started: float | None = None
    self._paused = 0.0
    self._drawn = 0.0
    self._first: int | None = None

  def begin(self) -> None:
    """Starts the clock: the first step is compiled and done."""
    self._started, self._paused = time.monotonic(), 0.0

  def seconds(self) -> float:
    """Seconds of training since `begin`, pauses left out."""
    if self._started is None:
      return 0.0
    return time.monotonic() - self._started - self._paused

  @contextlib.contextmanager
  def pause(self, what: str) -> Iterator[None]:
    begin = time.monotonic()
    if self._bar:
      self._draw(f" {what} ...")
    try:
      yield
    finally:
      self._paused += time.monotonic() - begin
      self.clear()

  def update(self, step: int) -> None:
    """Tells that `step` steps are done; redraws ten times a second."""
    if self._first is None:
      self._first, self._begin = step, self.seconds()
    if not self._bar or time.monotonic() - self._drawn < 0.1:
      return
    done, seconds = step - self._first, self.seconds() - self._begin
    text = f" {step}/{self._steps}"
    if done and seconds:
      left = (self._steps - step) * seconds / done
      text += f"  {done * self._batch_size / seconds:,.0f} images/s"
      text += f"  {_clock(left)} left"
    width = max(10, min(40, shutil.get_terminal_size().columns - len(text) - 4))
    full = round(width * step / self._steps)
    self._draw(f"[{'█' * full}{'·' * (width - full)}]{text}")

  def clear(self) -> None:
    if self._bar:
      self._stream.write("\r\033[K")
      self._stream.flush()

  def _draw(self, text: str) -> None:
    columns = shutil.get_terminal_size().columns
    self._stream.write("\r\033[K" + text[: columns - 1])
    self._stream.flush()
    self._drawn = time.monotonic()


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return (
    f"{hours}:{minutes:02}:{seconds:02}"
    if hours
    else (f"{minutes}:{seconds:02}")
  )


class _LogHandler(logging.Handler):
  """CLU's lines and everyone's warnings, above the progress bar."""

  def __init__(self, progress: Progress):
    super().__init__(logging.INFO)
    self._progress = progress

  def emit(self, record: logging.LogRecord) -> None:
    if record.levelno < logging.WARNING and "clu" not in (
      pathlib.PurePath(record.pathname).parts
    ):
      return
    self._progress.clear()
    print(record.getMessage(), file=sys.stderr, flush=True)


@contextlib.contextmanager
def open_writers(
  workdir: pathlib.Path,
  first_step: int,
  metrics_bytes: int,
  progress: Progress,
  primary: bool,
) -> Iterator[metric_writers.MetricWriter]:
  """The writers of a run, flushed and closed at the end.

  Args:
    workdir: where metrics.jsonl and the event files are.
    first_step: the step that the run resumes from, 0 for a new one.
    metrics_bytes: the size of metrics.jsonl at that step.
    progress: the bar that log lines go above.
    primary: whether this process writes; the others get a silent writer.
  """
  if not primary:
    yield metric_writers.MultiWriter([])
    return
  rewind(workdir / METRICS_FILE, metrics_bytes)
  handler = _LogHandler(progress)
  logger = absl_logging.get_absl_logger()
  before = logger.handlers[:], logger.propagate, absl_logging.get_verbosity()
  logger.handlers[:], logger.propagate = [handler], False
  absl_logging.set_verbosity(absl_logging.INFO)
  writer = metric_writers.MultiWriter(
    [
      metric_writers.LoggingWriter(),
      JsonLinesWriter(workdir / METRICS_FILE),
      TensorBoardWriter(workdir, first_step),
    ]
  )
  try:
    yield writer
  finally:
    writer.close()
    logger.handlers[:], logger.propagate = before[:2]
    absl_logging.set_verbosity(before[2])
