"""What does a whole training step cost on an accelerator, by XLA's own count?

    pip install 'jax[tpu]' keras     # Or 'jax[cuda12]'; Keras may be missing.
    python -m benchmarks.step_programs --topology=v5e:2x4,v5e:8x8
      [--systems=ours,linen] [--model=resnet50 --size=224 --share=128]

The steps are compiled for devices that need not be there, by the names of
`mixaug_jax.fit`. `ours` is the train step with random crop, random flip
and CutMix, and `ours-plain` the same without them. The peers have neither: a
ResNet-50 of Linen's own layers with a step as in Flax's ImageNet example, and
`keras.applications.ResNet50` (v1) on the JAX backend. All compute in bfloat16,
but for ours on a CPU, and average their gradients over the devices.

A row is about one device. Memory is that of arguments and temporaries. XLA's
estimate of cycles exists for a TPU only, and leaves out the transfers between
chips. Nothing is run.
"""

import dataclasses
import os
import time
from typing import Any

from benchmarks import harness, peers, train_step
from mixaug_jax.costs import topologies

AXIS = "devices"  # Of the peers.
TITLES = {
  "ours": "mixaug_jax, crop, flip and CutMix",
  "ours-plain": "mixaug_jax, no augmentation, no mixing",
  "linen": "Linen, no augmentation, no mixing",
  "keras": "Keras on JAX, no augmentation, no mixing",
}
RESNET50_ONLY = {"linen", "keras"}


def figures(system: str, job: train_step.Job) -> dict[str, Any]:
  """Compiles a system's step in this process, which has not used JAX yet.

  Args:
    system: one of `TITLES`.
    job: `topology`, `share` of a batch, `model` and `size`.

  Returns:
    The fields of `costs.figures.Figures`.
  """
  topology = topologies.prepare(topologies.parse(job["topology"]))
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

  from mixaug_jax import jax_setup

  jax_setup.prepare()

  from mixaug_jax.costs import figures, program

  classes = train_step.CLASSES.get(job["model"], 1000)
  batch = topology.count * job["share"]
  if system.startswith("ours"):
    # The data are not opened.
    job = {**job, "batch": batch, "folder": "absent", "cache_dir": "absent"}
    settings = train_step.settings(job, plain="plain" in system)
    settings["data.placement"] = "host"
    cpu = topology.chip.platform == "cpu"
    settings["model.dtype"] = "float32" if cpu else "bfloat16"
    config = harness.config("cutmix.py:folder", settings)
    built = program.build(config, topology, program.DataSize(classes))
    compiled = program.compile_step(built, topology)
    if isinstance(compiled, str):
      raise RuntimeError(compiled)
  else:
    compiled = peer(system, topology, batch, job["size"], classes)
  return dataclasses.asdict(
    figures.read(compiled, topology, batch, (), "bfloat16")
  )


def peer(
  system: str,
  topology: topologies.Topology,
  batch: int,
  size: int,
  num_classes: int,
):
  """Returns a peer's compiled step, as `costs.program.compile_step` does."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  from mixaug_jax.costs import program

  make = peers.linen_program if system == "linen" else peers.keras_program
  mean = lambda tree: jax.lax.pmean(tree, AXIS)
  step, state = make(size, num_classes, mean)
  mesh = Mesh(np.array(topologies.devices(topology)), (AXIS,))
  everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
  specs = (everywhere, split, split)
  shapes = (
    state,
    jax.ShapeDtypeStruct((batch, size, size, 3), jnp.bfloat16),
    jax.ShapeDtypeStruct((batch,), jnp.int32),
  )
  place = lambda tree, spec: jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, spec)
    ),
    tree,
  )
  sharded = jax.shard_map(
    step, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False
  )
  lowered = jax.jit(sharded, donate_argnums=0).lower(*map(place, shapes, specs))
  begin = time.perf_counter()
  compiled = lowered.compile()
  return program.Compiled(lowered, compiled, time.perf_counter() - begin)


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--topology", required=True, help="one or more")
  flags.add_argument(
    "--systems", type=harness.some_of(TITLES), default=",".join(TITLES)
  )
  flags.add_argument("--model", default="resnet50")
  flags.add_argument("--size", type=int, default=224, help="pixels a side")
  flags.add_argument("--share", type=int, default=128, help="images a device")
  arguments = flags.parse_args()
  packages = ("jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "flax", "keras")
  print(harness.machine(*packages))
  systems = harness.installed(arguments.systems, {"keras": "keras"})
  if arguments.model != "resnet50":
    systems = [x for x in systems if x not in RESNET50_ONLY]
  job = {name: getattr(arguments, name) for name in ("model", "size", "share")}
  harness.header(
    *("", "topology", "compile, s", "arguments and temporaries, GB", "GFLOP"),
    *("GB accessed", "million cycles", "collectives, MB received"),
  )
  for topology in arguments.topology.split(","):
    for system in systems:
      found = harness.child(figures, system, {**job, "topology": topology})
      sent = found["collectives"]
      harness.row(
        TITLES[system],
        topology,
        f"{found['compile_seconds']:.0f}",
        f"{(found['arguments'] + found['temporaries']) / 1e9:.2f}",
        f"{found['flops'] / 1e9:,.1f}",
        f"{found['bytes_accessed'] / 1e9:.2f}",
        harness.cell(found["cycles"], 1e6, ".1f"),
        f"{sum(x['count'] for x in sent)}, "
        f"{sum(x['bytes'] for x in sent) / 1e6:.1f}",
      )


if __name__ == "__main__":
  main()
