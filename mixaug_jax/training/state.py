"""What training changes from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
  """All that a step reads and writes; randomness is not part of it.

  Attributes:
    step: int32, the number of finished steps.
    params: float32 parameters.
    batch_stats: float32 running statistics of batch norm.
    opt_state: Optax's.
    ema: averages of `params` and `batch_stats` under these names, or None.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema: dict[str, Any] | None

  @property
  def variables(self) -> dict[str, Any]:
    return {"params": self.params, "batch_stats": self.batch_stats}


def create(
  variables: dict[str, Any],
  optimizer: optax.GradientTransformation,
  with_ema: bool,
) -> TrainState:
  """The state before the first step, from a model's variables."""
  params = variables["params"]
  batch_stats = variables.get("batch_stats", {})
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizer.init(params),
    # A copy: the step is given the state's buffers to write over, and may be
    # given none of them twice.
    ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
    if with_ema
    else None,
  )


def update_ema(
  ema: dict[str, Any], new: dict[str, Any], step: jax.Array, decay: float
) -> dict[str, Any]:
  """`ema <- d ema + (1 - d) new`, batch statistics included.

  `d = min(decay, (1 + step) / (10 + step))`, so that the average forgets the
  initial values early on (the rule of TensorFlow's ExponentialMovingAverage).
  """
  step = step.astype(jnp.float32)
  decay = jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(lambda old, x: decay * old + (1 - decay) * x, ema, new)
