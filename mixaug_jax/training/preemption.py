"""SIGTERM: the run finishes its step, saves and exits with 143, in time."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

import jax

from mixaug_jax.errors import Interrupted

# Schedulers send SIGKILL about 30 s after SIGTERM.
_GRACE_SECONDS = 20.0


class Stopping:
  """The request to stop a run, if one has come."""

  def __init__(self) -> None:
    self._received = False

  def at(self, step: int) -> bool:
    """Returns true if the run is to stop after `step` finished steps.

    Every process calls this after every step and gets the same answer.
    """
    if jax.process_count() == 1:
      return self._received
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)

  def now(self) -> bool:
    """Returns true if the only process of the run is to stop.

    Where several processes run, the answer is false, because one of them cannot
    leave a computation in which the others take part.
    """
    return self._received and jax.process_count() == 1

  def _receive(self, *_) -> None:
    self._received = True


@contextlib.contextmanager
def watch() -> Iterator[Stopping]:
  """Turns SIGTERM into a request to stop while the context is open.

  Python calls a signal handler between two of its own instructions, and one of
  these may be a compilation that takes minutes. Therefore a thread waits as
  well, and ends the process when the run has not stopped after 20 s. The
  unfinished step is lost then, but no checkpoint is damaged, because
  checkpoints are renamed into place when they are complete.
  """
  stopping = Stopping()
  if jax.process_count() > 1:  # JAX's coordination service handles SIGTERM.
    yield stopping
    return
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  before = signal.signal(signal.SIGTERM, stopping._receive)
  wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  done = threading.Event()
  thread = threading.Thread(target=_enforce, args=(reader, done), daemon=True)
  thread.start()
  try:
    yield stopping
  finally:
    done.set()
    signal.set_wakeup_fd(wakeup_before)
    signal.signal(signal.SIGTERM, before)
    os.close(writer)
    thread.join()
    os.close(reader)


def _enforce(reader: int, done: threading.Event) -> None:
  """Reads signal numbers until the pipe closes; SIGTERM starts the grace."""
  while received := os.read(reader, 1):
    if received[0] == signal.SIGTERM and not done.wait(_GRACE_SECONDS):
      print(
        "mixaug_jax: stopped by SIGTERM in the middle of a step; the same "
        "command goes on from the newest checkpoint",
        file=sys.stderr,
        flush=True,
      )
      os._exit(Interrupted.code)
