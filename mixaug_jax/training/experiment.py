"""The parts of a run, built from its config: data, model, recipe, state."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import augment, data, models
from mixaug_jax import config as config_lib
from mixaug_jax.data.datasets import open_sources
from mixaug_jax.errors import UserError
from mixaug_jax.models import cpu
from mixaug_jax.training import (
  class_weights,
  early_stopping,
  length,
  losses,
  optim,
  parallel,
  pretrained,
  set_config,
  stage_mixing,
  state,
)
from mixaug_jax.training.step import Batch, Recipe
from mixaug_jax.weights import sources as weight_sources

_MAX_STEPS = 2**31 - 1  # The train state counts steps in int32.
# Shares of a run that sets no other warm-up: 2 and 1 of 25 epochs.
_WARMUP, _HEAD_WARMUP = 0.08, 0.04


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

  @property
  def class_weights(self) -> np.ndarray | None:
    """The class weights of training, float32 `[C]`, if there are some."""
    return _class_weights(self.config.loss, self.datasets.class_counts)

  def log_at(self, step: int) -> bool:
    """Returns whether a line of the log falls on this step."""
    return step > 0 and step % self.config.log.every_steps == 0

  def evaluate_at(self, step: int) -> bool:
    """Returns whether an evaluation on validation falls on this step."""
    return self.due(step, self._evaluation_epochs)

  def save_at(self, step: int) -> bool:
    """Returns whether a checkpoint falls on this step."""
    checkpoint = self.config.checkpoint
    if every := checkpoint.every_steps:
      return step > 0 and (step % every == 0 or step == self.steps)
    return self.due(step, checkpoint.every_epochs or self._evaluation_epochs)

  @property
  def stopping(self) -> early_stopping.Rule:
    """When the run stops early."""
    return early_stopping.Rule(**self.config.early_stopping.to_dict())

  @property
  def evaluations(self) -> int:
    """The evaluations on validation during the whole run."""
    return self.count_due(0, self._evaluation_epochs)

  @property
  def _evaluation_epochs(self) -> float:
    """The epochs between two evaluations on validation."""
    return length.evaluation_epochs(
      self.config, self.steps / self.steps_per_epoch
    )

  def due(self, step: int, every_epochs: float) -> bool:
    """Returns whether a period or the run ends with this step."""
    period = every_epochs * self.steps_per_epoch
    # The step that ends an epoch may be a rounding error short of its end.
    periods = lambda step: (step + 1e-6) // period
    return step > 0 and (
      step == self.steps or period <= 1 or periods(step) > periods(step - 1)
    )

  def eval_batches(self, *names: str) -> int:
    """Returns the number of batches in which splits are evaluated."""
    size = parallel.eval_batch_size(self.config.evaluate.batch_size)
    splits = self.datasets.by_name()
    return sum(-(-len(splits[x]) // size) for x in names if x in splits)

  def batches_to_evaluate(self, step: int) -> int:
    """Returns the number of batches that are evaluated after this step."""
    each = self.eval_batches("validation")
    each *= 1 if self.recipe.ema_decay is None else 2
    count = self.count_due(step, self._evaluation_epochs)
    return count * each + self.eval_batches("validation", "test")

  def count_due(self, step: int, every_epochs: float) -> int:
    """Returns how often `due` holds after this step."""
    period = every_epochs * self.steps_per_epoch
    return length.count_due(step, self.steps, period)

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
  # Cheap checks come first, because loading may decode a whole data set.
  weights, augmentation, mixer, loss = _without_data(config)
  if sources is None:  # A wrong folder is reported before a download.
    sources = open_sources(config.data)
  if weights is not None and fetch_weights:
    weights.fetch()
  datasets = data.load(config.data, config.seed, sources=sources)
  if weights is not None:
    weights = dataclasses.replace(weights, class_names=datasets.class_names)
  counts, images = datasets.class_counts, len(datasets.train)
  recipe = _recipe(config, augmentation, mixer, loss, counts, images)
  steps, per_epoch = _length(config, images)
  return Experiment(config, datasets, recipe, steps, per_epoch, weights)


def recipe_without_data(
  config: ConfigDict, num_classes: int, images: int, devices: int
) -> Recipe:
  """Returns the recipe of a run whose data and devices need not be there.

  Args:
    config: resolved and checked.
    num_classes: the number of classes.
    images: the number of training images, which gives the length of the run.
    devices: the number of devices.

  Raises:
    UserError: a value that does not fit the devices or the model.
  """
  _, augmentation, mixer, loss = _without_data(config, devices)
  counts = (1,) * num_classes  # They are arguments of the train step.
  return _recipe(config, augmentation, mixer, loss, counts, images)


def _length(config: ConfigDict, images: int) -> tuple[int, float]:
  """Returns the steps of a run and of an epoch; raises UserError."""
  steps = length.steps(config, images)
  if steps > _MAX_STEPS:
    raise UserError(
      f"config.epochs {config.epochs} are {steps:,} steps, more than "
      f"{_MAX_STEPS:,}; lower it"
    )
  return steps, images / config.batch_size


def _recipe(
  config: ConfigDict,
  augmentation: Any,
  mixer: Any,
  loss: losses.Loss,
  class_counts: Sequence[int],
  images: int,
) -> Recipe:
  """Returns the parts of the train step; raises UserError."""
  num_classes = len(class_counts)
  weights = _class_weights(config.loss, class_counts)
  smoothing = config.loss.label_smoothing
  steps, per_epoch = _length(config, images)
  size = config.data.image_size
  model, optimizer, schedule = _learner(config, num_classes, steps, per_epoch)
  off, decay = config.mix.off_after_epoch, config.ema.decay
  return Recipe(
    model=model,
    optimizer=optimizer,
    schedule=schedule,
    preprocess=models.PREPROCESSING[config.model.preprocessing],
    augment=augmentation,
    mixer=augment.with_class_counts(mixer, class_counts),
    resize=lambda images: augment.center_crop(images, size),
    num_classes=num_classes,
    mix_until=np.float32(
      np.inf if off is None else min(off * per_epoch, _MAX_STEPS)
    ),
    loss=loss,
    train_loss=loss
    if weights is None
    else class_weights.weighted(config.loss.name, weights, smoothing),
    # The weighted loss smooths by itself.
    label_smoothing=np.float32(smoothing if weights is None else 0),
    ema_decay=None if decay is None else np.float32(decay),
    accumulate=config.optimizer.accumulate,
  )


def _class_weights(
  config: ConfigDict, counts: Sequence[int]
) -> np.ndarray | None:
  """Returns the class weights of `config.loss`, float32 `[C]`, if any."""
  if config.class_weights is None:
    return None
  method, beta = config.class_weights, config.effective_beta
  return class_weights.of_counts(counts, method, beta)


def check(config: ConfigDict, fetch_weights: bool = True) -> None:
  """Raises UserError for a mistake that is found before images are read.

  `build` finds it as well. This is for a config whose data are not needed or
  whose run cannot start.

  Args:
    config: resolved and checked.
    fetch_weights: whether to find the file of weights that are not published.
  """
  weights, *_ = _without_data(config)
  data.check(config.data)
  published = weight_sources.is_published(config.model.pretrained or "")
  if weights is not None and fetch_weights and not published:
    weights.fetch()
  optimizer = optimizer_settings(config.optimizer, config.epochs or 0.0)
  warmup = optimizer.warmup_epochs + optimizer.head_warmup_epochs
  if config.epochs is not None and 0 < config.epochs <= warmup:
    raise UserError(
      "config.optimizer.warmup_epochs and head_warmup_epochs take "
      f"{warmup:g} epochs, and the run has only {config.epochs:g}; lower them "
      "or train longer"
    )
  # Only the data give the length of an epoch and the number of classes.
  _learner(config, num_classes=2, steps=1, per_epoch=0.0)


def _without_data(
  config: ConfigDict, devices: int | None = None
) -> tuple[Any, Any, Any, Any]:
  """Returns pretrained weights, augmentation, mixer and loss.

  Args:
    config: resolved and checked.
    devices: as in `parallel.check_batch_size`.

  Raises:
    UserError: a value that does not fit the devices or the other values.
  """
  parallel.check_batch_size(
    "batch_size", config.batch_size, config.optimizer.accumulate, devices
  )
  weights = pretrained.resolve(
    config.model.pretrained, config.model.name, config.model.allow_partial
  )
  if weights is None:
    _check_that_all_learns(config)
  with _user_errors(config):
    mixer = augment.make_mixer(config.mix)
    set_config.check(config, mixer)
    augment.check_size(mixer, config.data.image_size)
    if config.loss.class_weights is not None:
      class_weights.check(config.loss.name)
    return (
      weights,
      augment.make_augment(config.augment, config.data.image_size),
      mixer,
      losses.make(config.loss.name),
    )


def _learner(
  config: ConfigDict, num_classes: int, steps: int, per_epoch: float
) -> tuple[models.Model, Any, optim.Schedule]:
  """Returns the model, its optimizer, and its learning rate by step.

  Raises:
    UserError: a value that does not fit the model or the length of the run.
  """
  model = create_model(config, num_classes)
  with _user_errors(config):
    mixer = augment.make_mixer(config.mix)
    stage_mixing.check(mixer, model, config.optimizer.accumulate)
    if config.loss.name == "sigmoid" and not augment.keeps_mass(mixer):
      raise ValueError(
        f"loss.name=sigmoid needs labels up to 1, and those of "
        f"mix.name={config.mix.name} may be larger; set loss.name=softmax"
      )
    abstract = models.abstract_variables(model, config.data.image_size)
  optimizer, schedule = optim.make_optimizer(
    optimizer_settings(config.optimizer, steps / per_epoch if per_epoch else 0),
    total_steps=steps,
    steps_per_epoch=per_epoch,
    params=abstract["params"],
    stages=model.stages,
  )
  return model, optimizer, schedule


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
def _user_errors(config: ConfigDict) -> Iterator[None]:
  """Turns the ValueErrors of code that checks its settings into UserErrors."""
  try:
    yield
  except ValueError as error:
    key = str(error).partition(" ")[0].rstrip(":")
    known = any(
      f"{x}.".startswith(f"{key}.") for x in config_lib.leaves(config)
    )
    raise UserError(f"config{'.' if known else ': '}{error}") from error


def optimizer_settings(
  config: ConfigDict, epochs: float = 0.0
) -> optim.Settings:
  """Returns the values of `config.optimizer` that make the optimizer.

  Args:
    config: `config.optimizer`, settled.
    epochs: the length of the run. A warm-up that is unset takes a share of it.
  """
  values = config.to_dict()
  del values["accumulate"]  # It belongs to the step.
  shares = {"warmup_epochs": _WARMUP, "head_warmup_epochs": _HEAD_WARMUP}
  for key, share in shares.items():
    if values[key] is None:
      values[key] = share * epochs
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
  with _user_errors(config):
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
