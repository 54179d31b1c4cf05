"""One run directory, one process that trains in it."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from mixaug_jax.errors import UserError


@contextlib.contextmanager
def hold(workdir: pathlib.Path) -> Iterator[None]:
  """Holds `workdir/.lock`; the system lets go of it when the process ends.

  Raises:
    UserError: another process holds it; it is named.
  """
  with open(workdir / ".lock", "a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      file.seek(0)
      holder = file.read().strip() or "another process"
      raise UserError(
        f"{workdir} is in use by {holder}; wait for it or name another "
        "--workdir"
      ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    yield
