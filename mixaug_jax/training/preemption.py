"""SIGTERM: finish the step, save, leave with 143, and do not take for ever."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

import jax

from mixaug_jax.errors import Interrupted

# Schedulers send SIGKILL some 30 s after SIGTERM.
_GRACE_SECONDS = 20.0


class Stopping:
  """Whether this run was asked to stop."""

  def __init__(self) -> None:
    self._received = False

  def at(self, step: int) -> bool:
    """Asked after every step, with the same answer in every process."""
    if jax.process_count() == 1:
      return self._received
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)

  def now(self) -> bool:
    """Asked where one process can stop by itself; never with several."""
    return self._received and jax.process_count() == 1

  def _receive(self, *_) -> None:
    self._received = True


@contextlib.contextmanager
def watch() -> Iterator[Stopping]:
  """Turns SIGTERM into an answer of `Stopping` instead of death.

  Python runs signal handlers between two of its own instructions, and one of
  them may be a compilation of minutes. So a thread watches as well: what has
  not come to an end in 20 s loses the step under way, and nothing else,
  because checkpoints are renamed into place when they are whole.
  """
  stopping = Stopping()
  if jax.process_count() > 1:  # JAX's coordination service watches itself.
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
  """Reads signal numbers until the pipe closes; SIGTERM starts the clock."""
  while received := os.read(reader, 1):
    if received[0] == signal.SIGTERM and not done.wait(_GRACE_SECONDS):
      print(
        "mixaug_jax: stopped by SIGTERM in the middle of a step; the same "
        "command goes on from the newest checkpoint",
        file=sys.stderr,
        flush=True,
      )
      os._exit(Interrupted.code)
