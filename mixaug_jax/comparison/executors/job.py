"""The job of a cluster, which trains one cell in a process of its own."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from mixaug_jax import files

_SECONDS = 0.2


class Job:
  """Trains a cell on the machine where it is called.

  Args:
    words: the words after `python` that train the cell.
    log: the file for what the cell prints.
  """

  def __init__(self, words: Sequence[str], log: pathlib.Path):
    self._words, self._log, self._folder = list(words), log, os.getcwd()
    self._process: subprocess.Popen | None = None

  def __call__(self) -> int:
    """Returns the exit code of the cell, which SIGINT makes save and end."""
    os.chdir(self._folder)  # Relative paths are those of the command.
    self._log.parent.mkdir(parents=True, exist_ok=True)
    files.refuse_link(self._log)
    with open(self._log, "w", encoding="utf-8") as output:
      self._process = subprocess.Popen(
        [sys.executable, *self._words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        preexec_fn=_ignore_warnings,
      )
    try:
      return self._wait()
    except KeyboardInterrupt:
      self.save()
      raise

  def hand_over(self) -> None:
    """Removes the log of an earlier try, before a cluster gets the job."""
    self._log.unlink(missing_ok=True)

  @property
  def started(self) -> bool:
    """Whether the job has started, on any machine, since it was handed over."""
    return self._log.exists()

  def save(self) -> None:
    """Makes the cell save, and waits until it has ended."""
    if self._process:
      self._process.terminate()
      self._wait()

  def _wait(self) -> int:
    """Returns the exit code of the process.

    `Popen.wait` holds a lock, so a signal handler that calls it may wait for
    itself.
    """
    assert self._process
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    while not (ended := os.waitid(os.P_PID, self._process.pid, options)):
      time.sleep(_SECONDS)
    killed = ended.si_code != os.CLD_EXITED
    return ended.si_status + 128 * killed


def _ignore_warnings() -> None:
  """Makes the cell survive the signal that announces the end of a job.

  SLURM sends it to all processes of the job. The cell saves on SIGTERM.
  """
  for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
