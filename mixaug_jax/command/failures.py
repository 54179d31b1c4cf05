"""The failures of the machine that a command reports in one sentence."""

import errno
import os
from collections.abc import Iterator

from mixaug_jax.errors import UserError, first_line, reason

_FIXES = {
  errno.ENOSPC: "make room",
  errno.EDQUOT: "make room or raise the quota",
  errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
  errno.EACCES: "allow it",
  errno.EPERM: "allow it",
  errno.EROFS: "make the file system writable",
  errno.EIO: "check the disk",
}
_PROCESS_SIGNS = ("Gloo", "NCCL", "Barrier failed", "heartbeat", "coordination")


def sentence(error: BaseException) -> str | None:
  """Returns a sentence with the cause and the fix; None for other errors.

  Args:
    error: an exception that ended a command.
  """
  # First, because TensorStore reports a full disk as RESOURCE_EXHAUSTED too.
  if failure := _of_disk(error):
    name = failure.filename or "a file"
    fix = _FIXES.get(failure.errno or 0, "repair that")
    return str(
      UserError(
        f"cannot read or write {name}: {reason(failure)}; {fix} and repeat "
        "the command; a run continues from its newest checkpoint"
      )
    )
  if _disk_full(error):
    return (
      "there is no space left on the disk; make room, and the same command "
      "continues from the newest checkpoint"
    )
  if _out_of_memory(error):
    return (
      "there is not enough memory; lower config.batch_size or "
      f"config.data.image_size ({first_line(error)})"
    )
  return None


def lost_another(error: BaseException) -> bool:
  """Returns whether the end of another process caused `error`."""
  return any(sign in str(e) for e in _chain(error) for sign in _PROCESS_SIGNS)


def _out_of_memory(error: BaseException) -> bool:
  """Returns whether NumPy or XLA ran out of memory."""
  return any(
    isinstance(e, MemoryError) or "RESOURCE_EXHAUSTED" in str(e)
    for e in _chain(error)
  )


def _disk_full(error: BaseException) -> bool:
  """Returns whether a full disk caused an error that names no file."""
  text = os.strerror(errno.ENOSPC)
  return any(text in str(e) for e in _chain(error))


def _of_disk(error: BaseException | None) -> OSError | None:
  """Returns `error` or its cause that is an error of a file, if any."""
  while error is not None:
    known = _FIXES.keys() - {errno.ENOSPC}  # `_disk_full` has its sentence.
    if isinstance(error, OSError) and (
      error.errno in known or (error.errno and error.filename)
    ):
      return error
    error = error.__cause__
  return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """Yields an exception and its causes."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__
