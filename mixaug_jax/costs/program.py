"""The train step of a config, compiled for devices that need not be there."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import models
from mixaug_jax.costs import topologies
from mixaug_jax.costs.topologies import Topology
from mixaug_jax.data import datasets, decode, label_sets, splits
from mixaug_jax.errors import UserError
from mixaug_jax.models import cpu
from mixaug_jax.training import experiment, parallel, state
from mixaug_jax.training.step import make_train_step

# Where the data are not at hand.
_CLASSES, _IMAGES_PER_CLASS = 1000, 1000
_WARM_UP, _STEPS = 2, 10


@dataclasses.dataclass(frozen=True)
class DataSize:
  """What a train step depends on of its data.

  Attributes:
    classes: the number of classes.
    images: the number of training images; None if it is not known.
    assumed: whether the classes are a guess.
  """

  classes: int
  images: int | None = None
  assumed: bool = False


def data_size(config: ConfigDict, classes: int | None = None) -> DataSize:
  """Counts the data of a config without preparing or decoding them.

  Args:
    config: resolved and checked.
    classes: the number of classes, so that the data are not opened; or None.

  Raises:
    UserError: the data of the config cannot be opened.
  """
  if classes is not None:
    return DataSize(classes)
  if (found := datasets.sizes(config.data)) is None:
    return DataSize(_CLASSES, assumed=True)
  return DataSize(*found)


@dataclasses.dataclass(frozen=True)
class Program:
  """A train step and the shapes of its arguments.

  Attributes:
    step: as `parallel.train_step` returns it.
    arguments: state, seed, hyperparameters, stored data and batch, as
      `jax.ShapeDtypeStruct`.
    stages: the names of the stages of the model.
    dtype: that of the computation.
  """

  step: Any
  arguments: tuple[Any, ...]
  stages: Sequence[str]
  dtype: str


def build(config: ConfigDict, topology: Topology, data: DataSize) -> Program:
  """Makes the train step that a run of `config` executes.

  Args:
    config: resolved and checked.
    topology: the devices; `topologies.prepare` returned it.
    data: the size of the data.

  Raises:
    UserError: a value that does not fit the devices or the model, or devices
      that do not exist.
  """
  images = data.images or data.classes * _IMAGES_PER_CLASS
  count, batch_size = topology.count, config.batch_size
  with cpu.target(topology.chip.platform):
    recipe = experiment.recipe_without_data(
      config, data.classes, images, devices=count
    )
    variables = models.abstract_variables(recipe.model, config.data.image_size)
    train_state = jax.eval_shape(
      lambda v: state.create(v, recipe.optimizer, recipe.ema_decay is not None),
      variables,
    )
  share = (count, batch_size // count)
  stored = (*[decode.settings(config.data).size] * 2, 3)
  placement = splits.settled_placement(
    config.data.placement,
    images * int(np.prod(stored)),
    topology.chip.memory if data.images and topology.chip.memory else 0,
  )
  sets = data.classes if label_sets.key(config.data) else None
  array = jax.ShapeDtypeStruct
  if placement == "device":
    arrays = _examples((images,), stored, sets)
    batch = {"index": array(share, np.int32)}
  else:
    arrays, batch = {}, _examples(share, stored, sets)
  return Program(
    step=parallel.train_step(
      make_train_step(recipe, parallel.devices()), topologies.devices(topology)
    ),
    arguments=(
      train_state,
      array((), np.uint32),
      [array(x.shape, x.dtype) for x in recipe.hyperparameters()],
      arrays,
      batch,
    ),
    stages=recipe.model.stages,
    dtype=str(np.dtype(recipe.model.dtype)),
  )


def _examples(
  shape: tuple[int, ...], stored: tuple[int, ...], sets: int | None
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns images and labels; `sets`: the number of classes of label sets."""
  label = jax.ShapeDtypeStruct(shape, np.int32)
  if sets is not None:
    label = jax.ShapeDtypeStruct((*shape, sets), np.uint8)
  return {
    "image": jax.ShapeDtypeStruct((*shape, *stored), np.uint8),
    "label": label,
  }


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A compiled train step.

  Attributes:
    lowered: the program before the compiler's work.
    compiled: the program of one device.
    seconds: the time to compile it.
  """

  lowered: jax.stages.Lowered
  compiled: jax.stages.Compiled
  seconds: float


def compile_step(program: Program, topology: Topology) -> Compiled | str:
  """Compiles a train step.

  Returns:
    The compiled step, or the compiler's sentence where the step does not fit
    the memory.
  """
  with cpu.target(topology.chip.platform):
    lowered = program.step.lower(*program.arguments)
  begin = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return str(error).partition("RESOURCE_EXHAUSTED: ")[2].partition("\n")[0]
  return Compiled(lowered, compiled, time.perf_counter() - begin)


def measure(program: Program, topology: Topology) -> float:
  """Runs a step on random numbers, on devices that this machine has.

  Returns:
    The median of the seconds of 10 steps.

  Raises:
    UserError: the topology is not here.
  """
  if not topology.present:
    raise UserError(f"this machine has no {topology.name}")
  rng = np.random.default_rng(0)

  def random(x: jax.ShapeDtypeStruct) -> np.ndarray:
    if np.issubdtype(x.dtype, np.floating):
      return rng.uniform(0, 0.1, x.shape).astype(x.dtype)
    # Class ids and indices of images stay in their range.
    return rng.integers(0, 2, x.shape).astype(x.dtype)

  values = jax.tree.map(random, program.arguments)
  train_state, *constant, batch = values
  taken = []
  with cpu.target(topology.chip.platform):
    for _ in range(_WARM_UP + _STEPS):
      begin = time.perf_counter()
      train_state, _ = jax.block_until_ready(
        program.step(train_state, *constant, batch)
      )
      taken.append(time.perf_counter() - begin)
  return float(np.median(taken[_WARM_UP:]))
