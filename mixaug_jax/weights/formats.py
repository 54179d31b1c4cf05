"""Reads and writes files of named arrays: .pth, .safetensors, .h5 and .npz."""

import pathlib
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mixaug_jax.errors import UserError, first_line
from mixaug_jax.weights import limits, npz_file, torch_file

Arrays = dict[str, np.ndarray]

_TORCH_PREFIXES = re.compile(r"(module\.|_orig_mod\.)+")


def read(path: pathlib.Path) -> Arrays:
  """Reads the arrays of a weight file in the format of its suffix.

  Names in `.pth` and `.safetensors` are PyTorch's (`layer1.0.conv1.weight`);
  the prefixes `module.` of DataParallel and `_orig_mod.` of torch.compile are
  removed.
  Names in `.h5` and `.npz` become `LAYER/VARIABLE` for every version of Keras:
  `conv1_bn/mean`, not `conv1_bn/conv1_bn/moving_mean:0`.

  Raises:
    UserError: the file is missing, damaged or of an unknown format.
  """
  reader = READERS.get(path.suffix)
  if reader is None:
    raise UserError(
      f"the format of the weight file {path} is not known; known are "
      f"{', '.join(READERS)}"
    )
  if not path.is_file():  # A pipe would block.
    raise UserError(f"the weight file {path} is not a file; check its path")
  try:
    limits.check_bytes(path.stat().st_size)
    return reader.read(path)
  except Exception as error:  # Each library raises its own types.
    raise UserError(
      f"the weight file {path} cannot be read: {first_line(error)}"
    ) from error


def _named(arrays: Iterable[tuple[str, np.ndarray]]) -> Arrays:
  """Returns arrays by name; raises ValueError if two have the same one."""
  named: Arrays = {}
  for name, array in arrays:
    if name in named:
      raise ValueError(f"two arrays have the name {name}")
    named[name] = array
  return named


def _torch_name(name: str) -> str:
  prefix = _TORCH_PREFIXES.match(name)
  return name[prefix.end() :] if prefix else name


def _read_pth(path: pathlib.Path) -> Arrays:
  arrays = torch_file.read_state_dict(path)
  return _named((_torch_name(name), x) for name, x in arrays.items())


def _read_safetensors(path: pathlib.Path) -> Arrays:
  from safetensors import safe_open
  from safetensors.flax import load_file  # It reads bfloat16 too.

  with path.open("rb") as file:
    header = file.read(8)
  if len(header) == 8:
    limits.check_description(*struct.unpack("<Q", header))
  with safe_open(path, "numpy") as file:
    limits.check_arrays(len(file.keys()))
    for name in file.keys():  # noqa: SIM118 (it is no dict)
      kind = file.get_slice(name).get_dtype()
      if kind.startswith(("F8", "F6", "F4")):
        raise ValueError(f"{name} is {kind}, which is not read; convert it")
  arrays = load_file(path)
  return _named(
    (_torch_name(name), np.asarray(x)) for name, x in arrays.items()
  )


def _read_npz(path: pathlib.Path) -> Arrays:
  arrays = npz_file.read_arrays(path)
  return _named((_keras_name(name.split("/")), x) for name, x in arrays)


def _read_h5(path: pathlib.Path) -> Arrays:
  from mixaug_jax.weights import hdf5_file  # Importing h5py takes a while.

  arrays = hdf5_file.read_arrays(path)
  return _named((_keras_name(parts), x) for parts, x in arrays)


def _keras_name(parts: Sequence[str]) -> str:
  variable = parts[-1].removesuffix(":0")
  variable = {"moving_mean": "mean", "moving_variance": "var"}.get(
    variable, variable
  )
  return "/".join([*parts[-2:-1], variable])


class Reader(NamedTuple):
  """A reader of one format.

  Attributes:
    framework: whose names the arrays have: `keras` or `torch`.
    read: returns the arrays of a file.
  """

  framework: str
  read: Callable[[pathlib.Path], Arrays]


READERS: Mapping[str, Reader] = {
  ".pth": Reader("torch", _read_pth),
  ".pt": Reader("torch", _read_pth),
  ".safetensors": Reader("torch", _read_safetensors),
  ".h5": Reader("keras", _read_h5),
  ".npz": Reader("keras", _read_npz),
}


def write_safetensors(path: pathlib.Path, arrays: Arrays) -> None:
  """Writes a `.safetensors` file that timm and torchvision load."""
  from safetensors.numpy import save_file

  contiguous = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
  save_file(contiguous, path, metadata={"format": "pt"})


def write_pth(path: pathlib.Path, arrays: Arrays) -> None:
  """Writes a state dict with `torch.save`.

  Raises:
    UserError: PyTorch is not installed.
  """
  try:
    import torch
  except ImportError:
    raise UserError(
      "writing a .pth needs PyTorch; pip install torch, or choose safetensors"
    ) from None
  torch.save({name: torch.tensor(x) for name, x in arrays.items()}, path)


def write_keras_h5(
  path: pathlib.Path, arrays: Arrays, layers: Iterable[str]
) -> None:
  """Writes the HDF5 format in which Keras publishes its ImageNet weights.

  Keras assigns its arrays by order, not by name, so the order of `layers`
  counts.

  Args:
    path: must end in `.h5` but not in `.weights.h5`, which is another format.
    arrays: by `LAYER/VARIABLE`.
    layers: all layers of the model that have variables, in its order.
  """
  import h5py

  layers = list(layers)
  with h5py.File(path, "w") as file:
    file.attrs["layer_names"] = [layer.encode() for layer in layers]
    file.attrs["backend"] = b"jax"
    file.attrs["keras_version"] = b"3.0.0"
    for layer in layers:
      group = file.create_group(layer)
      kinds = ("kernel", "bias", "gamma", "beta", "mean", "var")
      present = [kind for kind in kinds if f"{layer}/{kind}" in arrays]
      long = {"mean": "moving_mean", "var": "moving_variance"}
      names = [f"{layer}/{long.get(kind, kind)}:0" for kind in present]
      group.attrs["weight_names"] = [name.encode() for name in names]
      for name, kind in zip(names, present, strict=True):
        group[name] = arrays[f"{layer}/{kind}"]
