"""What does calling a step cost, by pmap and by jit of shard_map?

    python -m benchmarks.dispatch [--devices=1,4,8]

The state has the arrays of ResNet-50's train state, each shrunk to one number,
and the step adds one to each: what is timed is the way of so many arrays and
their shards into a compiled program and out of it. The ways take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmarks import input_pipeline

ROUNDS, STEPS = 7, 50
TITLES = {
  "jit": "`jit`, no devices to speak of",
  "ours": "`pmap(in_axes=None, out_axes=None)`, as train.py",
  "shard_map": "`jit(shard_map)`",
  "stacked": "`pmap` of a stacked state, as `flax.jax_utils.replicate`",
}


def work() -> dict[str, float]:
  """Milliseconds a step, and the number of arrays, on all devices there are."""
  import flax.jax_utils
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, PartitionSpec

  from mixaug_jax import config as config_lib
  from mixaug_jax.training import experiment, parallel, state

  config = config_lib.load(
    str(input_pipeline.ROOT / "configs" / "cutmix.py"),
    {
      "model.name": "resnet50",
      "batch_size": "64",
      "evaluate.batch_size": "64",
    },
  )
  recipe = experiment.build(config).recipe

  def create():
    images = jnp.zeros((1, 16, 16, 3))
    variables = recipe.model.init(jax.random.key(0), images, train=False)
    return state.create(variables, recipe.optimizer, False)

  abstract = jax.eval_shape(create)
  zeros = lambda: jax.tree.map(
    lambda x: np.zeros((1,) * x.ndim, x.dtype), abstract
  )

  def step(state, seed, arrays, batch):
    del seed, arrays
    one = batch["one"][0]
    return jax.tree.map(lambda x: x + one.astype(x.dtype), state), {"loss": one}

  mesh = Mesh(np.array(jax.devices()), (parallel.AXIS,))
  everywhere, split = PartitionSpec(), PartitionSpec(parallel.AXIS)
  sharded = jax.shard_map(
    lambda state, seed, arrays, batch: step(
      state, seed, arrays, {name: x[0] for name, x in batch.items()}
    ),
    mesh=mesh,
    in_specs=(everywhere, everywhere, everywhere, split),
    out_specs=everywhere,
    check_vma=False,
  )
  seed = parallel.replicate(np.uint32(0))
  batch = parallel.shard({"one": np.ones(jax.device_count(), np.int32)})
  stacked = jax.pmap(
    step,
    axis_name=parallel.AXIS,
    in_axes=(0, None, None, 0),
    donate_argnums=0,
  )
  ways: dict[str, tuple[Callable[..., Any], Any]] = {
    "ours": (parallel.train_step(step), parallel.replicate),
    "shard_map": (jax.jit(sharded, donate_argnums=0), parallel.replicate),
    "stacked": (stacked, flax.jax_utils.replicate),
  }
  if jax.device_count() == 1:
    flat = lambda state, seed, arrays, batch: step(
      state, seed, arrays, {"one": batch["one"][0]}
    )
    ways["jit"] = (jax.jit(flat, donate_argnums=0), jax.device_put)
  times = {name: [] for name in ways}
  states = {name: place(zeros()) for name, (_, place) in ways.items()}
  for _ in range(ROUNDS):
    for name, (run, _) in ways.items():
      now = states[name]
      for _ in range(3):
        now, measured = run(now, seed, {}, batch)
      jax.block_until_ready(now)
      begin = time.perf_counter()
      for _ in range(STEPS):
        now, measured = run(now, seed, {}, batch)
      jax.block_until_ready((now, measured))
      times[name].append(1e3 * (time.perf_counter() - begin) / STEPS)
      states[name] = now
  count = len(jax.tree.leaves(abstract))
  medians = {name: statistics.median(x) for name, x in times.items()}
  return {**medians, "arrays": count}


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--devices", default="1,4,8")
  flags.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
  arguments = flags.parse_args()
  if arguments.work:
    print(json.dumps(work()))
    return
  counts = arguments.devices.split(",")
  figures = {}
  for count in counts:
    option = f"--xla_force_host_platform_device_count={count}"
    done = subprocess.run(
      [sys.executable, "-m", "benchmarks.dispatch", "--work"],
      cwd=input_pipeline.ROOT,
      env={**os.environ, "XLA_FLAGS": option},
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    figures[count] = json.loads(done.stdout.splitlines()[-1])
  print(input_pipeline.machine())
  arrays = next(iter(figures.values()))["arrays"]
  print(
    f"\nms a step, {arrays} arrays, median of {ROUNDS} rounds\n\n| devices | "
    + " | ".join(counts)
    + " |\n|"
    + "---|" * (1 + len(counts))
  )
  for name, title in TITLES.items():
    cells = [
      f"{figures[n][name]:.2f}" if name in figures[n] else "" for n in counts
    ]
    print(f"| {title} | {' | '.join(cells)} |")


if __name__ == "__main__":
  main()
