"""The failures of the machine that a command reports in one sentence."""

import errno
import os
from collections.abc import Iterator

from mixaug_jax.errors import first_line

_PROCESS_SIGNS = ("Gloo", "NCCL", "Barrier failed", "heartbeat", "coordination")


def sentence(error: BaseException) -> str | None:
  """Returns a sentence with the cause and the fix; None for other errors.

  Args:
    error: an exception that ended a command.
  """
  # First, because TensorStore reports a full disk as RESOURCE_EXHAUSTED too.
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
  """Returns whether a full disk caused `error`."""
  text = os.strerror(errno.ENOSPC)  # TensorStore's errors have no errno.
  return any(
    getattr(e, "errno", None) == errno.ENOSPC or text in str(e)
    for e in _chain(error)
  )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """Yields an exception and its causes."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__
