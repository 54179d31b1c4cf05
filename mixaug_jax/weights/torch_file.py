"""Reads PyTorch's `.pth` files without PyTorch and without running their code.

A `.pth` file is a zip of a pickle, which describes tensors, and of their bytes.
A pickle is a program that can call any function of any module. Here it is not
run: its instructions are read one by one, and those of which `torch.save` makes
a state dict build plain values. All others are refused. A name such as
`torch.FloatStorage` stays a name, and nothing is imported.
"""

import dataclasses
import math
import pathlib
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from mixaug_jax.weights import archives, limits

_DTYPES = {
  "torch DoubleStorage": np.float64,
  "torch FloatStorage": np.float32,
  "torch HalfStorage": np.float16,
  "torch BFloat16Storage": ml_dtypes.bfloat16,
  "torch LongStorage": np.int64,
  "torch IntStorage": np.int32,
  "torch ShortStorage": np.int16,
  "torch CharStorage": np.int8,
  "torch ByteStorage": np.uint8,
  "torch BoolStorage": np.bool_,
}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_TENSOR_OF_NEW_TYPE = "torch._utils _rebuild_tensor_v3"
_STORAGE = re.compile(r"torch [A-Z]\w*Storage", re.ASCII)
_PARAMETER = "torch._utils _rebuild_parameter"
_SIZE = "torch Size"
_NAMES = {_DICT, _TENSOR, _PARAMETER, _SIZE, *_DTYPES}

# ResNet-152 with the state of its optimizer takes about 100,000 instructions.
_MAX_INSTRUCTIONS = 1_000_000
_MAX_AXES = 32  # NumPy 1 has no more.
_MAX_ELEMENTS = 2**48  # Sizes in bytes then fit into 64 bits.


@dataclasses.dataclass(frozen=True)
class _Name:
  """A module and a name in it, with a space between them."""

  text: str


@dataclasses.dataclass(frozen=True)
class _Storage:
  """The bytes that one or more tensors lie in.

  Attributes:
    dtype: of the elements.
    key: of the bytes in the archive.
    size: in elements.
  """

  dtype: np.dtype
  key: str
  size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A tensor inside a storage; offset and strides are in elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def read_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict.

  The state dict may be the whole file or one of its entries `state_dict`,
  `model_state_dict` and `model`.

  Args:
    path: of a file that `torch.save` of PyTorch 1.6 or later wrote.

  Returns:
    Arrays by name, in the order and with the dtypes of the file. Those that
    shared memory in PyTorch share it here.

  Raises:
    ValueError: the file is damaged, of another format, or holds more than
      tensors. The message does not name the file.
  """
  try:
    with archives.open_archive(path) as archive:
      return _read(archive)
  except zipfile.BadZipFile:
    raise ValueError(
      "it is damaged, or in PyTorch's format from before 2020; load it in "
      "PyTorch and torch.save its state dict again"
    ) from None


def _read(archive: archives.Archive) -> dict[str, np.ndarray]:
  if any(name.endswith("/constants.pkl") for name in archive.entries):
    raise ValueError(
      "it is a program of TorchScript; torch.save the state_dict() of its model"
    )
  if any(entry.compress_type for entry in archive.entries.values()):
    # A small file could unpack to more than fits into memory.
    raise ValueError("it is compressed, which torch.save never does")
  pickles = [name for name in archive.entries if name.endswith("/data.pkl")]
  if len(pickles) != 1:
    raise ValueError("it is a zip file, but not one of torch.save")
  limits.check_description(archive.entries[pickles[0]].file_size)
  tensors = _state_dict(_Interpreter().run(archive.read(pickles[0])))
  limits.check_arrays(len(tensors))
  limits.check_bytes(
    sum(
      math.prod(tensor.shape) * tensor.storage.dtype.itemsize
      for tensor in tensors.values()
    )
  )
  root = pickles[0].removesuffix("data.pkl")
  swapped = _byte_order(archive, f"{root}byteorder") != sys.byteorder
  # Each storage is read once, so that the limit on the archive holds for all.
  storages: dict[str, np.ndarray] = {}
  arrays = {}
  for name, tensor in tensors.items():
    key, dtype = tensor.storage.key, tensor.storage.dtype
    if key not in storages:
      elements = _elements(archive, f"{root}data/{key}", dtype)
      storages[key] = elements.byteswap(inplace=True) if swapped else elements
    if storages[key].dtype != dtype:
      raise ValueError(f"it is damaged: storage {key} has two types")
    arrays[name] = _array(tensor, storages[key])
  return arrays


def _state_dict(content: Any) -> dict[str, _Tensor]:
  """Finds the tensors in what a file holds."""
  for key in ("state_dict", "model_state_dict", "model"):
    if isinstance(content, dict) and isinstance(content.get(key), dict):
      content = content[key]
  if not isinstance(content, dict) or not all(
    isinstance(name, str) and isinstance(value, _Tensor)
    for name, value in content.items()
  ):
    raise ValueError(
      "it does not hold a state dict; torch.save model.state_dict()"
    )
  return content


def _byte_order(archive: archives.Archive, name: str) -> str:
  """Returns `little` or `big`; versions before 2.1 did not write which."""
  if name not in archive.entries:
    return "little"
  if archive.entries[name].file_size <= len("little"):
    match archive.read(name):
      case b"little":
        return "little"
      case b"big":
        return "big"
  raise ValueError("it is damaged: its byte order is neither little nor big")


def _elements(
  archive: archives.Archive, entry: str, dtype: np.dtype
) -> np.ndarray:
  if entry not in archive.entries:
    raise ValueError(f"it is damaged: it lacks {entry}")
  content = archive.read(entry)
  return np.ndarray(len(content) // dtype.itemsize, dtype, content)


def _array(tensor: _Tensor, elements: np.ndarray) -> np.ndarray:
  """Returns the part of a storage that is the tensor, without a copy.

  Raises:
    ValueError: the tensor is not inside the storage, or the storage not inside
      its bytes.
  """
  shape, strides = tensor.shape, tensor.strides
  if tensor.storage.size > len(elements):
    raise ValueError(
      f"it is damaged: storage {tensor.storage.key} is too short"
    )
  if 0 in shape:
    return np.zeros(shape, elements.dtype)
  last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
  if tensor.offset + last >= tensor.storage.size:
    raise ValueError("it is damaged: a tensor reaches beyond its storage")
  return np.ndarray(
    shape,
    elements.dtype,
    elements,
    tensor.offset * elements.itemsize,
    [step * elements.itemsize for step in strides],
  )


class _Interpreter:
  """Reads a pickle whose values are plain, or tensors and what they lie in."""

  def __init__(self) -> None:
    self._stack: list[Any] = []
    self._outer: list[list[Any]] = []  # The stacks below the open marks.
    self._memo: dict[int, Any] = {}

  def run(self, content: bytearray) -> Any:
    """Returns the value that a pickle describes.

    Raises:
      ValueError: the pickle is damaged, or has an instruction or a name that
        `torch.save` does not need for tensors.
    """
    for opcode, argument in _instructions(content):
      if opcode == "STOP":
        break
      self._step(opcode, argument)
    return self._pop()

  def _step(self, opcode: str, argument: Any) -> None:
    match opcode:
      case "PROTO" | "FRAME":
        pass
      case "NONE":
        self._push(None)
      case "NEWTRUE" | "NEWFALSE":
        self._push(opcode == "NEWTRUE")
      case "BININT" | "BININT1" | "BININT2" | "INT" | "LONG" | "LONG1":
        if not -(2**63) <= argument < 2**63:
          raise ValueError("it is damaged: an integer exceeds 64 bits")
        self._push(argument)
      case "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
        self._push(argument)
      case "EMPTY_DICT":
        self._push({})
      case "EMPTY_LIST":
        self._push([])
      case "EMPTY_TUPLE":
        self._push(())
      case "MARK":
        self._outer.append(self._stack)
        self._stack = []
      case "TUPLE":
        self._push(tuple(self._pop_mark()))
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        items = [self._pop() for _ in range(int(opcode[-1]))]
        self._push(tuple(reversed(items)))
      case "APPEND":
        self._append([self._pop()])
      case "APPENDS":
        self._append(self._pop_mark())
      case "SETITEM":
        value = self._pop()
        self._set([self._pop(), value])
      case "SETITEMS":
        self._set(self._pop_mark())
      case "BINPUT" | "LONG_BINPUT":
        self._memo[argument] = self._top()
      case "MEMOIZE":
        self._memo[len(self._memo)] = self._top()
      case "BINGET" | "LONG_BINGET":
        if argument not in self._memo:
          raise ValueError("it is damaged: its pickle refers to nothing")
        self._push(self._memo[argument])
      case "GLOBAL":
        self._push(_name(argument))
      case "STACK_GLOBAL":
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
          raise ValueError("it is damaged: a name is not a string")
        self._push(_name(f"{module} {name}"))
      case "BINPERSID":
        self._push(_storage(self._pop()))
      case "REDUCE":
        arguments = self._pop()
        self._push(_called(self._pop(), arguments))
      case "BUILD":
        # The attributes of an OrderedDict: `_metadata` of model.state_dict().
        self._pop()
        if not isinstance(self._top(), dict):
          raise ValueError(_more_than_tensors(opcode))
      case _:
        raise ValueError(_more_than_tensors(opcode))

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _top(self) -> Any:
    if not self._stack:
      raise ValueError("it is damaged: its pickle lacks a value")
    return self._stack[-1]

  def _pop(self) -> Any:
    self._top()
    return self._stack.pop()

  def _pop_mark(self) -> list[Any]:
    """Returns the values since the last mark."""
    if not self._outer:
      raise ValueError("it is damaged: its pickle lacks a mark")
    items, self._stack = self._stack, self._outer.pop()
    return items

  def _append(self, items: list[Any]) -> None:
    if not isinstance(self._top(), list):
      raise ValueError("it is damaged: it appends to what is not a list")
    self._stack[-1].extend(items)

  def _set(self, items: list[Any]) -> None:
    """Sets the items of a dict: its keys and values in turn."""
    target, keys = self._top(), items[::2]
    if not isinstance(target, dict) or len(items) % 2:
      raise ValueError("it is damaged: it sets items of what is not a dict")
    # The hash of a nested tuple can take forever.
    if not all(type(key) in (str, int) for key in keys):
      raise ValueError("it is damaged: a key is neither a name nor a number")
    target.update(zip(keys, items[1::2], strict=True))


def _instructions(content: bytearray) -> Iterator[tuple[str, Any]]:
  """Yields the name and the argument of each instruction of a pickle."""
  try:
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
      if number == _MAX_INSTRUCTIONS:
        raise ValueError("its pickle is longer than that of any ResNet")
      yield opcode.name, argument
  except ValueError as error:
    raise ValueError(f"it is damaged: {error}") from None


def _name(text: str) -> _Name:
  if text in _NAMES:
    return _Name(text)
  if text == _TENSOR_OF_NEW_TYPE or _STORAGE.fullmatch(text):
    raise ValueError(
      "it has a tensor of a type that is not read, such as float8, uint16 or "
      "complex64; convert it to float32"
    )
  raise ValueError(_more_than_tensors(text.replace(" ", ".", 1)))


def _more_than_tensors(what: str) -> str:
  return (
    f"it holds more than tensors ({what[:80]}), which may be code; "
    "torch.save model.state_dict() alone"
  )


def _storage(saved: Any) -> _Storage:
  """Returns the storage that a persistent id names."""
  match saved:
    case ("storage", _Name(text), str(key), _, int(size)) if (
      text in _DTYPES and size >= 0
    ):
      return _Storage(np.dtype(_DTYPES[text]), key, size)
  raise ValueError("it is damaged: a storage is not one of torch.save")


def _called(function: Any, arguments: Any) -> Any:
  """Returns what a function of PyTorch makes of its arguments."""
  match function, arguments:
    case _Name(text), () if text == _DICT:
      return {}
    case _Name(text), (tuple(shape),) if text == _SIZE:
      return shape
    case _Name(text), (_Tensor() as tensor, *_) if text == _PARAMETER:
      return tensor
    case _Name(text), (_Storage() as storage, offset, shape, strides, *_) if (
      text == _TENSOR
    ):
      return _tensor(storage, offset, shape, strides)
  raise ValueError("it is damaged: a tensor is not one of torch.save")


def _tensor(
  storage: _Storage, offset: Any, shape: Any, strides: Any
) -> _Tensor:
  if not isinstance(shape, tuple) or not isinstance(strides, tuple):
    raise ValueError("it is damaged: a shape is not a tuple")
  if len(shape) > _MAX_AXES:
    raise ValueError(f"it has a tensor of more than {_MAX_AXES} axes")
  if len(shape) != len(strides):
    raise ValueError(
      "it is damaged: a tensor has strides of another number of axes"
    )
  numbers = (offset, *shape, *strides)
  if any(type(n) is not int for n in numbers):
    raise ValueError("it is damaged: an extent is not a whole number")
  if min(numbers) < 0:
    raise ValueError("it is damaged: a tensor has a negative extent")
  # NumPy bounds the shape of an empty array as if no extent were 0.
  elements = math.prod(max(n, 1) for n in shape)
  if max(*numbers, elements) > _MAX_ELEMENTS:
    raise ValueError("it is damaged: a tensor exceeds every memory")
  return _Tensor(storage, offset, shape, strides)
