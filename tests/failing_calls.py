"""A server that runs commands whose n-th system call fails.

    LD_PRELOAD=failing_calls.so python tests/failing_calls.py

reads a JSON object a line: `argv`, the command and its arguments; `output`, the
file that takes what it prints; `seconds`, after which it counts as hanging; and
`arm`, the arguments of `arm` in failing_calls.c, or null. It answers with the
exit code, or with null for a command that hangs.

Each command runs in a fork of this process, which has imported all that it
needs and has no threads. A command ends as in a process of its own.
"""

import ctypes
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

from mixaug_jax.command import (
  exits,
  start,
  train,  # noqa: F401
)
from mixaug_jax.comparison import page  # noqa: F401
from mixaug_jax.training import loop  # noqa: F401
from mixaug_jax.training.writers import TensorBoardWriter

with tempfile.TemporaryDirectory() as _folder:  # Imports tensorboardX.
  TensorBoardWriter(pathlib.Path(_folder), 0).close()


def main():
  for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
      break
    end, code = time.monotonic() + request["seconds"], None
    while time.monotonic() < end:
      ended, status = os.waitpid(child, os.WNOHANG)
      if ended:
        code = os.waitstatus_to_exitcode(status)
        break
      time.sleep(0.01)
    else:
      os.kill(child, signal.SIGKILL)
      os.waitpid(child, 0)
    print(json.dumps(code), flush=True)
  else:
    return
  output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.dup2(output, 1)
  os.dup2(output, 2)
  sys.argv = request["argv"]
  if request["arm"]:
    directory, n, error, always, log = request["arm"]
    ctypes.CDLL(None).arm(
      directory.encode(), ctypes.c_long(n), error, always, log.encode()
    )
  exits.run(lambda argv: start.call(sys.argv[0], argv))


if __name__ == "__main__":
  main()
