"""The learning-rate range test: the train step of a recipe at rising rates.

Smith (2015, arXiv:1506.01186) trains for a few steps while the learning rate
rises, here from step to step by the same factor, and watches the loss.
"""

import contextlib
import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict

from mixaug_jax import data, models, progress
from mixaug_jax.training import experiment, lr_curve, optim, parallel
from mixaug_jax.training.experiment import Experiment
from mixaug_jax.training.lr_curve import Curve
from mixaug_jax.training.step import make_train_step


def run(config: ConfigDict, low: float, high: float, steps: int) -> Curve:
  """Trains the network of a recipe at rising rates, and returns its losses.

  Model, weights, data, augmentation, mixing, optimizer and seed are those of
  the recipe. The rate has no warm-up, and mixing is not switched off. Nothing
  is written. The test ends early when the loss diverges, see `lr_curve`.

  Args:
    config: resolved and checked.
    low: the learning rate of the first step, above 0.
    high: the learning rate of the last step.
    steps: their number, 2 or more.

  Raises:
    UserError: a config that cannot run here.
  """
  exp = _experiment(config, low, high, steps)
  rates = low * (high / low) ** (np.arange(steps) / (steps - 1))
  state, loaded = exp.initial_state()
  if loaded:
    progress.write(loaded)
  step = parallel.train_step(make_train_step(exp.recipe, parallel.devices()))
  seed, hyperparameters, arrays = parallel.replicate(
    (
      np.uint32(config.seed),
      exp.recipe.hyperparameters(),
      data.device_arrays(exp.datasets.train),
    )
  )
  progress.write("compiling the train step")
  losses: list[float] = []
  with (
    contextlib.closing(exp.train_batches(0)) as batches,
    progress.Bar(steps, note="tested") as bar,
  ):
    for batch in batches:
      state, metrics = step(state, seed, hyperparameters, arrays, batch)
      losses.append(float(jax.device_get(metrics["loss"])))
      bar.update()
      if len(losses) == steps:
        break
      # A check reads all losses, so that a long test has a hundred of them.
      if not np.isfinite(losses[-1]) or (
        len(losses) % max(1, steps // 100) == 0
        and lr_curve.diverged(np.array(losses), lr_curve.width(steps))
      ):
        break
  return Curve(steps, rates[: len(losses)], np.array(losses))


def _experiment(
  config: ConfigDict, low: float, high: float, steps: int
) -> Experiment:
  """Builds the parts of a run, with a rate that rises and no test split."""
  config = copy.deepcopy(config)
  with config.unlocked():
    config.epochs, config.steps = None, steps
    config.data.test = False
    config.mix.off_after_epoch = None
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.head_warmup_epochs = 0.0
  exp = experiment.build(config)
  model = exp.recipe.model
  abstract = models.abstract_variables(model, config.data.image_size)
  factor = np.log(high / low) / (steps - 1)
  optimizer, schedule = optim.make_optimizer(
    experiment.optimizer_settings(config.optimizer),
    total_steps=steps,
    steps_per_epoch=exp.steps_per_epoch,
    params=abstract["params"],
    stages=model.stages,
    schedule=Partial(_rising, np.float32(low), np.float32(factor)),
  )
  recipe = dataclasses.replace(
    exp.recipe, optimizer=optimizer, schedule=schedule
  )
  return dataclasses.replace(exp, recipe=recipe)


def _rising(low, factor, step):
  return low * jnp.exp(factor * step)
