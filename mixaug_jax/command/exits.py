"""The end of a command: its exit code, and the sentence it prints."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from mixaug_jax.command import failures
from mixaug_jax.errors import Diverged, Interrupted, UserError

# Seconds to wait for the other processes to fail as well.
_GOODBYE_SECONDS = 10.0


def run(command: Callable[[Sequence[str]], int | None]) -> None:
  """Runs a command and exits with its code.

  0: done; 2: a mistake of the user; 1: a run that diverged or lost one of its
  processes; 143: SIGTERM. Each but 0 comes with one sentence on stderr. 130:
  Ctrl-C. Any other exception is raised.
  """
  # A path may hold bytes that are not UTF-8.
  if sys.stdout is not None:
    sys.stdout.reconfigure(errors="backslashreplace")
  try:
    code = command(sys.argv[1:]) or 0
    sys.stdout.flush()
  except (UserError, Diverged, Interrupted) as error:
    print(f"mixaug_jax: {error}", file=sys.stderr)
    code = error.code
  except KeyboardInterrupt:
    code = 128 + signal.SIGINT
  except BrokenPipeError:  # The reader, such as `head`, wants no more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 128 + signal.SIGPIPE
  except Exception as error:
    if text := failures.sentence(error):
      print(f"mixaug_jax: {text}", file=sys.stderr)
      code = UserError.code
    elif not _several_processes():
      raise
    elif failures.lost_another(error):
      print(
        "mixaug_jax: another process of this run died or cannot be reached; "
        "see its output for the reason, and start all of them again to "
        "continue from the newest checkpoint",
        file=sys.stderr,
      )
      code = 1
      _leave(code, 0)
    else:
      traceback.print_exc()
      code = 1
  if code and _several_processes():
    _leave(code, _GOODBYE_SECONDS)
  sys.exit(code)


def follow_stdin() -> None:
  """Ends this process by SIGTERM, which saves its run, when stdin closes.

  A parent process that holds the other end takes its children along.
  """

  def wait() -> None:
    # sys.stdin.read would hold a lock when this process ends.
    while os.read(sys.stdin.fileno(), 1):
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
