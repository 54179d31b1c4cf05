"""The state of training, which every step changes."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
  """The arrays that a step reads and writes; it holds no random keys.

  Attributes:
    step: the number of finished steps, int32.
    params: the parameters, float32.
    batch_stats: the running statistics of batch norm, float32.
    opt_state: the state of the Optax optimizer.
    ema: moving averages of `params` and `batch_stats`, under these names, or
      None.
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
  """Returns the state before the first step, from the variables of a model."""
  params = variables["params"]
  batch_stats = variables.get("batch_stats", {})
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizer.init(params),
    # A copy, because the step overwrites the buffers of the state, and none of
    # them may be donated to it twice.
    ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
    if with_ema
    else None,
  )


def update_ema(
  ema: dict[str, Any], new: dict[str, Any], step: jax.Array, decay: float
) -> dict[str, Any]:
  """Returns `d ema + (1 - d) new` for parameters and batch statistics.

  `d = min(decay, (1 + step) / (10 + step))` is the rule of TensorFlow's
  ExponentialMovingAverage. It makes the average forget the initial values
  early.
  """
  step = step.astype(jnp.float32)
  d = jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(lambda old, x: d * old + (1 - d) * x, ema, new)
