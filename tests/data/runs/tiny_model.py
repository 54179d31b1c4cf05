"""The model of the stored runs: two stages, few parameters."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from mixaug_jax.models import linear_head, run_stages


class Tiny(nn.Module):
  """One convolution with batch norm, and a linear head."""

  num_classes: int
  frozen: tuple[str, ...] = ()
  head_init: str = "lecun_normal"
  dropout: float = 0.0
  bn_axis_name: str | None = None
  dtype: Any = jnp.float32

  stages = ("stem", "head")

  @nn.compact
  def __call__(self, x, *, train, start="stem", stop="head"):
    def stage(name):
      if name == "head":
        return lambda x: linear_head(
          x,
          self.num_classes,
          init=self.head_init,
          dropout=self.dropout,
          train=train,
        )
      return Stem(train, self.bn_axis_name, self.dtype, name=name)

    return run_stages(self, stage, x, start, stop)


class Stem(nn.Module):
  train: bool
  axis: str | None
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (3, 3), (2, 2), dtype=self.dtype)(x)
    norm = nn.BatchNorm(not self.train, axis_name=self.axis, dtype=self.dtype)
    return nn.relu(norm(x))
