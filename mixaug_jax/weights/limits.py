"""Limits on what a weight file may ask for.

A file of a few hundred bytes can declare arrays of any size and number. Each
reader compares what a file declares with these limits, and with the bytes that
it has, before it allocates memory. The largest ResNet here has 932 arrays of
0.24 GiB.
"""

MAX_BYTES = 4 * 2**30  # A file, and the arrays that it declares together.
MAX_ARRAYS = 100_000  # Also the entries of an archive or the links of a group.
MAX_DESCRIPTION = 16 * 2**20  # Bytes of a header, a directory or a pickle.
MAX_DEFLATE = 1032  # Bytes that one byte unpacks to, at most (zlib.net).


def check_bytes(size: int) -> None:
  """Raises ValueError if a file, or what it declares, is above MAX_BYTES."""
  if size > MAX_BYTES:
    raise ValueError(
      f"it declares {size / 2**30:,.1f} GiB, more than the "
      f"{MAX_BYTES / 2**30:g} GiB that are read"
    )


def check_arrays(count: int) -> None:
  """Raises ValueError if there are more arrays or entries than MAX_ARRAYS."""
  if count > MAX_ARRAYS:
    raise ValueError(
      f"it declares more than the {MAX_ARRAYS:,} arrays that are read"
    )


def check_description(size: int) -> None:
  """Raises ValueError if a description is above MAX_DESCRIPTION."""
  if size > MAX_DESCRIPTION:
    raise ValueError(
      f"it describes its arrays in more than the "
      f"{MAX_DESCRIPTION / 2**20:g} MiB that are read"
    )
