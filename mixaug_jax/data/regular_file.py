"""Reads a whole file of unknown origin, and only a file."""

import errno
import os
import stat

# An uncompressed image of 100 megapixels with four channels of 16 bits has
# 800 MB. A sparse file takes no space on the disk and may claim any size.
MAX_BYTES = 2**30


def read(path: str | os.PathLike) -> bytes:
  """Returns the content of a file.

  A pipe would wait for a writer, and a device such as `/dev/zero` has no end.

  Raises:
    OSError: it is not a file, it is larger than `MAX_BYTES`, or it cannot be
      read.
  """
  with open(path, "rb", opener=_without_waiting) as file:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
      raise OSError(errno.EINVAL, "it is not a file", os.fspath(path))
    if status.st_size > MAX_BYTES:
      raise OSError(
        errno.EFBIG,
        f"it has {status.st_size:,} bytes, more than {MAX_BYTES:,}",
        os.fspath(path),
      )
    return file.read(MAX_BYTES)


def _without_waiting(path: str, flags: int) -> int:
  """Opens a pipe without waiting for its writer; Windows has no such flag."""
  return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
