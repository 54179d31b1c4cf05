"""The optimizer of a run: schedule, decay, and learning rates by depth.

The gradients go through these steps: those of frozen parts are dropped, the
rest is clipped by its global norm, turned into a direction by SGD or Adam,
given the decoupled weight decay (Loshchilov and Hutter, 2019,
arXiv:1711.05101), and scaled by the learning rate of its part of the network.
Decoupled means that SGD's momentum does not amplify the decay: a value w here
does what w (1 - momentum) does in PyTorch's SGD.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from mixaug_jax import registry
from mixaug_jax.errors import UserError

Schedule = Callable[[jax.Array | int], jax.Array]

# The step schedule divides the learning rate by ten at these shares of the run,
# the epochs 30, 60 and 80 of 90 of ResNet's ImageNet training.
_STEPS = (1 / 3, 2 / 3, 8 / 9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The hyperparameters of an optimizer, the keys of `config.optimizer`.

  Attributes:
    name: a key of OPTIMIZERS, or `package.module:name`.
    learning_rate: the peak.
    schedule: a key of SCHEDULES, or `package.module:name`.
    warmup_epochs: epochs in which the learning rate rises linearly to its peak.
    weight_decay: decoupled; see `decays`.
    momentum: momentum of SGD.
    nesterov: whether that momentum is Nesterov's.
    clip_norm: largest global norm of the gradients, or None.
    freeze: parts of the network that are not trained.
    head_from: the parts from this one on count as the head.
    head_multiplier: learning rate of the head over that of the last part of the
      trunk.
    layer_decay: learning rate of a part of the trunk over that of the next one.
    head_warmup_epochs: epochs at the start in which only the head is trained.
  """

  name: str
  learning_rate: float
  schedule: str
  warmup_epochs: float
  weight_decay: float
  momentum: float
  nesterov: bool
  clip_norm: float | None
  freeze: tuple[str, ...]
  head_from: str
  head_multiplier: float
  layer_decay: float
  head_warmup_epochs: float


def sgd(settings: Settings) -> optax.GradientTransformation | None:
  """Stochastic gradient descent with momentum (Sutskever et al., 2013)."""
  if not settings.momentum:
    return None
  trace = lambda momentum: optax.trace(momentum, settings.nesterov)
  return as_pytree(trace, np.float32(settings.momentum))


def adamw(settings: Settings) -> optax.GradientTransformation:
  """Adam (Kingma and Ba, 2015, arXiv:1412.6980) with b1 = 0.9, b2 = 0.999."""
  del settings
  return optax.scale_by_adam()


# Each returns what turns gradients into a direction; None keeps the gradients.
# Clipping comes before it, weight decay and the learning rate after it.
OPTIMIZERS: dict[
  str, Callable[[Settings], optax.GradientTransformation | None]
] = {
  "sgd": sgd,
  "adamw": adamw,
}


def cosine(peak: float, total_steps: int, warmup_steps: int) -> Schedule:
  """Half a cosine from the peak to zero (arXiv:1608.03983)."""
  steps = total_steps - warmup_steps
  angle = np.float32(np.pi) * _inverse(steps)
  return Partial(_cosine, np.float32(peak), np.float32(steps), angle)


def _cosine(peak, steps, angle, step):
  return peak * (0.5 * (1 + jnp.cos(angle * jnp.minimum(step, steps))))


def step(peak: float, total_steps: int, warmup_steps: int) -> Schedule:
  """A tenth of the rate after 1/3, 2/3 and 8/9 of the run."""
  falls = np.array(_STEPS) * total_steps - warmup_steps
  return Partial(_step, np.float32(peak), falls.astype(np.float32))


def _step(peak, falls, step):
  return peak * 0.1 ** jnp.sum(step >= falls)


def constant(peak: float, total_steps: int, warmup_steps: int) -> Schedule:
  """The peak."""
  del total_steps, warmup_steps
  return Partial(_constant, np.float32(peak))


def _constant(peak, step):
  del step
  return peak


# Each takes the peak, the steps of the run and the steps of its warm-up. It
# returns the learning rate as a function of the steps since the warm-up. The
# arrays of a `Partial` are arguments of the train step, see `step.Recipe`.
SCHEDULES: dict[str, Callable[[float, int, int], Schedule]] = {
  "cosine": cosine,
  "step": step,
  "constant": constant,
}


def make_optimizer(
  settings: Settings,
  *,
  total_steps: int,
  steps_per_epoch: float,
  params: Mapping[str, Any],
  stages: Sequence[str],
  schedule: Schedule | None = None,
) -> tuple[optax.GradientTransformation, Schedule]:
  """Makes an optimizer.

  Args:
    settings: hyperparameters.
    total_steps: optimizer steps of the whole run.
    steps_per_epoch: converts epochs to steps.
    params: the parameters, or their shapes, grouped by part at the top.
    stages: the names of the parts from the input to the head, as in
      `models.Model`; parts without parameters are skipped.
    schedule: the base learning rate by step; None: as `settings` have it.

  Returns:
    The optimizer, and its base learning rate as a function of the step: that
    of the last part before the head, without multipliers.

  Raises:
    UserError: naming the key that does not fit the run or the model.
    ValueError: an optimizer or a schedule that is not found.
  """
  parts = [stage for stage in stages if stage in params]
  known = f"its parts are {', '.join(parts)}"
  if unknown := set(params) - set(parts):
    raise UserError(
      f"config.model.name: the model has parameters outside of its stages, "
      f"{', '.join(sorted(unknown))}; {known}"
    )
  if unknown := set(settings.freeze) - set(parts):
    raise UserError(
      f"config.optimizer.freeze: the model has no part "
      f"{', '.join(sorted(unknown))}; {known}"
    )
  if settings.head_from not in parts:
    raise UserError(
      f"config.optimizer.head_from: the model has no part "
      f"{settings.head_from}; {known}"
    )
  if set(settings.freeze) == set(parts):
    raise UserError(
      "config.optimizer.freeze leaves nothing to train; leave the head out"
    )
  warmup, head_warmup = (
    round(epochs * steps_per_epoch)
    for epochs in (settings.warmup_epochs, settings.head_warmup_epochs)
  )
  if warmup + head_warmup >= total_steps and warmup + head_warmup > 0:
    raise UserError(
      f"config.optimizer.warmup_epochs and head_warmup_epochs take "
      f"{warmup + head_warmup} steps, and the run has only {total_steps}; "
      "lower them or train longer"
    )
  if schedule is None:
    schedule = _schedule(settings, total_steps, warmup)
  # The trunk warms up after the head and what counts as head.
  delay = None
  if head_warmup:
    delay = np.int32(head_warmup), _inverse(warmup + 1)
  make = registry.find("config.optimizer.name", settings.name, OPTIMIZERS)

  def chain(direction, weight_decay, schedule, delay):
    steps = []
    if settings.freeze:
      dropped = {part: part in settings.freeze for part in params}
      steps.append(optax.masked(optax.set_to_zero(), dropped))
    if settings.clip_norm is not None:
      steps.append(optax.clip_by_global_norm(settings.clip_norm))
    if direction is not None:
      steps.append(direction)
    if settings.weight_decay:
      steps.append(optax.add_decayed_weights(weight_decay, decays(params)))
    scales = {
      part: optax.set_to_zero()
      if part in settings.freeze
      else optax.scale_by_learning_rate(rate)
      for part, rate in _rates(settings, schedule, parts, delay)
    }
    steps.append(optax.partition(scales, {part: part for part in params}))
    return optax.chain(*steps)

  weight_decay = np.float32(settings.weight_decay)
  optimizer = as_pytree(chain, make(settings), weight_decay, schedule, delay)
  return optimizer, schedule


def as_pytree(
  make: Callable[..., optax.GradientTransformation], *arguments: Any
) -> optax.GradientTransformation:
  """Returns `make(*arguments)` as a pytree with the leaves of the arguments.

  Optax keeps the numbers of a transformation in closures, where they are
  constants of a compiled program. Arrays among the leaves are arguments of the
  train step instead, see `step.Recipe`. The initial state must not depend on
  them.
  """
  update = lambda arguments, *args: make(*arguments).update(*args)
  return optax.GradientTransformation(
    make(*arguments).init, Partial(update, arguments)
  )


def decays(params: Any) -> Any:
  """Returns which parameters weight decay applies to: those named `kernel`.

  These are the weights of convolutions and linear layers. Biases, and the
  scales of batch norm and layer norm, are not decayed.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == "kernel", params
  )


def _rates(
  settings: Settings,
  schedule: Schedule,
  parts: Sequence[str],
  delay: tuple[jax.Array, jax.Array] | None,
) -> list[tuple[str, Schedule]]:
  """Returns the learning rate of each part, from the input to the head."""
  trunk = schedule
  if delay is not None:
    trunk = lambda step: _after_the_head(schedule, *delay, step)
  first = parts.index(settings.head_from)
  return [
    (part, _times(trunk, settings.layer_decay ** (first - 1 - index)))
    if index < first
    else (part, _times(schedule, settings.head_multiplier))
    for index, part in enumerate(parts)
  ]


def _after_the_head(schedule, head_warmup, slope, step):
  rise = jnp.minimum(1, (step - head_warmup + 1) * slope)
  return jnp.where(step < head_warmup, 0.0, schedule(step) * rise)


def _times(schedule: Schedule, multiplier: float) -> Schedule:
  return lambda step: multiplier * schedule(step)


def _schedule(settings: Settings, total_steps: int, warmup: int) -> Schedule:
  """Rises linearly from near zero to the peak, then follows the schedule."""
  key, peak = "config.optimizer.schedule", settings.learning_rate
  make = registry.find(key, settings.schedule, SCHEDULES)
  after = make(peak, total_steps, warmup)
  if not warmup:
    return after
  # Not from zero itself, or the first step would train nothing.
  height = np.float32(peak - peak / (warmup + 1))
  steps = np.int32(warmup)
  return Partial(
    _warmed_up, np.float32(peak), height, steps, _inverse(warmup), after
  )


def _warmed_up(peak, height, steps, slope, after, step):
  linear = peak - height * (1 - step * slope)
  return jnp.where(step < steps, linear, after(step - steps))


def _inverse(steps: int) -> np.float32:
  """Returns the factor by which XLA replaces a division by a constant.

  With it, a schedule of arguments has the bits of a schedule of constants.
  """
  return 1 / np.float32(steps)
