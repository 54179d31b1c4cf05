"""The train step and the evaluation step of one device.

A train step takes one device's share of a batch through these stages: uint8 ->
float in [0, 1] -> augmentation with one key per example -> mixing ->
normalisation -> forward pass -> loss -> gradients, averaged over devices ->
Optax -> moving average. A step knows the other devices only by `Devices`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mixaug_jax import augment, data
from mixaug_jax.data import label_sets
from mixaug_jax.models import Model
from mixaug_jax.models.cpu import after
from mixaug_jax.training import (
  dropout,
  losses,
  metrics,
  network_maps,
  set_metrics,
  stage_mixing,
)
from mixaug_jax.training.state import TrainState, update_ema

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


# The scopes of a train step around the stages of its model, by which a profile
# or a compiled program is read.
SCOPES = (
  *("augmentation", "mixing", "preprocessing", "loss", "metrics"),
  *("mean_over_devices", "optimizer", "moving_average"),
)


def _same(tree: Any) -> Any:
  return tree


@dataclasses.dataclass(frozen=True)
class Devices:
  """The operations over all devices; by default there is one device.

  Attributes:
    mean: averages a tree of arrays over the devices.
    total: adds up a tree of arrays over the devices.
    gather: `[b, ...]` of every device to `[count * b, ...]`, in order.
    shard: returns the place of this device's examples in the global batch.
  """

  mean: Callable[[Any], Any] = _same
  total: Callable[[Any], Any] = _same
  gather: Callable[[Any], Any] = _same
  shard: Callable[[], augment.Shard] = augment.Shard

  def positions(self, examples: int) -> jax.Array:
    """Returns the places of this device's examples in the global batch."""
    return self.shard().index * examples + jnp.arange(examples)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recipe:
  """The parts of a train step, made from a config.

  A recipe is a pytree. The arrays among its leaves are its hyperparameters.
  They are arguments of the train step, so that recipes that differ only in
  their values share one compiled program. All else, Python numbers included,
  is a constant of the program.

  Attributes:
    model: logits from normalised images.
    optimizer: applied to float32 parameters.
    schedule: the learning rate of a step, for the log.
    preprocess: float images in [0, 1] to what the network expects.
    augment: `(keys [B], uint8 images [B, H, W, 3]) -> images`, in [0, 1].
    mixer: `(key, images, labels, enabled=, shard=, network=) -> (images,
      labels)`, see `make_mixer`.
    resize: brings stored images to the size of evaluation, unaugmented.
    num_classes: the number of classes, C.
    mix_until: mixing stops for good at this step.
    loss: of `(logits, soft labels)`, in evaluation.
    train_loss: the same in training, which may have class weights.
    label_smoothing: in training only.
    ema_decay: None for no average.
    accumulate: parts of a device's batch that are computed one by one.
  """

  model: Model
  optimizer: optax.GradientTransformation
  schedule: Callable[[jax.Array], jax.Array]
  preprocess: Callable[[jax.Array], jax.Array]
  augment: Callable[[jax.Array, jax.Array], jax.Array]
  mixer: Callable[..., tuple[jax.Array, jax.Array]]
  resize: Callable[[jax.Array], jax.Array]
  num_classes: int
  mix_until: float | np.float32
  loss: losses.Loss
  train_loss: losses.Loss
  label_smoothing: float | np.float32
  ema_decay: float | np.float32 | None
  accumulate: int

  def hyperparameters(self) -> list[np.ndarray | jax.Array]:
    """Returns the arrays among the leaves."""
    return [x for x in jax.tree.leaves(self) if _is_array(x)]

  def with_hyperparameters(self, values: Iterable[jax.Array]) -> "Recipe":
    """Returns the recipe with other arrays, in the same order."""
    values = iter(values)
    return jax.tree.map(lambda x: next(values) if _is_array(x) else x, self)


def _is_array(x: Any) -> bool:
  return isinstance(x, (np.generic, np.ndarray, jax.Array))


def to_float(images: jax.Array) -> jax.Array:
  """Converts uint8 in 0..255 to float32 in [0, 1]."""
  return images.astype(jnp.float32) / 255


class Inputs(Protocol):
  """The part of a `Recipe` that makes the input of the network."""

  @property
  def augment(self) -> Callable[[jax.Array, jax.Array], jax.Array]: ...

  @property
  def mixer(self) -> Callable[..., tuple[jax.Array, jax.Array]]: ...

  @property
  def num_classes(self) -> int: ...

  @property
  def mix_until(self) -> float | np.float32: ...


def network_input(
  recipe: Inputs,
  seed: jax.Array,
  step: jax.Array,
  images: jax.Array,
  class_ids: jax.Array,  # Or label sets.
  devices: Devices,
  network: network_maps.Network | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the images and labels of a train step, before normalisation.

  They depend only on seed, step, position in the global batch and the stored
  images, not on the number of devices.

  Args:
    recipe: supplies augmentation and mixing.
    seed: uint32 scalar.
    step: int32 scalar.
    images: stored uint8 `[b, S, S, 3]`, this device's share.
    class_ids: int32 `[b]`, or label sets of 0 and 1, uint8 `[b, C]`.
    devices: all devices, because mixing partners may be on another one.
    network: what the mixer may need of the network, see `network_maps`.

  Returns:
    Images, float32 in [0, 1] `[b, H, W, 3]`, and soft labels `[b, C]`.
  """
  with jax.named_scope("augmentation"):
    keys = augment.step_keys(seed, step, devices.positions(len(images)))
    augmented = recipe.augment(keys.augment, images)
  with jax.named_scope("mixing"):
    if label_sets.are_sets(class_ids):
      labels = jnp.asarray(class_ids, jnp.float32)
    else:
      labels = jax.nn.one_hot(class_ids, recipe.num_classes)
    return recipe.mixer(
      keys.mix,
      augmented,
      labels,
      enabled=step < recipe.mix_until,
      shard=devices.shard(),
      **({} if network is None else {"network": network}),
    )


def make_train_step(
  recipe: Recipe, devices: Devices
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Returns `step(state, seed, hyperparameters, arrays, batch)`.

  It returns the next state and metrics. `seed`, a uint32 scalar, seeds
  augmentation, mixing and dropout. `hyperparameters` are those of the recipe.
  Both are arguments, so that runs with other values share one compiled program.
  `arrays` is the data set if it is stored on the device, else it is empty. The
  metrics are float32 scalars, equal on every device: `loss` (with label
  smoothing and class weights), `mixed_accuracy` (not of label sets),
  `learning_rate`, and `finite`, which is 0 if the loss or a parameter is not
  finite.
  """

  def step(state, seed, hyperparameters, arrays, batch):
    now = recipe.with_hyperparameters(hyperparameters)
    return _train_step(now, devices, state, seed, data.fetch(arrays, batch))

  return step


def _train_step(recipe, devices, state, seed, examples):
  """Returns the next state and the metrics of `make_train_step`."""

  def forward(params, batch_stats, key, images, labels, positions):
    variables = {"params": params, "batch_stats": batch_stats}
    with jax.named_scope("preprocessing"):
      inputs = recipe.preprocess(images)
    with dropout.by_position(positions):
      rngs = dropout.streams(key, positions)
      if between is None:
        logits, changed = recipe.model.apply(
          variables, inputs, train=True, mutable=["batch_stats"], rngs=rngs
        )
      else:
        logits, labels, changed = stage_mixing.apply(
          recipe.model, variables, inputs, labels, between, rngs
        )
    with jax.named_scope("loss"):
      smooth = losses.smooth_sets if sets else losses.smooth_labels
      target = smooth(labels, recipe.label_smoothing)
      loss = jnp.mean(recipe.train_loss(logits, target))
    measured = {"loss": loss}
    if not sets:
      with jax.named_scope("metrics"):
        accuracy = jnp.mean(metrics.mixed_accuracy(logits, labels))
      measured["mixed_accuracy"] = accuracy
    return loss, (changed.get("batch_stats", batch_stats), measured)

  gradient = jax.grad(forward, has_aux=True)

  stored, class_ids = examples
  sets = label_sets.are_sets(class_ids)
  positions = devices.positions(len(stored))
  keys = augment.step_keys(seed, state.step, positions)
  between = stage_mixing.bound(
    recipe.mixer, keys.mix, state.step < recipe.mix_until, devices.shard()
  )
  network = None
  if augment.looks_at_network(recipe.mixer):
    network = network_maps.of(
      recipe.model, recipe.preprocess, state, recipe.loss
    )
  images, labels = network_input(
    recipe, seed, state.step, stored, class_ids, devices, network
  )
  key = keys.dropout
  gradients, batch_stats, measured = _accumulated(
    gradient, recipe.accumulate, state, key, (images, labels, positions)
  )
  with jax.named_scope("mean_over_devices"):
    gradients, batch_stats, measured = devices.mean(
      (gradients, batch_stats, measured)
    )
  with jax.named_scope("optimizer"):
    updates, opt_state = recipe.optimizer.update(
      gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
  ema = state.ema
  if recipe.ema_decay is not None:
    with jax.named_scope("moving_average"):
      new = {"params": params, "batch_stats": batch_stats}
      ema = update_ema(ema, new, state.step, recipe.ema_decay)
  with jax.named_scope("metrics"):
    measured["learning_rate"] = recipe.schedule(state.step)
  with jax.named_scope("optimizer"):  # The norm is one kernel with the update.
    measured["finite"] = (
      jnp.isfinite(measured["loss"]) & jnp.isfinite(optax.tree.norm(params))
    ).astype(jnp.float32)
  new_state = TrainState(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    ema=ema,
  )
  return new_state, measured


def _accumulated(gradient, parts, state, key, examples):
  """Returns gradients, batch statistics and metrics, computed in equal parts.

  The parts are unrolled, because XLA's CPU convolutions use one thread inside
  `lax.scan`. Each part waits for the previous one, so that the activations of
  only one part are in memory.
  """
  if parts == 1:
    gradients, (batch_stats, measured) = gradient(
      state.params, state.batch_stats, key, *examples
    )
    return gradients, batch_stats, measured
  split = (jnp.split(x, parts) for x in examples)
  batch_stats, total = state.batch_stats, None
  for images, labels, positions in zip(*split, strict=True):
    if total is not None:
      images = after(images, total)
    gradients, (batch_stats, measured) = gradient(
      state.params, batch_stats, key, images, labels, positions
    )
    new = (gradients, measured)
    total = new if total is None else jax.tree.map(jnp.add, total, new)
  gradients, measured = jax.tree.map(lambda x: x / parts, total)
  return gradients, batch_stats, measured


def make_eval_step(
  recipe: Recipe, devices: Devices
) -> Callable[[Any, Any, Batch], tuple[Metrics, dict[str, jax.Array]]]:
  """Returns `step(variables, arrays, batch) -> (sums, rows)`.

  The batch has `mask` and `position` in addition to images and labels. `sums`
  are those of `metrics.evaluation_sums` over all devices, or with label sets
  those of `set_metrics.loss_sums`. `rows` has `logits`,
  float32 `[B, C]`, `mask` and `position` of the whole global batch.
  """

  def step(variables, arrays, batch):
    images, class_ids = data.fetch(arrays, batch)
    images = recipe.resize(to_float(images))
    logits = recipe.model.apply(
      variables, recipe.preprocess(images), train=False
    )
    sums_of = metrics.evaluation_sums
    if label_sets.are_sets(class_ids):
      sums_of = set_metrics.loss_sums
    sums = sums_of(logits, class_ids, batch["mask"], recipe.loss)
    rows = {
      "logits": logits,
      "mask": batch["mask"],
      "position": batch["position"],
    }
    return devices.total(sums), devices.gather(rows)

  return step
