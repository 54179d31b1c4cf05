"""The lock of a run directory, in which one process at a time trains."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import files
from mixaug_jax.errors import Taken, UserError, reason
from mixaug_jax.training import parallel, records

_TAKEN = "taken: "  # Marks the text that process 0 sends to the others.


@contextlib.contextmanager
def hold(workdir: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a run directory, which ends with the process.

  Raises:
    Taken: another process holds it; the message names that process.
    OSError: the lock file cannot be written.
  """
  path = workdir / ".lock"
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(files.locked(path, wait=False))
    except BlockingIOError:
      holder = files.read_text(path).strip() or "another process"
      raise Taken(
        f"{workdir} is in use by {holder}; wait for it or name another "
        "directory"
      ) from None
    name = f"process {os.getpid()} on {socket.gethostname()}\n"
    with files.naming(path):
      path.write_text(name, "utf-8")
    yield


@contextlib.contextmanager
def claim(workdir: pathlib.Path, config: ConfigDict) -> Iterator[None]:
  """Makes a run directory, holds its lock, and writes its first files.

  These are version.json and config.json.

  Process 0 does this. If it cannot, every process raises.

  Args:
    workdir: the run directory.
    config: the content of config.json.

  Raises:
    Taken: another process holds the lock, or has written another config since
      this one looked.
    UserError: the directory cannot be written.
  """
  with contextlib.ExitStack() as stack:

    def refusal() -> str:
      try:
        workdir.mkdir(parents=True, exist_ok=True)
        stack.enter_context(hold(workdir))
        records.finished_result(config, workdir)
        records.write_version(workdir)
        text = config_lib.to_json(config)
        records.write_text(workdir / records.CONFIG_FILE, text)
      except Taken as error:
        return f"{_TAKEN}{error}"
      except UserError as error:
        return str(error)
      except OSError as error:
        return (
          f"cannot write to {workdir}: {reason(error)}; name another directory"
        )
      return ""

    if why := parallel.from_first(refusal):
      taken = why.startswith(_TAKEN)
      raise Taken(why.removeprefix(_TAKEN)) if taken else UserError(why)
    yield
