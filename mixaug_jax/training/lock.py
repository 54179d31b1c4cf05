"""One run directory, one process that trains in it."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from mixaug_jax.errors import UserError
from mixaug_jax.training import parallel, records


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


@contextlib.contextmanager
def claim(workdir: pathlib.Path, config: str) -> Iterator[None]:
  """Makes a run directory, holds it, and writes `config.json` into it.

  Process 0 does; where it cannot, every process raises.

  Args:
    workdir: the run directory.
    config: what config.json is to hold.

  Raises:
    UserError: another run is in it, or it cannot be written.
  """
  with contextlib.ExitStack() as stack:

    def refusal() -> str:
      try:
        workdir.mkdir(parents=True, exist_ok=True)
        stack.enter_context(hold(workdir))
        records.write_text(workdir / records.CONFIG_FILE, config)
      except UserError as error:
        return str(error)
      except OSError as error:
        return (
          f"cannot write to --workdir={workdir}: {error.strerror}; name another"
        )
      return ""

    if why := parallel.from_first(refusal):
      raise UserError(why)
    yield
