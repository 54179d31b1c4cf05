"""Signals that Python itself cannot act on in time, and Ctrl-C in a command.

Python calls a signal handler between two of its own instructions, and one of
these may be a compilation that takes minutes. Therefore a thread reads the
numbers of the signals as well.
"""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator

CTRL_C_CODE = 128 + signal.SIGINT
# Seconds for Ctrl-C to end the command. Python does not call the handler in a
# long call, and drops the exception where it cannot be caught, as in `__del__`.
_SECONDS = 2.0


@contextlib.contextmanager
def reading(act: Callable[[int], None]) -> Iterator[None]:
  """Calls `act(number)` on a thread for each signal that has a handler.

  Only the main thread may open the context.
  """
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

  def read() -> None:
    while number := os.read(reader, 1):
      act(number[0])

  thread = threading.Thread(target=read, daemon=True)
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    os.close(writer)
    thread.join()
    os.close(reader)


def after(seconds: float, act: Callable[[], object]) -> threading.Timer:
  """Calls `act` after some seconds, on a thread that no exit waits for."""
  timer = threading.Timer(seconds, act)
  timer.daemon = True
  timer.start()
  return timer


class _CtrlC:
  """Ctrl-C raises KeyboardInterrupt; the next one leaves at once.

  While a module is imported the first one leaves at once too, because C
  extensions whose start meets an exception may crash.

  Attributes:
    pressed: whether the exception was raised.
    exiting: whether the command ends, for example because the exception arrived
      where it is caught.
    waits: whether the exception is raised later.
  """

  def __init__(self) -> None:
    self._presses = 0
    self.pressed = self.exiting = self.waits = False
    self.context: contextlib.AbstractContextManager | None = None

  def handle(self, number: int, frame: types.FrameType | None) -> None:
    """The signal handler."""
    if self.pressed or self.exiting or _in_an_import(frame):
      os._exit(CTRL_C_CODE)
    self.pressed = True
    raise KeyboardInterrupt

  def read(self, number: int) -> None:
    """Leaves where the exception is not raised or does not arrive."""
    self._presses += number == signal.SIGINT
    if self._presses > 1:
      os._exit(CTRL_C_CODE)
    if self._presses:
      self.leave_soon()

  def leave_soon(self) -> None:
    """Ends the process after a while, unless the exception is caught."""
    ends = lambda: self.exiting or self.waits or os._exit(CTRL_C_CODE)
    after(_SECONDS, ends)


def _in_an_import(frame: types.FrameType | None) -> bool:
  while frame:
    if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
      return True
    frame = frame.f_back
  return False


_ctrl_c: _CtrlC | None = None


def take_ctrl_c() -> None:
  """Makes Ctrl-C leave this process with 130, the second one at once.

  A command calls this. Nothing happens where Ctrl-C is switched off, as in the
  background jobs of a script.
  """
  global _ctrl_c
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    _ctrl_c = _CtrlC()
    signal.signal(signal.SIGINT, _ctrl_c.handle)
    # Kept, because a context without a reference closes. It is open until the
    # process ends.
    _ctrl_c.context = reading(_ctrl_c.read)
    _ctrl_c.context.__enter__()


def ctrl_c_is_taken() -> bool:
  """Returns whether `take_ctrl_c` has set the handler of Ctrl-C."""
  if _ctrl_c is None:
    return False
  return signal.getsignal(signal.SIGINT) == _ctrl_c.handle


def ctrl_c_was_pressed() -> bool:
  """Returns whether Ctrl-C has raised KeyboardInterrupt in a command.

  The exception may be lost, or become another one, such as the ImportError of a
  C extension.
  """
  return _ctrl_c is not None and _ctrl_c.pressed


def exiting() -> None:
  """Makes Ctrl-C leave at once from now on, without an exception.

  Who catches the KeyboardInterrupt of a command calls this. Otherwise the
  process ends 2 s after Ctrl-C, because the exception seems lost.
  """
  if _ctrl_c:
    _ctrl_c.exiting = True


@contextlib.contextmanager
def ctrl_c_waits() -> Iterator[None]:
  """Makes the first Ctrl-C wait until the context closes.

  Programs that are started in the context ignore it. The context has no effect
  in other threads than the main one, where Ctrl-C raises nothing.
  """
  before = signal.getsignal(signal.SIGINT)
  in_main = threading.current_thread() is threading.main_thread()
  if not in_main or before is None:  # None: it is no handler of Python.
    yield
    return
  pressed: list[int] = []
  signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
  # Programs inherit the mask, but no handler; other threads may get the signal.
  mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  if _ctrl_c:
    _ctrl_c.waits = True
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGINT, before)
    if _ctrl_c:
      _ctrl_c.waits = False
      if pressed:
        _ctrl_c.leave_soon()
    if pressed and callable(before):
      before(signal.SIGINT, None)
