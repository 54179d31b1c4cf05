"""Reads a whole file of unknown origin, and only a file."""

import os

from mixaug_jax import files

# An uncompressed image of 100 megapixels with four channels of 16 bits has
# 800 MB. A sparse file takes no space on the disk and may claim any size.
MAX_BYTES = 2**30


def read(path: str | os.PathLike) -> bytes:
  """Returns the content of a file.

  Raises:
    OSError: it is not a file, it is larger than `MAX_BYTES`, or it cannot be
      read.
  """
  return files.read_bytes(path, MAX_BYTES)
