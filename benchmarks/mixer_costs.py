"""What a train step costs with each mixer, over the same step with CutMix.

    JAX_PLATFORMS=cpu python -m benchmarks.mixer_costs

The step is lowered, not compiled or run. XLA counts the operations of the
program that it is given, before it optimises. The figures are exact and do not
depend on the machine.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from mixaug_jax import augment
from mixaug_jax import config as config_lib
from mixaug_jax.training import experiment, step


def experiment_of(name: str, model: str, size: int, batch: int):
  """Returns an experiment of the recipe basic with a mixer."""
  overrides = {
    "data.placement": "host",
    "mix.name": name,
    "mix.per_example": "false",
    "mix.probability": "1",
    "model.name": model,
    "data.image_size": str(size),
    "batch_size": str(batch),
  }
  return experiment.build(config_lib.load("basic", overrides))


def lowered(exp: experiment.Experiment, state, size: int, batch: int):
  """Returns the lowered train step of one device."""
  examples = {
    "image": jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8),
    "label": jax.ShapeDtypeStruct((batch,), jnp.int32),
  }
  run = jax.jit(step.make_train_step(exp.recipe, step.Devices()))
  values = exp.recipe.hyperparameters()
  return run.lower(state, np.uint32(0), values, {}, examples)


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--model", default="resnet18")
  flags.add_argument("--size", type=int, default=224)
  flags.add_argument("--batch", type=int, default=32)
  arguments = flags.parse_args()
  harness.header("mixer", "GFLOP", "over CutMix")
  base = state = None
  for name in ("cutmix", "none", *augment.MIXERS):
    exp = experiment_of(name, arguments.model, arguments.size, arguments.batch)
    state = state or exp.initial_state()[0]
    program = lowered(exp, state, arguments.size, arguments.batch)
    flop = program.cost_analysis()["flops"]
    base = base or flop
    harness.row(name, f"{flop / 1e9:.1f}", f"{flop / base:.4f}")


if __name__ == "__main__":
  main()
