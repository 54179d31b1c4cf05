"""The only file that knows of pmap, meshes and axis names.

The state is replicated by `in_axes=None` and comes back by `out_axes=None`:
one copy in the program's eyes, no leading axis to carry around. That is sound
only for values that are equal on all devices, which `Devices.mean`, `total`
and `gather` make them; tests/test_parallel.py compares them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixaug_jax.errors import UserError
from mixaug_jax.training.step import Devices

AXIS = "devices"
_TEXT_BYTES = 1000  # Of what `from_first` tells.


def devices() -> Devices:
  """The devices of all processes, as a step inside pmap sees them."""
  return Devices(
    mean=functools.partial(jax.lax.pmean, axis_name=AXIS),
    total=functools.partial(jax.lax.psum, axis_name=AXIS),
    gather=lambda tree: jax.tree.map(
      lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree
    ),
    count=jax.device_count(),
    index=lambda: jax.lax.axis_index(AXIS),
  )


def train_step(step: Callable[..., Any]) -> Callable[..., Any]:
  """Runs a train step on every device; the old state's memory is reused."""
  return jax.pmap(
    step,
    axis_name=AXIS,
    in_axes=(None, None, None, 0),
    out_axes=None,
    donate_argnums=0,
  )


def eval_step(step: Callable[..., Any]) -> Callable[..., Any]:
  """Runs an evaluation step on every device."""
  return jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0), out_axes=None)


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """Puts a process's share of a batch on its devices, without waiting.

  Args:
    batch: arrays `[b, ...]`, b divisible by the number of local devices.

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
  """Puts `[B, ...]` on the local devices, split where B divides over them."""
  local = jax.local_devices()
  mesh = Mesh(np.array(local), (AXIS,))
  axis = PartitionSpec(AXIS if len(images) % len(local) == 0 else None)
  return jax.device_put(images, NamedSharding(mesh, axis))


def replicate(tree: Any) -> Any:
  """Puts a copy of every array on each local device."""
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def check_batch_size(key: str, size: int, parts: int = 1) -> None:
  """Raises UserError unless every device gets an equal, whole share."""
  count = jax.device_count()
  if size % (count * parts):
    step = count * parts
    near = max(step, round(size / step) * step)
    of = f"{count} devices" + (f" in {parts} parts each" * (parts > 1))
    raise UserError(
      f"config.{key} {size} does not divide over {of}; try {near}"
    )


def clean_batch(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """A placed training batch as one of evaluation: nothing of it is padding."""
  shape = next(iter(batch.values())).shape[:2]
  host = np.prod(shape)
  extra = {
    "mask": np.ones(host, np.float32),
    "position": np.arange(host, dtype=np.int32),
  }
  return {**batch, **shard(extra)}


def from_first(say: Callable[[], str]) -> str:
  """What `say` returns on process 0, told to all; the others do not call it.

  What one process finds out about the run directory has to be known to all,
  or some go on and wait for ever for the one that does not.
  """
  if jax.process_count() == 1:
    return say()
  from jax.experimental import multihost_utils

  text = say() if jax.process_index() == 0 else ""
  row = np.zeros(_TEXT_BYTES, np.uint8)
  content = np.frombuffer(text.encode()[:_TEXT_BYTES], np.uint8)
  row[: len(content)] = content
  told = np.asarray(multihost_utils.broadcast_one_to_all(row))
  return told.tobytes().rstrip(b"\0").decode(errors="replace")


def to_global(tree: Any) -> Any:
  """Replicated arrays as one array over all processes, for checkpoints.

  What goes into and comes out of pmap belongs to a process; Orbax saves
  what belongs to all. No data is copied.
  """
  return _replicas_on(tree, jax.devices())


def to_local(tree: Any) -> Any:
  """The way back from `to_global`."""
  return _replicas_on(tree, jax.local_devices())


def _replicas_on(tree: Any, on: list[jax.Device]) -> Any:
  if jax.process_count() == 1:
    return tree
  sharding = NamedSharding(Mesh(np.array(on), (AXIS,)), PartitionSpec())
  return jax.tree.map(
    lambda x: jax.make_array_from_single_device_arrays(
      x.shape, sharding, [shard.data for shard in x.addressable_shards]
    ),
    tree,
  )
