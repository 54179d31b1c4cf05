"""Several devices; the only file that names pmap, meshes and axes.

`in_axes=None` and `out_axes=None` replicate the state without a leading axis.
This is correct only for values that are equal on all devices, such as the
results of `Devices.mean`, `total` and `gather`. tests/test_parallel.py compares
the copies.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixaug_jax import augment
from mixaug_jax.errors import UserError
from mixaug_jax.training.step import Devices

AXIS = "devices"
_TEXT_BYTES = 1000  # The longest text of `from_first`.


def devices() -> Devices:
  """Returns the devices of all processes, for a step inside pmap."""
  return Devices(
    mean=functools.partial(jax.lax.pmean, axis_name=AXIS),
    total=functools.partial(jax.lax.psum, axis_name=AXIS),
    gather=lambda tree: jax.tree.map(
      lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree
    ),
    shard=functools.partial(augment.Shard.over, AXIS),
  )


def train_step(
  step: Callable[..., Any], on: Sequence[Any] | None = None
) -> Callable[..., Any]:
  """Returns a train step that runs on every device and reuses the state.

  Args:
    step: as `make_train_step` returns it.
    on: other devices, which need not be there if the step is only compiled.
  """
  return jax.pmap(
    step,
    axis_name=AXIS,
    in_axes=(None, None, None, None, 0),
    out_axes=None,
    donate_argnums=0,
    devices=on,
  )


def eval_step(step: Callable[..., Any]) -> Callable[..., Any]:
  """Returns an evaluation step that runs on every device."""
  return jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0), out_axes=None)


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """Puts the share of a process of a batch on its devices, without waiting.

  Args:
    batch: arrays `[b, ...]`; the number of local devices divides b.

  Returns:
    Arrays `[local devices, b / local devices, ...]`.
  """
  local = jax.local_devices()
  sharding = NamedSharding(Mesh(np.array(local), (AXIS,)), PartitionSpec(AXIS))
  return {
    name: jax.device_put(
      x.reshape((len(local), len(x) // len(local), *x.shape[1:])), sharding
    )
    for name, x in batch.items()
  }


def spread(images: np.ndarray) -> jax.Array:
  """Puts `[B, ...]` on the local devices in equal shares.

  Returns:
    `[B', ...]`, where B' is B rounded up to a multiple of the devices; images
    are repeated at the end.
  """
  local = jax.local_devices()
  size = _multiple(len(images), len(local))
  if size > len(images):
    images = np.resize(images, (size, *images.shape[1:]))
  mesh = Mesh(np.array(local), (AXIS,))
  return jax.device_put(images, NamedSharding(mesh, PartitionSpec(AXIS)))


def replicate(tree: Any) -> Any:
  """Puts a copy of every array on each local device."""
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def check_batch_size(
  key: str, size: int, parts: int = 1, devices: int | None = None
) -> None:
  """Raises UserError unless the parts of a batch are equal on every device.

  Args:
    key: the config key of the batch size.
    size: the batch size.
    parts: the parts of a device's batch.
    devices: the number of devices; None for those of all processes.
  """
  count = devices or jax.device_count()
  if size % (count * parts):
    above = _multiple(size, count * parts)
    below = above - count * parts
    near = f"{below} or {above}" if below else above
    of = f"{count} devices" + (f" in {parts} parts each" * (parts > 1))
    raise UserError(
      f"config.{key} {size} does not divide over {of}; try {near}"
    )


def eval_batch_size(size: int) -> int:
  """Returns `size`, rounded up to a multiple of the devices of all processes.

  An evaluation is exact with batches of any size.
  """
  return _multiple(size, jax.device_count())


def _multiple(size: int, of: int) -> int:
  """Rounds up to a multiple."""
  return -(-size // of) * of


def clean_batch(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """Turns a placed training batch into one for evaluation, without padding."""
  shape = next(iter(batch.values())).shape[:2]
  host = np.prod(shape)
  extra = {
    "mask": np.ones(host, np.float32),
    "position": np.arange(host, dtype=np.int32),
  }
  return {**batch, **shard(extra)}


def from_first(function: Callable[[], str]) -> str:
  """Calls a function on process 0 and returns its text in every process.

  All processes must know what one finds out about the run directory. Otherwise
  some go on, and wait forever for the one that does not.

  Args:
    function: returns the text, of which the first 1,000 bytes are passed on.
  """
  if jax.process_count() == 1:
    return function()
  from jax.experimental import multihost_utils

  text = function() if jax.process_index() == 0 else ""
  row = np.zeros(_TEXT_BYTES, np.uint8)
  content = np.frombuffer(text.encode()[:_TEXT_BYTES], np.uint8)
  row[: len(content)] = content
  received = np.asarray(multihost_utils.broadcast_one_to_all(row))
  return received.tobytes().rstrip(b"\0").decode(errors="replace")


def connect() -> None:
  """Connects the devices of all processes, which have just found each other.

  Gloo, which connects CPUs, waits 30 s for another process. Later, one process
  may compile for that much longer than another.
  """
  from_first(str)
  run = jax.pmap(lambda x: jax.lax.psum(x, AXIS), axis_name=AXIS)
  jax.block_until_ready(run(np.ones(jax.local_device_count())))


def to_global(tree: Any) -> Any:
  """Turns arrays of one process into arrays of all processes.

  pmap takes and returns arrays on the devices of one process. Orbax saves
  arrays on the devices of all. The arrays are replicated, and no data is
  copied.
  """
  return _replicas_on(tree, jax.devices())


def to_local(tree: Any) -> Any:
  """Reverses `to_global`."""
  return _replicas_on(tree, jax.local_devices())


def _replicas_on(tree: Any, on: Sequence[Any]) -> Any:
  if jax.process_count() == 1:
    return tree
  sharding = NamedSharding(Mesh(np.array(on), (AXIS,)), PartitionSpec())
  return jax.tree.map(
    lambda x: jax.make_array_from_single_device_arrays(
      x.shape, sharding, [shard.data for shard in x.addressable_shards]
    ),
    tree,
  )
