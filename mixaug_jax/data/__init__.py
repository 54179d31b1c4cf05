"""Data: sources, decoding, the cache of decoded images, batches."""

from mixaug_jax.data.batches import (
  device_arrays,
  eval_batches,
  fetch,
  steps_per_epoch,
  train_batches,
)
from mixaug_jax.data.datasets import Datasets, Split, load
from mixaug_jax.data.sources import Item, Source

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
