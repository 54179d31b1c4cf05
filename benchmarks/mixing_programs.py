"""Which images travel between devices, and how much memory mixing takes.

    pip install 'jax[tpu]'     # Or 'jax[cuda12]'.
    python -m benchmarks.mixing_programs --topology=v5e:2x4|h100:8|cpu:8

CutMix of a global batch is compiled for devices that need not be there: once
inside shard_map, as in a train step, and once for an array that is sharded over
a mesh. A row shows the number of collective instructions that carry images, the
largest array of them, and the memory of a device for arguments, results and
temporaries. With the whole batch as the group, every image travels to every
device.
"""

import math
import re

from benchmarks import harness
from mixaug_jax.costs import hlo, topologies


def carried(program: str) -> list[str]:
  """Returns the largest array of each collective instruction on images."""
  pixels = lambda array: math.prod(int(x) for x in re.findall(r"\d+", array[1]))
  found = []
  for instruction in hlo.instructions(program):
    arrays = re.findall(r"(\w+(\[\d+(?:,\d+){3,}\]))", instruction.result)
    if instruction.collective and arrays:
      found.append(max(arrays, key=pixels)[0])
  return found


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--topology", type=topologies.parse, required=True)
  flags.add_argument("--share", type=int, default=128, help="images a device")
  flags.add_argument("--size", type=int, default=224)
  arguments = flags.parse_args()
  topology = topologies.prepare(arguments.topology)

  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  from mixaug_jax import augment

  count, size = topology.count, arguments.size
  batch = count * arguments.share
  devices = topologies.devices(topology)
  mesh = Mesh(np.array(devices).reshape(count), ("data",))
  over = PartitionSpec("data")
  shape = lambda x, spec: x.update(sharding=NamedSharding(mesh, spec))
  key = shape(jax.eval_shape(lambda: jax.random.key(0)), PartitionSpec())
  images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
  labels = jax.ShapeDtypeStruct((batch, 1000), jnp.float32)

  def of_share(group):
    def mix(key, images, labels):
      return augment.mix(
        key,
        images,
        labels,
        [augment.CutMix()],
        group_size=group,
        shard=augment.Shard.over("data"),
      )

    return jax.shard_map(
      mix,
      mesh=mesh,
      in_specs=(PartitionSpec(), over, over),
      out_specs=(over, over),
    )

  def of_batch(group):
    return lambda *args: augment.mix(
      *args, [augment.CutMix()], group_size=group
    )

  harness.header("group", "form", "collectives", "largest", "MB a device")
  for group in (None, batch):
    for form, make in (("shard_map", of_share), ("mesh", of_batch)):
      lowered = jax.jit(make(group)).lower(
        key, shape(images, over), shape(labels, over)
      )
      name = "whole batch" if group else augment.partner_group_size(batch)
      try:
        program = lowered.compile()
      except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
          raise
        harness.row(name, form, "", "", "does not fit")
        continue
      found = carried(program.as_text())
      memory = program.memory_analysis()
      total = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
      )
      largest = max(found, default="")
      harness.row(name, form, len(found), largest, f"{total / 1e6:.0f}")


if __name__ == "__main__":
  main()
