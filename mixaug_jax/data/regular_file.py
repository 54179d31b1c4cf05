"""Reads a whole file of unknown origin, and only a file."""

import errno
import os

from mixaug_jax import files

# An uncompressed image of 100 megapixels with four channels of 16 bits has
# 800 MB. A sparse file takes no space on the disk and may claim any size.
MAX_BYTES = 2**30
_OF_ONE_FILE = (
  *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
  *(errno.EACCES, errno.EPERM),
  *(errno.EISDIR, errno.ENXIO),  # A folder, a socket.
  *(errno.EINVAL, errno.EFBIG),  # Of `read`.
)


def read(path: str | os.PathLike) -> bytes:
  """Returns the content of a file.

  Raises:
    OSError: it is not a file, it is larger than `MAX_BYTES`, or it cannot be
      read.
  """
  return files.read_bytes(path, MAX_BYTES)


def about_the_file(error: Exception) -> bool:
  """Returns whether a file is at fault, and not the machine that reads it.

  A disk, a network or a process without memory or descriptors fails with any
  file, and may read it later. Errors without a number come from libraries that
  found something wrong in a file.
  """
  if isinstance(error, MemoryError | TimeoutError | ConnectionError):
    return False
  number = getattr(error, "errno", None)
  return number is None or number in _OF_ONE_FILE
