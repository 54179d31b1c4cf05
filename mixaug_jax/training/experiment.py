"""The parts of a run, built from its config: data, model, recipe, state."""

import contextlib
import dataclasses
import math
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import augment, data, models
from mixaug_jax.errors import UserError
from mixaug_jax.models import cpu
from mixaug_jax.training import losses, optim, parallel, pretrained, state
from mixaug_jax.training.step import Batch, Recipe
from mixaug_jax.weights import sources as weight_sources

_MAX_STEPS = 2**31 - 1  # The train state counts steps in int32.


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The parts of a run, built from its config; nothing is compiled yet.

  Attributes:
    config: the resolved config.
    datasets: the splits train, validation and test.
    recipe: the parts of the train step.
    steps: the number of steps of the whole run.
    steps_per_epoch: steps per pass over the training split; not always a whole
      number.
    weights: the source of the pretrained weights, or None.
  """

  config: ConfigDict
  datasets: data.Datasets
  recipe: Recipe
  steps: int
  steps_per_epoch: float
  weights: weight_sources.WeightSource | pretrained.RunWeights | None

  def log_at(self, step: int) -> bool:
    """Returns whether a line of the log falls on this step."""
    return step > 0 and step % self.config.log.every_steps == 0

  def evaluate_at(self, step: int) -> bool:
    """Returns whether an evaluation on validation falls on this step."""
    return self.due(step, self.config.evaluate.every_epochs)

  def save_at(self, step: int) -> bool:
    """Returns whether a checkpoint falls on this step."""
    checkpoint = self.config.checkpoint
    if every := checkpoint.every_steps:
      return step > 0 and (step % every == 0 or step == self.steps)
    every_epochs = checkpoint.every_epochs or self.config.evaluate.every_epochs
    return self.due(step, every_epochs)

  def due(self, step: int, every_epochs: float) -> bool:
    """Returns whether a period or the run ends with this step."""
    period = every_epochs * self.steps_per_epoch
    # The step that ends an epoch may be a rounding error short of its end.
    periods = lambda step: (step + 1e-6) // period
    return step > 0 and (
      step == self.steps or period <= 1 or periods(step) > periods(step - 1)
    )

  def train_batches(self, first: int) -> Generator[Batch, None, None]:
    """Returns the endless stream of training batches after `first` steps."""
    return data.train_batches(
      self.datasets.train,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      start_step=first,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      place=parallel.shard,
    )

  def init_variables(self) -> dict[str, Any]:
    """Returns random variables, which depend only on the seed."""
    size = self.config.data.image_size
    images = jnp.zeros((1, size, size, 3), jnp.float32)
    init = jax.jit(
      lambda key, x: self.recipe.model.init(key, x, train=False),
      compiler_options=cpu.for_platform(
        cpu=cpu.INIT_COMPILER_OPTIONS, default=None
      ),
    )
    return init(jax.random.key(self.config.seed), images)

  def initial_state(
    self, pretrained_weights: bool = True
  ) -> tuple[state.TrainState, str | None]:
    """Returns the state before the first step, and what was loaded into it.

    Args:
      pretrained_weights: whether to load the weights that the config names. A
        run that resumes from a checkpoint does not need them.

    Returns:
      The state, replicated over the local devices, and a sentence about the
      weights or None.

    Raises:
      UserError: the weights cannot be read or do not fit the model.
    """
    variables = self.init_variables()
    report = None
    if self.weights is not None and pretrained_weights:
      variables, loaded = self.weights.load(variables)
      report = str(loaded)
      if loaded.missing and self.config.model.freeze_batch_norm:
        raise UserError(
          "config.model.freeze_batch_norm=true would keep the statistics of "
          f"random weights: {report}; set it to false, or "
          "config.model.last_stage to the last stage that the file has"
        )
    create = jax.jit(
      lambda v: state.create(
        v, self.recipe.optimizer, self.recipe.ema_decay is not None
      )
    )
    return parallel.replicate(create(variables)), report


def build(
  config: ConfigDict,
  fetch_weights: bool = True,
  *,
  sources: Mapping[str, data.Source] | None = None,
) -> Experiment:
  """Builds the parts of a run; reports every mistake before compiling.

  Args:
    config: resolved and checked.
    fetch_weights: whether to download the pretrained weights now, or find
      their file, rather than when they are loaded.
    sources: as in `data.load`.

  Raises:
    UserError: a value that does not fit the data, the devices or the model.
  """
  accumulate = config.optimizer.accumulate
  parallel.check_batch_size("batch_size", config.batch_size, accumulate)
  # Cheap checks come first, because loading may decode a whole data set.
  weights = pretrained.resolve(
    config.model.pretrained, config.model.name, config.model.allow_partial
  )
  if weights is None:
    _check_that_all_learns(config)
  with _user_errors():
    augmentation = augment.make_augment(config.augment, config.data.image_size)
    mixer = augment.make_mixer(config.mix)
    loss = losses.make(config.loss.name)
  if weights is not None and fetch_weights:
    weights.fetch()
  datasets = data.load(config.data, config.seed, sources=sources)
  if isinstance(weights, pretrained.RunWeights):
    weights = dataclasses.replace(weights, class_names=datasets.class_names)
  num_classes = len(datasets.class_names)
  model = create_model(config, num_classes)
  per_epoch = data.steps_per_epoch(datasets.train, config.batch_size)
  steps = config.steps or max(1, math.ceil(config.epochs * per_epoch - 1e-6))
  if steps > _MAX_STEPS:
    raise UserError(
      f"config.epochs {config.epochs} are {steps:,} steps, more than "
      f"{_MAX_STEPS:,}; lower it"
    )
  size = config.data.image_size
  with _user_errors():
    abstract = models.abstract_variables(model, size)
  optimizer, schedule = optim.make_optimizer(
    optimizer_settings(config.optimizer),
    total_steps=steps,
    steps_per_epoch=per_epoch,
    params=abstract["params"],
    stages=model.stages,
  )
  off, decay = config.mix.off_after_epoch, config.ema.decay
  recipe = Recipe(
    model=model,
    optimizer=optimizer,
    schedule=schedule,
    preprocess=models.PREPROCESSING[config.model.preprocessing],
    augment=augmentation,
    mixer=mixer,
    resize=lambda images: augment.center_crop(images, size),
    num_classes=num_classes,
    mix_until=np.float32(
      np.inf if off is None else min(off * per_epoch, _MAX_STEPS)
    ),
    loss=loss,
    label_smoothing=np.float32(config.loss.label_smoothing),
    ema_decay=None if decay is None else np.float32(decay),
    accumulate=accumulate,
  )
  return Experiment(config, datasets, recipe, steps, per_epoch, weights)


def _check_that_all_learns(config: ConfigDict) -> None:
  """Raises UserError if random weights would be frozen."""
  freezing = []
  if config.optimizer.freeze:
    freezing.append(f"config.optimizer.freeze={config.optimizer.freeze}")
  if config.model.freeze_batch_norm:
    freezing.append("config.model.freeze_batch_norm=true")
  if freezing:
    raise UserError(
      f"{' and '.join(freezing)} would keep random values as they are; set "
      "config.model.pretrained, or undo that"
    )


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
  """Turns the ValueErrors of code that checks its settings into UserErrors."""
  try:
    yield
  except ValueError as error:
    raise UserError(f"config: {error}") from error


def optimizer_settings(config: ConfigDict) -> optim.Settings:
  """Returns the values of `config.optimizer` that make the optimizer."""
  values = config.to_dict()
  del values["accumulate"]  # It belongs to the step.
  names = (name.strip() for name in (values.pop("freeze") or "").split(","))
  return optim.Settings(**values, freeze=tuple(filter(None, names)))


def create_model(config: ConfigDict, num_classes: int) -> models.Model:
  """Returns the model of a settled config, see `config.resolve`.

  Raises:
    UserError: a setting that the model does not have, or a wrong value.
  """
  model = config.model
  dtype = model.dtype
  if dtype == "auto":
    dtype = cpu.for_platform(cpu="float32", default="bfloat16")
  with _user_errors():
    return models.create_model(
      model.name,
      num_classes,
      last_stage=model.last_stage,
      dtype=jnp.dtype(dtype),
      dropout=model.dropout,
      freeze_batch_norm=model.freeze_batch_norm,
      zero_init_residual=model.zero_init_residual,
      head_init=model.head_init,
      remat=model.remat,
      frozen=optimizer_settings(config.optimizer).freeze,
      bn_axis_name=parallel.AXIS if model.sync_batch_norm else None,
      version=model.version,
      conv_bias=model.conv_bias,
      bn_epsilon=model.bn_epsilon,
    )
