"""Reads NumPy's `.npz` files without pickles and in bounded memory.

`numpy.load` allocates what the header of an array claims before it reads.
"""

import io
import math
import pathlib
import zipfile

import numpy as np

from mixaug_jax.weights import archives

_MAX_HEADER = 2**17  # Bytes. NumPy refuses a header of more than 10,000.


def read_arrays(path: pathlib.Path) -> list[tuple[str, np.ndarray]]:
  """Reads the arrays of a file that `numpy.savez` wrote, compressed or not.

  Returns:
    Names and arrays, in the order of the file.

  Raises:
    ValueError: the file is damaged, or holds other than arrays, or Python
      objects. The message does not name the file.
  """
  try:
    with archives.open_archive(path) as archive:
      return [
        (name.removesuffix(".npy"), _array(name, archive.read(name)))
        for name in archive.entries
      ]
  except zipfile.BadZipFile:
    raise ValueError("it is damaged or not an .npz") from None


def _array(name: str, content: bytearray) -> np.ndarray:
  """Returns the array of a `.npy` file, without a copy of its elements.

  NumPy's format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
  """
  stream = io.BytesIO(content[:_MAX_HEADER])
  version = np.lib.format.read_magic(stream)
  header = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }.get(version)
  if header is None:
    raise ValueError(f"the array {name} is of an unknown version")
  shape, fortran, dtype = header(stream)
  if dtype.hasobject:
    raise ValueError(f"the array {name} holds Python objects")
  size = len(content) - stream.tell()
  if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
    raise ValueError(
      f"it is damaged: the array {name} is not of its declared size"
    )
  start = stream.tell()
  return np.ndarray(shape, dtype, content, start, order="F" if fortran else "C")
