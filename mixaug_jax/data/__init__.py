"""Data: sources, decoding, the cache of decoded images, batches."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mixaug_jax.data.batches import (
    device_arrays,
    eval_batches,
    fetch,
    steps_per_epoch,
    train_batches,
  )
  from mixaug_jax.data.datasets import Datasets, load
  from mixaug_jax.data.sources import Item, Source
  from mixaug_jax.data.splits import Split

_HOMES = {
  "Datasets": "datasets",
  "Item": "sources",
  "Source": "sources",
  "Split": "splits",
  "check": "datasets",
  "device_arrays": "batches",
  "eval_batches": "batches",
  "fetch": "batches",
  "load": "datasets",
  "steps_per_epoch": "batches",
  "train_batches": "batches",
}
__all__ = [
  "Datasets",
  "Item",
  "Source",
  "Split",
  "device_arrays",
  "eval_batches",
  "fetch",
  "load",
  "steps_per_epoch",
  "train_batches",
]


def __getattr__(name: str) -> Any:
  """Imports a name when it is used.

  `python -m mixaug_jax.data` imports this package before it can handle Ctrl-C,
  and importing JAX takes a second.
  """
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
