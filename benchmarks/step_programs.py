"""What does a whole training step cost on an accelerator, by XLA's own count?

    pip install 'jax[tpu]' keras     # Or 'jax[cuda12]'; Keras may be missing.
    python -m benchmarks.step_programs --platform=tpu|cuda|cpu [--devices=8,64]
      [--systems=ours,linen] [--model=resnet50 --size=224 --share=128]

The steps are compiled for the chips of a TPU v5e slice, for H100s or for the
CPU; the first two need not be there. `ours` is the step of train.py with random
crop, random flip and CutMix, and `ours-plain` the same without them. The peers
have neither: a ResNet-50 of Linen's own layers with a step as in Flax's
ImageNet example, and `keras.applications.ResNet50` (v1) on the JAX backend. All
compute in bfloat16, but for ours on a CPU, and average their gradients over the
devices.

A row is about one device. Memory is that of arguments and temporaries. XLA's
estimate of cycles exists for a TPU only, and leaves out the transfers between
chips. Nothing is run.
"""

import math
import os
import re
import tempfile
import time
from typing import Any

from benchmarks import harness, peers, topologies, train_step

AXIS = "devices"  # As in mixaug_jax/training/parallel.py.
TITLES = {
  "ours": "mixaug_jax, crop, flip and CutMix",
  "ours-plain": "mixaug_jax, no augmentation, no mixing",
  "linen": "Linen, no augmentation, no mixing",
  "keras": "Keras on JAX, no augmentation, no mixing",
}
RESNET50_ONLY = {"linen", "keras"}
COLLECTIVE = re.compile(
  r"= (.*?) (?:all-gather|all-reduce|all-to-all|collective-permute"
  r"|reduce-scatter)(?:-start)?\("
)
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "u8": 1, "pred": 1}

Costs = dict[str, float]


def costs(compiled: Any) -> Costs:
  """Returns XLA's counts for one device.

  Returns:
    `flops`; `bytes` accessed; `cycles`, by the estimate of the TPU's compiler;
    `arguments` and `temporaries` in bytes; `collectives` and the bytes `sent`
    by them.
  """
  import jax
  from jaxlib import _jax

  # `compiled.cost_analysis()` needs a client of the GPU.
  (module,) = compiled.runtime_executable().hlo_modules()
  counts = compiled.cost_analysis() or _jax.hlo_module_cost_analysis(
    jax.devices("cpu")[0].client, module
  )
  memory, text = compiled.memory_analysis(), compiled.as_text()
  found = {
    "flops": counts["flops"],
    "bytes": counts["bytes accessed"],
    "arguments": memory.argument_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    **collectives(text),
  }
  cycles = [int(x) for x in CYCLES.findall(text)]
  return found | ({"cycles": sum(cycles)} if cycles else {})


def collectives(text: str) -> dict[str, int]:
  """Returns the number of collectives of a program and the bytes they send."""
  results = COLLECTIVE.findall(text)
  arrays = re.findall(r"(\w+)\[([\d,]*)\]", " ".join(results))
  size = lambda dims: math.prod(int(x) for x in dims.split(",") if x)
  sent = sum(BYTES[dtype] * size(dims) for dtype, dims in arrays)
  return {"collectives": len(results), "sent": sent}


def ours(overrides: dict[str, Any], num_classes: int):
  """Returns our step, its state and its further arguments, both abstract."""
  import jax
  import jax.numpy as jnp

  from mixaug_jax import models
  from mixaug_jax.training import parallel, state
  from mixaug_jax.training.step import make_train_step

  exp = harness.experiment_of("cutmix.py:folder", overrides, num_classes)
  recipe, size = exp.recipe, exp.config.data.image_size
  make = lambda variables: state.create(
    variables, recipe.optimizer, recipe.ema_decay is not None
  )
  variables = models.abstract_variables(recipe.model, size)
  step = make_train_step(recipe, parallel.devices())

  def run(state, images, classes, seed, values):
    return step(state, seed, values, {}, {"image": images, "label": classes})

  arguments = jnp.uint32(0), recipe.hyperparameters()
  return run, jax.eval_shape(make, variables), arguments


def compiled(system: str, job: train_step.Job) -> Costs:
  """Returns the costs of a system's step, and the `seconds` of compiling it.

  It is to be called in a process of its own.

  Args:
    system: one of `TITLES`.
    job: `platform`, `devices`, `share` of a batch, `model`, `size`, `folder`
      with photographs and `cache_dir`.
  """
  platform, count = job["platform"], job["devices"]
  topologies.prepare(platform, count)
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  from mixaug_jax import jax_setup
  from mixaug_jax.models import cpu

  jax_setup.prepare()
  if platform != "cpu":  # The default backend is the CPU, the target is not.
    cpu.for_platform = lambda *, cpu, default: default

  classes, batch = (
    train_step.CLASSES.get(job["model"], 1000),
    count * job["share"],
  )
  arguments, dtype = (), jnp.bfloat16
  if system.startswith("ours"):
    settings = train_step.settings({**job, "batch": batch}, "plain" in system)
    settings["model.dtype"] = "float32" if platform == "cpu" else "bfloat16"
    step, state, arguments = ours(settings, classes)
    dtype = jnp.uint8
  else:
    make = peers.linen_program if system == "linen" else peers.keras_program
    mean = lambda tree: jax.lax.pmean(tree, AXIS)
    step, state = make(job["size"], classes, mean)

  mesh = Mesh(np.array(topologies.devices(platform, count)), (AXIS,))
  everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
  side = job["size"]
  shapes = (
    state,
    jax.ShapeDtypeStruct((batch, side, side, 3), dtype),
    jax.ShapeDtypeStruct((batch,), jnp.int32),
    *arguments,
  )
  specs = (everywhere, split, split, *[everywhere] * len(arguments))
  place = lambda tree, spec: jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, spec)
    ),
    tree,
  )
  placed = map(place, shapes, specs)
  sharded = jax.shard_map(
    step, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False
  )
  lowered = jax.jit(sharded, donate_argnums=0).lower(*placed)
  begin = time.perf_counter()
  found = costs(lowered.compile())
  return found | {"seconds": time.perf_counter() - begin}


def main() -> None:
  flags = harness.flags(__doc__, folder=True)
  flags.add_argument("--platform", choices=topologies.PLATFORMS, required=True)
  flags.add_argument("--devices", default="8", help="one or more, as in 8,64")
  flags.add_argument(
    "--systems", type=harness.some_of(TITLES), default=",".join(TITLES)
  )
  flags.add_argument("--model", default="resnet50")
  flags.add_argument("--size", type=int, default=224, help="pixels a side")
  flags.add_argument("--share", type=int, default=128, help="images a device")
  arguments = flags.parse_args()
  print(harness.machine("jax", "jaxlib", "flax", "optax", "keras", "libtpu"))
  systems = harness.installed(arguments.systems, {"keras": "keras"})
  if arguments.model != "resnet50":
    systems = [x for x in systems if x not in RESNET50_ONLY]
  names = ("platform", "model", "size", "share")
  job = {name: getattr(arguments, name) for name in names}
  job["folder"] = str(harness.photographs(arguments.folder, 20))
  harness.header(
    *("", "devices", "compile, s", "arguments and temporaries, GB", "GFLOP"),
    *("GB accessed", "million cycles", "collectives, MB sent"),
  )
  for devices in map(int, arguments.devices.split(",")):
    for system in systems:
      with tempfile.TemporaryDirectory() as cache:
        found = harness.child(
          compiled, system, {**job, "devices": devices, "cache_dir": cache}
        )
      harness.row(
        TITLES[system],
        devices,
        f"{found['seconds']:.0f}",
        f"{(found['arguments'] + found['temporaries']) / 1e9:.2f}",
        f"{found['flops'] / 1e9:,.1f}",
        f"{found['bytes'] / 1e9:.2f}",
        harness.cell(found.get("cycles"), 1e6, ".1f"),
        f"{found['collectives']}, {found['sent'] / 1e6:.1f}",
      )


if __name__ == "__main__":
  main()
