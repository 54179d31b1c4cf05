"""Does the memory of a long run grow?

    python -m benchmarks.memory [--steps=100000] [--keep_leak]

Trains on the digits with one linear layer, so that a step takes a millisecond,
and evaluates, logs and saves as often as a run of the README: 2,381 checkpoints
in 100,000 steps. Prints the anonymous resident memory of the process 20 times.
`--keep_leak` leaves out `training/tensorstore_leak.py`.
"""

import pathlib
import tempfile
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from benchmarks import harness
from mixaug_jax.models import linear_head, run_stages
from mixaug_jax.training.writers import ScalarWriter

ROWS = 20


class Linear(nn.Module):
  """A linear layer over the mean colours."""

  num_classes: int
  frozen: tuple[str, ...] = ()
  dtype: Any = jnp.float32
  stages = ("head",)

  @nn.compact
  def __call__(self, x, *, train, start="head", stop="head"):
    head = lambda x: linear_head(
      x, self.num_classes, init="zeros", dropout=0.0, train=train
    )
    return run_stages(self, lambda name: head, x, start, stop)


class Resident(ScalarWriter):
  """Prints the resident memory of this process every `every` steps."""

  every = 1

  def __init__(self, workdir: pathlib.Path, first_step: int):
    del workdir
    self._next = first_step

  def write_scalars(self, step: int, scalars: Any) -> None:
    del scalars
    if step >= self._next:
      memory = harness.memory("RssAnon")
      self._next += self.every
      harness.row(f"{step:,}", harness.cell(memory, 1e6, ".1f"))


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--steps", type=int, default=100_000)
  flags.add_argument("--keep_leak", action="store_true")
  arguments = flags.parse_args()
  harness.use_cpu()
  from mixaug_jax.training import loop, tensorstore_leak

  if arguments.keep_leak:
    tensorstore_leak.avoid = lambda: None
  print(harness.machine("jax", "orbax-checkpoint", "tensorstore"))
  harness.header("step", "anonymous memory, MB")
  module = "benchmarks.memory"
  Resident.every = arguments.steps // ROWS
  overrides = {
    "model.name": f"{module}:Linear",
    "log.writers": f"tensorboard,{module}:Resident",
    "steps": arguments.steps,
    "optimizer.learning_rate": 0.01,
  }
  with tempfile.TemporaryDirectory() as folder:
    config = harness.config("cutmix.py", overrides)
    loop.train(config, pathlib.Path(folder, "run"))


if __name__ == "__main__":
  # The config names this module, and `-m` would import it a second time.
  from benchmarks import memory

  memory.main()
