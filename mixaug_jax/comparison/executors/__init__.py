"""Where the cells of a comparison are trained."""

from mixaug_jax.comparison.executors.executor import Executor
from mixaug_jax.comparison.executors.local import Local
from mixaug_jax.comparison.executors.ray import Ray
from mixaug_jax.comparison.executors.slurm import Slurm

EXECUTORS: dict[str, type[Executor]] = {
  "local": Local,
  "slurm": Slurm,
  "ray": Ray,
}
