"""The train and evaluation step of one device.

One device's share of a batch goes through: uint8 -> float in [0, 1] ->
augmentation, each example by its own key -> mixing -> normalisation ->
forward -> loss -> gradients, averaged over devices -> Optax -> moving average.
`Devices` is all that a step knows of the other devices.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from mixaug_jax import augment, data
from mixaug_jax.models.cpu import after
from mixaug_jax.training import losses, metrics
from mixaug_jax.training.state import TrainState, update_ema

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


def _same(tree: Any) -> Any:
  return tree


@dataclasses.dataclass(frozen=True)
class Devices:
  """What a step may ask of the others; the default is a single device.

  Attributes:
    mean: averages a tree of arrays over the devices.
    total: adds it up.
    gather: `[b, ...]` of every device to `[count * b, ...]`, in order.
    count: the number of devices.
    index: this one's place among them.
  """

  mean: Callable[[Any], Any] = _same
  total: Callable[[Any], Any] = _same
  gather: Callable[[Any], Any] = _same
  count: int = 1
  index: Callable[[], jax.Array | int] = lambda: 0

  def shard(self) -> augment.Shard:
    return augment.Shard(self.count, self.index(), self.gather)

  def keys(
    self, seed: jax.Array, step: jax.Array, examples: int
  ) -> augment.StepKeys:
    """The keys of a step, for this device's `examples` of the global batch."""
    index = self.index()
    positions = index * examples + jnp.arange(examples)
    return augment.step_keys(seed, step, positions, index)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The parts of a train step, made from a config.

  Attributes:
    model: logits from normalised images.
    optimizer: applied to float32 parameters.
    schedule: the learning rate of a step, for the log.
    preprocess: float images in [0, 1] to what the network expects.
    augment: `(keys [B], uint8 images [B, H, W, 3]) -> images`, in [0, 1].
    mixer: `(key, images, labels, enabled=, shard=) -> (images, labels)`.
    resize: brings stored images to the size of evaluation, unaugmented.
    num_classes: C.
    mix_until: mixing stops for good at this step.
    loss: of `(logits, soft labels)`.
    label_smoothing: in training only.
    ema_decay: None for no average.
    accumulate: parts of a device's batch that are computed one by one.
  """

  model: nn.Module
  optimizer: optax.GradientTransformation
  schedule: Callable[[jax.Array], jax.Array]
  preprocess: Callable[[jax.Array], jax.Array]
  augment: Callable[[jax.Array, jax.Array], jax.Array]
  mixer: Callable[..., tuple[jax.Array, jax.Array]]
  resize: Callable[[jax.Array], jax.Array]
  num_classes: int
  mix_until: float
  loss: losses.Loss
  label_smoothing: float
  ema_decay: float | None
  accumulate: int


def to_float(images: jax.Array) -> jax.Array:
  """uint8 0..255 to float32 0..1."""
  return images.astype(jnp.float32) / 255


def network_input(
  recipe: Recipe,
  seed: jax.Array,
  step: jax.Array,
  images: jax.Array,
  class_ids: jax.Array,
  devices: Devices,
) -> tuple[jax.Array, jax.Array]:
  """What the network is trained on at `step`, before normalisation.

  A pure function of (seed, step, position in the global batch) and of the
  stored images; the number of devices changes nothing.

  Args:
    recipe: of which augmentation and mixing are read.
    seed: uint32 scalar.
    step: int32 scalar.
    images: stored uint8 `[b, S, S, 3]`, this device's share.
    class_ids: int32 `[b]`.
    devices: the others, on which mixing partners may live.

  Returns:
    Images, float32 in [0, 1] `[b, H, W, 3]`, and soft labels `[b, C]`.
  """
  keys = devices.keys(seed, step, len(images))
  augmented = recipe.augment(keys.augment, images)
  labels = jax.nn.one_hot(class_ids, recipe.num_classes)
  return recipe.mixer(
    keys.mix,
    augmented,
    labels,
    enabled=step < recipe.mix_until,
    shard=devices.shard(),
  )


def make_train_step(
  recipe: Recipe, devices: Devices
) -> Callable[[TrainState, jax.Array, Any, Batch], tuple[TrainState, Metrics]]:
  """Returns `step(state, seed, arrays, batch) -> (state, metrics)`.

  `seed`, a uint32 scalar, is that of augmentation, mixing and drop-out; an
  argument, so that runs that differ in it share their compiled program.
  `arrays` is the data set where it lives on the device, else empty. The
  metrics are float32 scalars, equal on every device: `loss` (smoothing
  included), `mixed_accuracy`, `learning_rate` and `finite` (0 once the loss
  or a parameter is not).
  """

  def forward(params, batch_stats, images, labels, dropout_key):
    logits, changed = recipe.model.apply(
      {"params": params, "batch_stats": batch_stats},
      recipe.preprocess(images),
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": dropout_key},
    )
    target = losses.smooth_labels(labels, recipe.label_smoothing)
    loss = jnp.mean(recipe.loss(logits, target))
    measured = {
      "loss": loss,
      "mixed_accuracy": jnp.mean(metrics.mixed_accuracy(logits, labels)),
    }
    return loss, (changed.get("batch_stats", batch_stats), measured)

  gradient = jax.grad(forward, has_aux=True)

  def step(state, seed, arrays, batch):
    images, class_ids = data.fetch(arrays, batch)
    images, labels = network_input(
      recipe, seed, state.step, images, class_ids, devices
    )
    dropout_key = devices.keys(seed, state.step, len(images)).dropout
    gradients, batch_stats, measured = _accumulated(
      gradient, recipe.accumulate, state, images, labels, dropout_key
    )
    gradients, batch_stats, measured = devices.mean(
      (gradients, batch_stats, measured)
    )
    updates, opt_state = recipe.optimizer.update(
      gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if recipe.ema_decay is not None:
      new = {"params": params, "batch_stats": batch_stats}
      ema = update_ema(ema, new, state.step, recipe.ema_decay)
    measured["learning_rate"] = recipe.schedule(state.step)
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

  return step


def _accumulated(gradient, parts, state, images, labels, key):
  """Gradients, batch statistics and metrics of a batch, in equal parts.

  Written out, not `lax.scan`ned: XLA's CPU convolutions lose their threads in
  a loop. Each part waits for the one before it, so that only one part's
  activations live at a time.
  """
  if parts == 1:
    gradients, (batch_stats, measured) = gradient(
      state.params, state.batch_stats, images, labels, key
    )
    return gradients, batch_stats, measured
  split = lambda x: jnp.split(x, parts)
  batch_stats, total = state.batch_stats, None
  for part, (some_images, some_labels) in enumerate(
    zip(split(images), split(labels), strict=True)
  ):
    if total is not None:
      some_images = after(some_images, total)
    gradients, (batch_stats, measured) = gradient(
      state.params,
      batch_stats,
      some_images,
      some_labels,
      jax.random.fold_in(key, part),
    )
    new = (gradients, measured)
    total = new if total is None else jax.tree.map(jnp.add, total, new)
  gradients, measured = jax.tree.map(lambda x: x / parts, total)
  return gradients, batch_stats, measured


def make_eval_step(
  recipe: Recipe, devices: Devices
) -> Callable[[Any, Any, Batch], tuple[Metrics, dict[str, jax.Array]]]:
  """Returns `step(variables, arrays, batch) -> (sums, rows)`.

  The batch holds `mask` and `position` beside images and labels. `sums` are
  those of `metrics.evaluation_sums` over all devices. `rows` are `logits`
  float32 `[B, C]`, `mask` and `position` of the whole global batch.
  """

  def step(variables, arrays, batch):
    images, class_ids = data.fetch(arrays, batch)
    images = recipe.resize(to_float(images))
    logits = recipe.model.apply(
      variables, recipe.preprocess(images), train=False
    )
    sums = metrics.evaluation_sums(
      logits, class_ids, batch["mask"], recipe.loss
    )
    rows = {
      "logits": logits,
      "mask": batch["mask"],
      "position": batch["position"],
    }
    return devices.total(sums), devices.gather(rows)

  return step
