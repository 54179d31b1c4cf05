"""What does calling a step cost, by pmap and by jit of shard_map?

    python -m benchmarks.dispatch [--devices=1,4,8]

The state has the arrays of ResNet-50's train state, each shrunk to one number,
and the step adds one to each. So the time is that of handing all arrays and
their shards to a compiled program and of taking them back. The ways alternate.
"""

import statistics
import time

from benchmarks import harness

PROCESSES, ROUNDS, WARM_UP, STEPS = 3, 7, 3, 50
TITLES = {
  "jit": "`jit`, no devices to speak of",
  "ours": "`pmap(in_axes=None, out_axes=None)`, as training/parallel.py",
  "shard_map": "`jit(shard_map)`",
  "stacked": "`pmap` of a stacked state, as `flax.jax_utils.replicate`",
}


def measure() -> dict[str, float]:
  """Returns milliseconds a step on all devices, and the number of arrays."""
  import flax.jax_utils
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, PartitionSpec

  from mixaug_jax.training import experiment, parallel, state

  overrides = {"model.name": "resnet50"}
  overrides |= {"batch_size": 64, "evaluate.batch_size": 64}
  recipe = experiment.build(harness.config("cutmix.py", overrides)).recipe

  def create():
    images = jnp.zeros((1, 16, 16, 3))
    variables = recipe.model.init(jax.random.key(0), images, train=False)
    return state.create(variables, recipe.optimizer, False)

  abstract = jax.eval_shape(create)
  zeros = lambda: jax.tree.map(
    lambda x: np.zeros((1,) * x.ndim, x.dtype), abstract
  )

  def step(state, seed, values, arrays, batch):
    del seed, values, arrays
    one = batch["one"][0]
    return jax.tree.map(lambda x: x + one.astype(x.dtype), state), {"loss": one}

  def unstacked(state, seed, values, arrays, batch):
    return step(state, seed, values, arrays, {"one": batch["one"][0]})

  everywhere, split = PartitionSpec(), PartitionSpec(parallel.AXIS)
  sharded = jax.shard_map(
    unstacked,
    mesh=Mesh(np.array(jax.devices()), (parallel.AXIS,)),
    in_specs=(*[everywhere] * 4, split),
    out_specs=everywhere,
    check_vma=False,
  )
  stacked = jax.pmap(
    step,
    axis_name=parallel.AXIS,
    in_axes=(0, None, None, None, 0),
    donate_argnums=0,
  )
  seed = parallel.replicate(np.uint32(0))
  values = parallel.replicate(recipe.hyperparameters())
  batch = parallel.shard({"one": np.ones(jax.device_count(), np.int32)})
  jit = lambda f: jax.jit(f, donate_argnums=0)
  ways = {
    "ours": (parallel.train_step(step), parallel.replicate),
    "shard_map": (jit(sharded), parallel.replicate),
    "stacked": (stacked, flax.jax_utils.replicate),
  }
  if jax.device_count() == 1:
    ways["jit"] = (jit(unstacked), jax.device_put)
  states = {name: place(zeros()) for name, (_, place) in ways.items()}

  def milliseconds(name: str) -> float:
    now, call = states[name], ways[name][0]
    for count in range(-WARM_UP, STEPS):
      if count == 0:
        jax.block_until_ready(now)
        begin = time.perf_counter()
      now, measured = call(now, seed, values, {}, batch)
    jax.block_until_ready((now, measured))
    states[name] = now
    return 1e3 * (time.perf_counter() - begin) / STEPS

  taken = harness.in_turns(ROUNDS, ways, milliseconds)
  medians = {name: statistics.median(times) for name, times in taken.items()}
  return {**medians, "arrays": len(jax.tree.leaves(abstract))}


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--devices", default="1,4,8")
  counts = flags.parse_args().devices.split(",")
  harness.use_cpu()
  simulated = "--xla_force_host_platform_device_count="
  taken = harness.in_turns(
    PROCESSES, counts, lambda n: harness.child(measure, XLA_FLAGS=simulated + n)
  )
  figures = [harness.medians(rounds) for rounds in taken.values()]
  print(harness.machine("jax", "flax"))
  arrays = f"{figures[0]['arrays']:.0f} arrays"
  print(
    f"\nms a step, {arrays}, the median over {PROCESSES} processes of the "
    f"median of {ROUNDS} rounds"
  )
  harness.header("devices", *counts)
  for name, title in TITLES.items():
    cells = [f"{x[name]:.2f}" if name in x else "" for x in figures]
    harness.row(title, *cells)


if __name__ == "__main__":
  main()
