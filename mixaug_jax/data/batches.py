"""Batches as a pure function of (seed, step): order, shares of processes."""

import collections
import concurrent.futures
import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from mixaug_jax.data import decoding
from mixaug_jax.data.splits import Split

HostBatch = dict[str, np.ndarray]
Place = Callable[[HostBatch], Any]

_PREFETCH = 2  # Batches that are ready ahead of time.
_ALIGNMENT = 64  # Bytes.
_BLOCK = 64  # Images that a thread copies at a time.


def steps_per_epoch(split: Split, batch_size: int) -> float:
  """Returns the steps in one pass over the data, not always a whole number.

  A batch may contain the end of one epoch and the start of the next.
  """
  return len(split) / batch_size


def train_batches(
  split: Split,
  batch_size: int,
  *,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  place: Place = lambda batch: batch,
) -> Generator[Any, None, None]:
  """Yields this process's share of every training batch, without end.

  The examples form one endless stream, which is shuffled again each epoch. Step
  s takes `batch_size` positions of it from `s * batch_size` on. So each epoch
  contains every example exactly once, nothing is padded or dropped, and a run
  resumes from the number of its step alone. A batch may contain the end of one
  epoch and the start of the next.

  Args:
    split: the examples to train on.
    batch_size: the global size; divisible by `process_count`.
    seed: the seed of the order.
    start_step: the number of finished steps.
    process_index: the index of this process.
    process_count: the number of processes that share each batch.
    place: puts a host batch on the devices; called ahead of time on a thread.

  Yields:
    `place({"image": uint8 [b, S, S, 3], "label": int32 [b]})`, or
    `place({"index": int32 [b]})` with the placement `device`. The caller closes
    the iterator.
  """
  order = _endless_order(len(split), seed)
  share = batch_size // process_count

  def make(step: int) -> Any:
    first = step * batch_size + process_index * share
    return place(_host_batch(split, order(first, share)))

  return _prefetched(make, itertools.count(start_step))


def _endless_order(count: int, seed: int) -> Callable[[int, int], np.ndarray]:
  """An endless stream of the numbers below `count`, shuffled each epoch.

  Returns:
    A function `(first, length)` that returns a section of the stream, int64.
  """

  @functools.lru_cache(maxsize=2)  # A batch may contain parts of two epochs.
  def shuffled(epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)

  def section(first: int, length: int) -> np.ndarray:
    parts, end = [], first + length
    while first < end:
      epoch, position = divmod(first, count)
      parts.append(shuffled(epoch)[position : position + end - first])
      first += len(parts[-1])
    return np.concatenate(parts)

  return section


def eval_batches(
  split: Split,
  batch_size: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
  place: Place = lambda batch: batch,
) -> Generator[Any, None, None]:
  """Yields this process's share of a split, once, in order, padded at the end.

  Args:
    split: the examples to evaluate on.
    batch_size: the global size; divisible by `process_count`.
    process_index: the index of this process.
    process_count: the number of processes that share each batch.
    place: puts a host batch on the devices.

  Yields:
    Batches as from `train_batches`, and in each `mask`, float32 `[b]`, 0 for
    padding, and `position`, int32 `[b]`, the position in the split. With the
    placement `device`, a batch has its `label` as well. Every process gets the
    same number of batches.
  """
  share = batch_size // process_count

  def make(first: int) -> Any:
    first += process_index * share
    positions = np.arange(first, first + share)
    mask = (positions < len(split)).astype(np.float32)
    positions = np.minimum(positions, len(split) - 1)
    batch = _host_batch(split, positions)
    if "label" not in batch:
      batch["label"] = split.labels[positions]
    return place(
      {**batch, "mask": mask, "position": positions.astype(np.int32)}
    )

  return _prefetched(make, range(0, len(split), batch_size))


def device_arrays(split: Split) -> dict[str, np.ndarray]:
  """Returns the arrays from which a step gathers its batch, if any.

  Returns:
    `image` uint8 `[R, S, S, 3]` and `label` int32 `[R]` with the placement
    `device`, else an empty dictionary. An image that the split repeats is in
    them once, as in `Split.distinct`.
  """
  store = split.store
  if split.placement != "device" or store is None:
    return {}
  examples, _ = split.distinct
  distinct = split.rows[examples]
  images = _aligned((len(distinct), *store.shape[1:]))

  def copy(first: int) -> None:
    rows = distinct[first : first + _BLOCK]
    out = images[first : first + _BLOCK]
    # The default mode would fill a buffer first and copy it to `out`.
    np.take(store, rows, axis=0, out=out, mode="clip")

  with decoding.threads() as pool:
    list(pool.map(copy, range(0, len(distinct), _BLOCK)))
  return {"image": images, "label": split.labels[examples]}


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
  """Returns uint8 memory that JAX on the CPU uses without a copy."""
  size = math.prod(shape)
  memory = np.empty(size + _ALIGNMENT, np.uint8)
  begin = -memory.ctypes.data % _ALIGNMENT
  return memory[begin : begin + size].reshape(shape)


def fetch(
  arrays: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Returns images and labels of a batch; a pure function inside the step.

  Args:
    arrays: the arrays of `device_arrays`, on the device.
    batch: one device's share of a batch.

  Returns:
    uint8 `[b, S, S, 3]` and int32 `[b]`.
  """
  if arrays:
    index = batch["index"]
    return arrays["image"][index], arrays["label"][index]
  return batch["image"], batch["label"]


def _host_batch(split: Split, positions: np.ndarray) -> HostBatch:
  if split.placement == "device":
    _, index = split.distinct
    return {"index": index[positions].astype(np.int32)}
  return {"image": split.images(positions), "label": split.labels[positions]}


def _prefetched(
  make: Callable[[int], Any], arguments: Iterable[int]
) -> Generator[Any, None, None]:
  """Yields `map(make, arguments)`, computed ahead on a separate thread."""
  with concurrent.futures.ThreadPoolExecutor(1, "batches") as pool:
    ahead: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
      for argument in arguments:
        ahead.append(pool.submit(make, argument))
        if len(ahead) > _PREFETCH:
          yield ahead.popleft().result()
      while ahead:
        yield ahead.popleft().result()
    finally:
      pool.shutdown(wait=True, cancel_futures=True)
