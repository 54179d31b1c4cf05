"""The optimiser of a config: schedule, decay, and learning rates by depth.

What is done to the gradients, in order: those of frozen parts are dropped,
the rest is clipped by its global norm, turned into a direction by SGD or Adam,
given the decoupled weight decay (Loshchilov and Hutter, 2019,
arXiv:1711.05101), and scaled by the learning rate of its part of the network.
Decoupled means that SGD's momentum does not amplify the decay: a value w here
does what w (1 - momentum) does in PyTorch's SGD.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from mixaug_jax.errors import UserError

Schedule = Callable[[jax.Array | int], jax.Array]

# Of the step schedule: shares of the run at which the rate falls tenfold, the
# 30, 60 and 80 of 90 epochs of ResNet's ImageNet training.
_STEPS = (1 / 3, 2 / 3, 8 / 9)


def make_optimizer(
  config: ConfigDict, *, total_steps: int, steps_per_epoch: float, params: Any
) -> tuple[optax.GradientTransformation, Schedule]:
  """Makes the optimiser of `config.optimizer`.

  Args:
    config: `config.optimizer`.
    total_steps: of the whole run.
    steps_per_epoch: to turn epochs into steps.
    params: the parameters, or their shapes, grouped by part at the top:
      `stem`, `stage1`, ..., `head`.

  Returns:
    The optimiser, and its base learning rate as a function of the step: that
    of the last stage before the head, without multipliers.

  Raises:
    UserError: naming the key that does not fit the run or the model.
  """
  frozen = frozen_parts(config)
  if unknown := set(frozen) - set(params):
    raise UserError(
      f"config.optimizer.freeze: the model has no part "
      f"{', '.join(sorted(unknown))}; its parts are {', '.join(_parts(params))}"
    )
  if config.head_from not in params:
    raise UserError(
      f"config.optimizer.head_from: the model has no part {config.head_from}; "
      f"its parts are {', '.join(_parts(params))}"
    )
  if set(frozen) == set(params):
    raise UserError(
      "config.optimizer.freeze leaves nothing to train; leave the head out"
    )
  warmup, head_warmup = (
    round(epochs * steps_per_epoch)
    for epochs in (config.warmup_epochs, config.head_warmup_epochs)
  )
  if warmup + head_warmup >= total_steps and warmup + head_warmup > 0:
    raise UserError(
      f"config.optimizer.warmup_epochs and head_warmup_epochs take "
      f"{warmup + head_warmup} steps, and the run has but {total_steps}; "
      "lower them or train longer"
    )
  schedule = _schedule(config, total_steps, warmup)
  # The trunk warms up when the head and what counts as head are warm.
  trunk = schedule
  if head_warmup:
    trunk = lambda step: jnp.where(
      step < head_warmup,
      0.0,
      schedule(step) * jnp.minimum(1, (step - head_warmup + 1) / (warmup + 1)),
    )
  body, head = _body_and_head(config, params)
  rates = {
    part: _times(trunk, config.layer_decay ** (len(body) - 1 - index))
    for index, part in enumerate(body)
  }
  rates |= {part: _times(schedule, config.head_multiplier) for part in head}
  scales = {
    part: optax.set_to_zero()
    if part in frozen
    else optax.scale_by_learning_rate(rate)
    for part, rate in rates.items()
  }
  steps = []
  if frozen:
    dropped = {part: part in frozen for part in params}
    steps.append(optax.masked(optax.set_to_zero(), dropped))
  if config.clip_norm is not None:
    steps.append(optax.clip_by_global_norm(config.clip_norm))
  if config.name == "sgd":
    if config.momentum:
      steps.append(optax.trace(config.momentum, config.nesterov))
  else:
    steps.append(optax.scale_by_adam())
  if config.weight_decay:
    steps.append(optax.add_decayed_weights(config.weight_decay, decays(params)))
  steps.append(optax.partition(scales, {part: part for part in params}))
  return optax.chain(*steps), schedule


def frozen_parts(config: ConfigDict) -> tuple[str, ...]:
  """The names in `config.optimizer.freeze`: "stem,stage1" is two."""
  names = (config.freeze or "").split(",")
  return tuple(name.strip() for name in names if name.strip())


def decays(params: Any) -> Any:
  """Which arrays weight decay applies to: all but scales and biases."""
  return jax.tree.map(lambda x: x.ndim > 1, params)


def _parts(params: Any) -> list[str]:
  """The parts of a network from its input to its head."""
  return sorted(params, key=lambda part: (part == "head", part != "stem", part))


def _body_and_head(
  config: ConfigDict, params: Any
) -> tuple[list[str], list[str]]:
  """The parts before `config.optimizer.head_from`, and those from it on."""
  parts = _parts(params)
  first = parts.index(config.head_from)
  return parts[:first], parts[first:]


def _times(schedule: Schedule, multiplier: float) -> Schedule:
  return lambda step: multiplier * schedule(step)


def _schedule(config: ConfigDict, total_steps: int, warmup: int) -> Schedule:
  """Linear from near zero to the peak in `warmup` steps, then as configured."""
  peak = config.learning_rate
  if config.schedule == "cosine":
    after = optax.cosine_decay_schedule(peak, total_steps - warmup)
  elif config.schedule == "step":
    falls = np.array(_STEPS) * total_steps - warmup
    after = lambda step: peak * 0.1 ** jnp.sum(step >= falls)
  else:
    after = optax.constant_schedule(peak)
  if not warmup:
    return after
  # Not from zero itself, or the first step would train nothing.
  linear = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
  return optax.join_schedules([linear, after], [warmup])
