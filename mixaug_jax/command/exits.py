"""The end of a command: its exit code, and the sentence it prints."""

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from mixaug_jax import progress, signals
from mixaug_jax.command import failures, streams
from mixaug_jax.errors import Diverged, Interrupted, UserError

# Seconds to wait for the other processes to fail as well.
_GOODBYE_SECONDS = 10.0


def run(
  command: Callable[[Sequence[str]], int | None],
  output_is_optional: bool = False,
) -> None:
  """Runs a command and exits with its code.

  0: done; 2: a mistake of the user; 1: a run that diverged or lost one of its
  processes; 128 plus the number of the signal that ended a run. Each but 0
  comes with one sentence on stderr. 130: Ctrl-C, whatever became of its
  exception. Any other exception is raised.

  Output that cannot be written never ends the command before it is done. Then
  it is 141 where the reader went away, and 2 for any other reason.

  Args:
    command: a function of the words after its name.
    output_is_optional: whether the command has done its work also when its
      output is lost.
  """
  streams.protect()
  signals.take_ctrl_c()
  try:
    code = _call(command)
  except SystemExit as error:
    if error.code:
      raise
    code, output_is_optional = 0, False  # --help has done nothing but print.
  except (UserError, Diverged, Interrupted) as error:
    _print(str(error))
    code = error.code
  except KeyboardInterrupt:
    code = signals.CTRL_C_CODE
  except Exception as error:
    if text := failures.sentence(error):
      _print(text)
      code = UserError.code
    elif not _several_processes():
      raise
    elif failures.lost_another(error):
      _print(
        "another process of this run died or cannot be reached; see its output "
        "for the reason, and start all of them again to continue from the "
        "newest checkpoint"
      )
      code = 1
      _leave(code, 0)
    else:
      traceback.print_exc()
      code = 1
  signals.exiting()
  code = code or _check_output(output_is_optional)
  if code and _several_processes():
    _leave(code, _GOODBYE_SECONDS)
  sys.exit(code)


def _print(sentence: str) -> None:
  """Prints a sentence on stderr, in lines that fit where it is a terminal."""
  text = f"mixaug_jax: {sentence}"
  print(progress.folded(text, sys.stderr), file=sys.stderr)


def _call(command: Callable[[Sequence[str]], int | None]) -> int:
  """Returns the code of a command, or raises KeyboardInterrupt after Ctrl-C.

  The exception of the handler may be lost, or become another one on its way.
  """
  try:
    code = command(sys.argv[1:]) or 0
  except Interrupted:  # It has a sentence.
    raise
  except Exception:
    if signals.ctrl_c_was_pressed():
      raise KeyboardInterrupt from None
    raise
  if signals.ctrl_c_was_pressed():
    raise KeyboardInterrupt
  return code


def _check_output(optional: bool) -> int:
  """Returns the exit code of a command that is done, by its stdout."""
  sys.stdout.flush()
  error = getattr(sys.stdout, "error", None)  # Of `streams.Stream`.
  # The reader wants no more, or there was none from the start.
  if not error or (optional and error.errno in (errno.EPIPE, errno.EBADF)):
    return 0
  if error.errno == errno.EPIPE:
    return 128 + signal.SIGPIPE
  _print(f"the output cannot be written: {error.strerror}")
  return 0 if optional else UserError.code


def follow_stdin() -> None:
  """Ends this process by SIGTERM, which saves its run, when stdin closes.

  A parent process that holds the other end takes its children along.
  """

  def wait() -> None:
    # sys.stdin.read would hold a lock when this process ends.
    while os.read(0, 1):
      pass
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=wait, daemon=True).start()


def _several_processes() -> bool:
  jax = sys.modules.get("jax")
  return jax is not None and jax.distributed.is_initialized()


def _leave(code: int, seconds: float) -> NoReturn:
  """Exits from a run of several processes that failed in this one.

  At a normal exit JAX waits 5 minutes for the other processes to exit too. If
  they failed as well, they exit at once. Otherwise they wait for this process
  in a collective, and end only when it is gone.
  """
  import jax

  goodbye = threading.Thread(target=jax.distributed.shutdown, daemon=True)
  goodbye.start()
  goodbye.join(seconds)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
