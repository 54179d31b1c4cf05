"""Reads PyTorch's `.pth` files without PyTorch and without running their code.

A `.pth` file is a zip of a pickle, which describes tensors, and of their bytes.
A pickle can have any function of any module called. The reader here allows the
five names that a state dict is made of and refuses all others.
"""

import collections
import math
import pathlib
import pickle
import sys
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_DTYPES = {
  "DoubleStorage": np.float64,
  "FloatStorage": np.float32,
  "HalfStorage": np.float16,
  "BFloat16Storage": ml_dtypes.bfloat16,
  "LongStorage": np.int64,
  "IntStorage": np.int32,
  "ShortStorage": np.int16,
  "CharStorage": np.int8,
  "ByteStorage": np.uint8,
  "BoolStorage": np.bool_,
}


class _Storage(NamedTuple):
  """A class such as torch.FloatStorage."""

  dtype: np.dtype


def read_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict.

  The state dict may be the whole file or its entry `state_dict` or `model`. The
  prefix `module.`, which DataParallel adds to every name, is removed.

  Args:
    path: of a file that `torch.save` of PyTorch 1.6 or later wrote.

  Returns:
    Arrays by name, in the order and with the dtypes of the file.

  Raises:
    ValueError: the file is damaged, of another format, or holds more than
      tensors. The message does not name the file.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      content = _load(archive)
  except zipfile.BadZipFile:
    raise ValueError(
      "it is damaged, or in PyTorch's format from before 2020; load it in "
      "PyTorch and torch.save its state dict again"
    ) from None
  for key in ("state_dict", "model"):
    if isinstance(content, dict) and isinstance(content.get(key), dict):
      content = content[key]
  if not isinstance(content, dict) or not all(
    isinstance(name, str) and isinstance(value, np.ndarray)
    for name, value in content.items()
  ):
    raise ValueError(
      "it does not hold a state dict; torch.save model.state_dict()"
    )
  return {name.removeprefix("module."): x for name, x in content.items()}


def _load(archive: zipfile.ZipFile) -> Any:
  names = archive.namelist()
  if any(info.compress_type for info in archive.infolist()):
    # A small file could unpack to more than fits into memory.
    raise ValueError("it is compressed, which torch.save never does")
  pickles = [name for name in names if name.endswith("/data.pkl")]
  if len(pickles) != 1:
    raise ValueError("it is a zip file, but not one of torch.save")
  root = pickles[0].removesuffix("data.pkl")
  order = sys.byteorder
  if f"{root}byteorder" in names:
    order = archive.read(f"{root}byteorder").decode()
  storages: dict[str, np.ndarray] = {}

  def storage_of(saved: Any) -> np.ndarray:
    kind, storage, key, _, size = saved
    if kind != "storage" or not isinstance(storage, _Storage):
      raise ValueError("it holds something other than tensors")
    if key not in storages:
      array = np.frombuffer(archive.read(f"{root}data/{key}"), storage.dtype)
      if order != sys.byteorder:
        array = array.byteswap()
      storages[key] = array
    if len(storages[key]) < size:
      raise ValueError(f"it is damaged: storage {key} is too short")
    return storages[key]

  with archive.open(pickles[0]) as stream:
    unpickler = _Unpickler(stream)
    unpickler.persistent_load = storage_of
    try:
      return unpickler.load()
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
      raise ValueError(f"it is damaged: {error}") from error


class _Unpickler(pickle.Unpickler):
  """An unpickler that knows only the names that tensors and dicts need."""

  def find_class(self, module: str, name: str) -> Any:
    match module, name:
      case "collections", "OrderedDict":
        return collections.OrderedDict
      case "torch._utils", "_rebuild_tensor_v2":
        return _rebuild_tensor
      case "torch._utils", "_rebuild_parameter":
        return _rebuild_parameter
      case "torch", "Size":
        return tuple
      case "torch", storage if storage in _DTYPES:
        return _Storage(np.dtype(_DTYPES[storage]))
    raise ValueError(
      f"it holds more than tensors ({module}.{name}), which may be code; "
      "torch.save model.state_dict() alone"
    )


def _rebuild_tensor(
  storage: np.ndarray,
  offset: int,
  shape: tuple[int, ...],
  strides: tuple[int, ...],
  *_: Any,
) -> np.ndarray:
  """Copies a tensor out of its storage.

  Args:
    storage: the elements, one-dimensional.
    offset: of the first element, in elements.
    shape: of the tensor.
    strides: in elements.

  Raises:
    ValueError: the tensor is not inside the storage.
  """
  if min((offset, *shape, *strides), default=0) < 0 or len(shape) != len(
    strides
  ):
    raise ValueError("it is damaged: a tensor has a negative extent")
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if 0 not in shape and (
    last >= len(storage) or math.prod(shape) > len(storage)
  ):
    raise ValueError("it is damaged: a tensor reaches beyond its storage")
  view = np.lib.stride_tricks.as_strided(
    storage[offset:],
    shape,
    [stride * storage.itemsize for stride in strides],
    writeable=False,
  )
  return view.copy()


def _rebuild_parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
  return tensor
