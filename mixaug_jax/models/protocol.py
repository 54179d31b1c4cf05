"""The protocol of a model: what training and analysis need of it."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax


@runtime_checkable
class Model(Protocol):
  """A Linen module that classifies images in named stages.

  Variables are grouped by stage: the top names of `params`, and of
  `batch_stats` where there are any, are names in `stages`. The order of
  `stages` is the depth that layer-wise learning rates count. Weight decay
  applies to the parameters named `kernel`.

  The activations between two stages are `[B, h, w, c]`, of any dtype. Class
  activation maps also need a head that is one linear layer over their mean,
  such as `linear_head`; a model without one has only Grad-CAM.

  Attributes:
    num_classes: C, the number of logits.
    stages: the names of all stages, from the input to the last one, `head`.
    frozen: the stages that are not trained. Their running statistics stay as
      they are, and `run_stages` stops gradients.
    dtype: dtype of the computation. Parameters, running statistics and logits
      are float32.
  """

  @property
  def num_classes(self) -> int: ...

  @property
  def stages(self) -> tuple[str, ...]: ...

  @property
  def frozen(self) -> tuple[str, ...]: ...

  @property
  def dtype(self) -> Any: ...

  # Of every Linen module.
  def init(self, *args: Any, **kwargs: Any) -> Any: ...

  def apply(self, *args: Any, **kwargs: Any) -> Any: ...

  def clone(self, **updates: Any) -> "Model": ...

  def __call__(
    self, x: jax.Array, *, train: bool, start: str, stop: str
  ) -> jax.Array:
    """Runs the stages from `start` to `stop`, both included.

    Args:
      x: preprocessed images `[B, H, W, 3]`, or the output of the stage before
        `start`.
      train: whether to apply dropout and to update running statistics.
      start: a name in `stages`; by default the first.
      stop: a name in `stages`, not before `start`; by default the last.

    Returns:
      Logits, float32 `[B, C]`, if `stop` is the head; otherwise the activations
      of that stage, `[B, h, w, c]`.
    """
    ...


def run_stages(
  model: Model,
  stage: Callable[[str], Callable[[jax.Array], jax.Array]],
  x: jax.Array,
  start: str,
  stop: str,
) -> jax.Array:
  """Runs a slice of a model, as the `__call__` of `Model` describes.

  No gradient is computed for a frozen stage that follows only frozen ones.

  Args:
    model: the model, whose `__call__` this is a part of.
    stage: returns the stage of a name, as a function of its input.
    x: as in `Model.__call__`.
    start: likewise.
    stop: likewise.
  """
  names = model.stages
  for index in range(names.index(start), names.index(stop) + 1):
    x = stage(names[index])(x)
    if set(names[: index + 1]) <= set(model.frozen):
      x = jax.lax.stop_gradient(x)
  return x
