"""Reads the datasets of Keras's HDF5 files, and of no other file.

A dataset may keep its elements in any file of the user (external storage,
virtual datasets), and a link may lead to another file. What they read would
become weights, and leave with them. So only hard links are followed, only
datasets that lie in the file are read, and anything else is an error.
"""

import math
import pathlib
from typing import Any

import h5py
import numpy as np

from mixaug_jax.weights import limits

_LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
# Filters inside of the HDF5 library. It loads others as plugins.
_FILTERS = (
  h5py.h5z.FILTER_DEFLATE,
  h5py.h5z.FILTER_SHUFFLE,
  h5py.h5z.FILTER_FLETCHER32,
)
_MAX_CHUNK = 64 * 2**20  # Bytes. The largest array of a ResNet has 10 MB.
_MAX_NAME = 1024  # Bytes.
_FIX = "save the weights again, as plain datasets of one file"

# The variables of a batch norm and of a convolution or dense layer, by their
# number, in Keras's order.
_KERAS_3_VARIABLES = {
  4: ("gamma", "beta", "moving_mean", "moving_variance"),
  2: ("kernel", "bias"),
  1: ("kernel",),
}


def read_arrays(
  path: pathlib.Path,
) -> list[tuple[tuple[str, ...], np.ndarray]]:
  """Reads the datasets of a file, or of its group `model_weights`.

  Returns:
    Paths and arrays. The path of a variable of Keras 3 is the names of its
    layer and of the variable.

  Raises:
    ValueError: there is a link that is not hard, an object that two links lead
      to, or a dataset that is not of numbers in the file itself.
    OSError: the file is damaged or not HDF5.
  """
  arrays: list[tuple[tuple[str, ...], np.ndarray]] = []
  size = stored = 0
  with h5py.File(path, "r", driver="sec2") as file:
    root = file.id
    seen = {h5py.h5o.get_info(root).addr}
    if "model_weights" in (links := _links(root)):
      root = _follow(root, "model_weights", links, seen)
    groups: list[tuple[tuple[str, ...], Any]] = [((), root)]
    while groups:
      parents, group = groups.pop()
      links = _links(group)
      for link in links:
        item, parts = _follow(group, link, links, seen), (*parents, link)
        if isinstance(item, h5py.h5g.GroupID):
          groups.append((parts, item))
          continue
        dataset = _dataset(item, "/".join(parts))
        size += dataset.nbytes
        stored += item.get_storage_size()
        limits.check_bytes(size)
        if stored > path.stat().st_size:
          raise ValueError("it is damaged: it declares more than it stores")
        if parents[-1:] == ("vars",):  # Keras 3 numbers a layer's variables.
          kinds = _KERAS_3_VARIABLES.get(len(links), ())
          kind = dict(zip("0123", kinds, strict=False)).get(link, link)
          parts = (_layer_name(group), kind)
        arrays.append((parts, dataset[()]))
  return arrays


def _links(group: h5py.h5g.GroupID) -> dict[str, int]:
  """Returns the types of a group's links by name; follows none."""
  if not isinstance(group, h5py.h5g.GroupID):
    raise ValueError("its model_weights is not a group")
  limits.check_arrays(group.get_num_objs())
  types = {}

  def add(name: bytes, info: h5py.h5l.LinkInfo) -> None:
    types[name.decode("utf-8", "replace")] = info.type

  group.links.iterate(add, info=True)
  return types


def _follow(
  group: h5py.h5g.GroupID, link: str, types: dict[str, int], seen: set[int]
) -> h5py.h5g.GroupID | h5py.h5d.DatasetID | h5py.h5t.TypeID:
  """Opens what a hard link leads to, once."""
  if types[link] != h5py.h5l.TYPE_HARD:
    raise ValueError(f"{link} is a link that may lead to another file; {_FIX}")
  item = h5py.h5o.open(group, link.encode())
  address = h5py.h5o.get_info(item).addr
  if address in seen:
    raise ValueError(f"two links lead to {link}; {_FIX}")
  seen.add(address)
  limits.check_arrays(len(seen))
  return item


def _dataset(
  item: h5py.h5d.DatasetID | h5py.h5t.TypeID, name: str
) -> h5py.Dataset:
  """Returns a dataset of numbers that lie in the file, and are all there."""
  if not isinstance(item, h5py.h5d.DatasetID):
    raise ValueError(f"{name} is not a dataset")
  # Its shape is only read after this: that of a virtual one is in other files.
  properties = item.get_create_plist()
  if properties.get_layout() not in _LAYOUTS or properties.get_external_count():
    raise ValueError(f"{name} lies in another file; {_FIX}")
  dataset = h5py.Dataset(item)
  if dataset.dtype == np.dtype("V2"):  # HDF5 has no such type.
    raise ValueError(
      f"{name} is bfloat16, which is not read from .h5; save it as float32"
    )
  if dataset.dtype.kind not in "fiub" or dataset.shape is None:
    raise ValueError(f"{name} does not hold numbers")
  filters = [
    properties.get_filter(index)[0]
    for index in range(properties.get_nfilters())
  ]
  if not set(filters) <= set(_FILTERS) or len(set(filters)) < len(filters):
    raise ValueError(f"{name} is compressed in another way than gzip")
  itemsize = dataset.dtype.itemsize
  if (
    dataset.chunks is not None
    and math.prod(dataset.chunks) * itemsize > _MAX_CHUNK
  ):
    raise ValueError(f"the chunks of {name} exceed {_MAX_CHUNK >> 20} MiB")
  stored = item.get_storage_size()
  if h5py.h5z.FILTER_DEFLATE in filters:
    stored *= limits.MAX_DEFLATE
  # NumPy's product of the shape, in `nbytes`, could overflow.
  if math.prod(dataset.shape) * itemsize > stored:
    raise ValueError(f"{name} declares more than it stores")
  return dataset


def _layer_name(variables: h5py.h5g.GroupID) -> str:
  if not h5py.h5a.exists(variables, b"name"):
    raise ValueError("it lacks names of layers; save it with Keras 3.5+")
  attribute = h5py.h5a.open(variables, b"name")
  kind = attribute.get_type()
  if (
    not isinstance(kind, h5py.h5t.TypeStringID)
    or attribute.shape != ()
    or kind.get_size() > _MAX_NAME
  ):
    raise ValueError("the name of a layer is not a string")
  name = h5py.Group(variables).attrs["name"]
  return name.decode() if isinstance(name, bytes) else name
