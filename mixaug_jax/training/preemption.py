"""Signals that stop a run: it finishes its step, saves, and exits in time.

The signals are SIGTERM, SIGHUP, which a closed terminal sends, and Ctrl-C. The
exit code of a command is 128 plus the number of the signal.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np

from mixaug_jax import progress, signals
from mixaug_jax.errors import Interrupted

# Schedulers send SIGKILL about 30 s after SIGTERM.
_GRACE_SECONDS = 20.0


class Stopping:
  """The request to stop a run, if one has come.

  Attributes:
    unsaved: whether this process has finished steps that a checkpoint could
      keep.
  """

  def __init__(self) -> None:
    self.unsaved = False
    self._in_command = signals.ctrl_c_is_taken()
    self._signal: int | None = None
    self._presses = 0  # Of Ctrl-C.
    self._watched: list[int] = []
    self._grace: threading.Timer | None = None

  def at(self, step: int) -> bool:
    """Returns true if the run is to stop after `step` finished steps.

    Every process calls this after every step and gets the same answer.
    """
    if jax.process_count() == 1:
      return self._signal is not None
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)

  def check(self) -> None:
    """Raises Interrupted if the only process of the run is to stop.

    Where several processes run, nothing happens, because one of them cannot
    leave a computation in which the others take part.
    """
    if self._signal is not None and jax.process_count() == 1:
      raise self.interrupted("while evaluating; the same command goes on")

  def interrupted(self, what: str) -> Interrupted:
    """Returns the exception that ends the run.

    Every process calls this, and gets the same signal.

    Args:
      what: the end of the sentence that begins with "stopped by SIGTERM".
    """
    # A process that got no signal of its own counts as one that got SIGTERM.
    number = self._signal or signal.SIGTERM
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      number = int(np.min(multihost_utils.process_allgather(np.int32(number))))
    return Interrupted(f"stopped by {_name(number)} {what}", number)

  def _receive(self, number: int, *_: object) -> None:
    """The signal handler.

    Outside a command, Ctrl-C raises KeyboardInterrupt if it is the second one,
    or if there is nothing to save.
    """
    raises = number == signal.SIGINT and not self._in_command
    if raises and (self._signal is not None or not self.unsaved):
      raise KeyboardInterrupt
    if self._signal is None:
      self._signal = number
      if jax.process_count() > 1:
        # JAX's coordination service handles it, and stops all processes.
        os.kill(os.getpid(), signal.SIGTERM)

  def _read(self, number: int) -> None:
    """Acts at once, on a thread; `_receive` may be called much later."""
    several = jax.process_count() > 1
    if number not in self._watched:  # It has a handler of someone else.
      return
    if number == signal.SIGINT:
      self._presses += 1
      if not self._in_command and (self._presses > 1 or not self.unsaved):
        return
      if self._presses > 1:
        os._exit(signals.CTRL_C_CODE)
      if not several and not self.unsaved:
        _leave(number, "before there was anything to save")
      _print("Ctrl-C: the run saves and ends; another Ctrl-C leaves at once")
    elif not several and not self._grace:
      self._grace = signals.after(
        _GRACE_SECONDS, lambda: _leave(number, "in the middle of a step")
      )


@contextlib.contextmanager
def watch() -> Iterator[Stopping]:
  """Turns signals into a request to stop while the context is open.

  SIGTERM and SIGHUP end the process when the run has not stopped after 20 s.
  The unfinished step is lost then, but no checkpoint is damaged, because
  checkpoints are renamed into place when they are complete. After Ctrl-C the
  user decides: another one ends the process, or raises KeyboardInterrupt where
  no command has taken Ctrl-C, as in a notebook. Nothing is watched outside the
  main thread, because Python sets signal handlers only there.
  """
  stopping = Stopping()
  if threading.current_thread() is not threading.main_thread():
    yield stopping
    return
  watched = stopping._watched
  if jax.process_count() == 1:  # Otherwise it belongs to JAX.
    watched.append(signal.SIGTERM)
  if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # Not so by `nohup`.
    watched.append(signal.SIGHUP)
  if signals.ctrl_c_is_taken():
    if signals.ctrl_c_was_pressed():
      raise KeyboardInterrupt  # The first one was lost.
    watched.append(signal.SIGINT)
  elif (
    jax.process_count() == 1
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
  ):
    watched.append(signal.SIGINT)
  try:
    with signals.reading(stopping._read):
      before = {n: signal.signal(n, stopping._receive) for n in watched}
      try:
        yield stopping
      finally:
        for number, handler in before.items():
          signal.signal(number, handler)
  finally:
    if stopping._grace:
      stopping._grace.cancel()
      stopping._grace.join()


def _leave(number: int, when: str) -> NoReturn:
  """Ends the process, also while the main thread is in a long call."""
  _print(f"stopped by {_name(number)} {when}; the same command goes on")
  os._exit(128 + number)


def _print(text: str) -> None:
  """Prints a sentence, and does not wait for a terminal that is stopped."""
  printing = threading.Thread(
    target=progress.write, args=(f"mixaug_jax: {text}",), daemon=True
  )
  printing.start()
  printing.join(1.0)


def _name(number: int) -> str:
  return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
