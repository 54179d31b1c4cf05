"""What do the policies and JPEG cost on an accelerator, by XLA's own count?

    pip install 'jax[tpu]'     # Or 'jax[cuda12]'.
    python -m benchmarks.policy_programs --topology=v5e:2x2|h100|cpu

The programs are compiled for one device of a topology, which need not be there.
`branches` vmaps a switch over the operations, so that every
example computes all of them. `policy` is what the package runs on that
platform. Cycles are the TPU compiler's estimate, which leaves out gathers and
scatters. So their indices are counted. XLA counts a loop, as the CPU has it,
once.
"""

import functools
import math
import re

from benchmarks import harness
from mixaug_jax.costs import topologies

INDEXING = re.compile(r"= \w+\[([\d,]*)\]\S* (gather|scatter)\(([^)]*)\), (.*)")
ARRAY = re.compile(r"%([\w.-]+) = \w+\[([\d,]*)\]")


def policies(size: int):
  """Returns both programs of each policy, `(keys, images) -> images`."""
  import jax

  from mixaug_jax.augment import jpeg, policies, policy_operations

  def with_branches(draw, keys, images):
    operations, values = jax.vmap(draw)(keys)
    for layer in range(operations.shape[1]):
      images = jax.vmap(policy_operations.apply_operation)(
        images, operations[:, layer], values[:, layer]
      )
    return images

  rand = lambda key: policies.draw_rand_augment(key, size, size, 2, 9)
  return {
    "trivial_augment": {
      "branches": functools.partial(
        with_branches, policies.draw_trivial_augment
      ),
      "policy": policies.trivial_augment_examples,
    },
    "rand_augment, 2 layers": {
      "branches": functools.partial(with_branches, rand),
      "policy": policies.rand_augment_examples,
    },
    "random_jpeg_quality": {
      "operation": jax.vmap(
        lambda key, image: jpeg.random_jpeg_quality(key, image, 50, 100)
      ),
    },
  }


def indices(text: str) -> int:
  """Returns the number of indices of all gathers and scatters of a program."""
  product = lambda dims: math.prod(int(x) for x in dims.split(",") if x)
  shapes = dict(ARRAY.findall(text))
  total = 0
  for result, kind, operands, attributes in INDEXING.findall(text):
    name = "offset_dims" if kind == "gather" else "update_window_dims"
    window = re.search(name + r"={([\d,]*)}", attributes)[1].split(",")
    if kind == "scatter":
      result = shapes[operands.split(", ")[-1].split("%")[-1]]
    dims = result.split(",")
    outer = [x for n, x in enumerate(dims) if str(n) not in window]
    total += product(",".join(outer))
  return total


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--topology", type=topologies.parse, required=True)
  flags.add_argument("--count", type=int, default=128)
  flags.add_argument("--size", type=int, default=224)
  arguments = flags.parse_args()
  topology = topologies.prepare(arguments.topology)

  import jax
  import jax.numpy as jnp
  from jax.sharding import SingleDeviceSharding

  from mixaug_jax.costs import figures
  from mixaug_jax.costs import program as program_lib
  from mixaug_jax.models import cpu

  sharding = SingleDeviceSharding(topologies.devices(topology)[0])
  count, size = arguments.count, arguments.size
  shapes = (
    jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count)),
    jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32),
  )
  shapes = [x.update(sharding=sharding) for x in shapes]
  titles = ("GFLOP", "GB accessed", "million cycles", "million indices")
  harness.header("policy", "program", *titles)
  for name, programs in policies(size).items():
    for form, program in programs.items():
      with cpu.target(topology.chip.platform):
        lowered = jax.jit(program).lower(*shapes)
      compiled = lowered.compile()
      cost = figures.read(
        program_lib.Compiled(lowered, compiled, 0), topology, count, (), ""
      )
      harness.row(
        name,
        form,
        f"{cost.flops / 1e9:.2f}",
        f"{cost.bytes_accessed / 1e9:.2f}",
        harness.cell(cost.cycles, 1e6, ".1f"),
        f"{indices(compiled.as_text()) / 1e6:.1f}",
      )


if __name__ == "__main__":
  main()
