"""Vision Transformers in Linen (Dosovitskiy et al., 2021, arXiv:2010.11929).

They are the simplified ones of Beyer et al., 2022, arXiv:2205.01580: positions
are fixed sines and cosines, and a linear head classifies the mean of all
tokens. The variables are grouped by `stem`, `block1` to `blockN`, `norm` and
`head`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mixaug_jax.models import cpu
from mixaug_jax.models.head import linear_head
from mixaug_jax.models.protocol import run_stages

Dtype = Any
_EPSILON = 1e-6  # What layer norms add to the variance.


class Stem(nn.Module):
  """A linear map of every patch to a token, plus the position of the patch.

  Attributes:
    patch: pixels a side of a patch.
    width: channels of a token, a multiple of 4.
    dtype: dtype of the computation.
  """

  patch: int
  width: int
  dtype: Dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if x.shape[1] % self.patch or x.shape[2] % self.patch:
      raise ValueError(
        f"data.image_size must be a multiple of the model's patch size "
        f"{self.patch}, got {x.shape[1]} x {x.shape[2]} pixels"
      )
    patch = (self.patch, self.patch)
    x = nn.Conv(self.width, patch, patch, dtype=self.dtype, name="patches")(x)
    positions = sincos_positions(x.shape[1], x.shape[2], self.width)
    return x + positions.astype(x.dtype)


class Block(nn.Module):
  """A transformer block: self-attention and an MLP, each with a residual.

  Layer norm comes before each of the two.

  Attributes:
    heads: number of attention heads; divides the width.
    dtype: dtype of the computation; softmax is computed in float32.
  """

  heads: int
  dtype: Dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    norm = functools.partial(nn.LayerNorm, _EPSILON, dtype=self.dtype)
    dense = functools.partial(
      nn.Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform()
    )
    tokens = x.reshape(batch, height * width, channels)
    tokens += nn.MultiHeadAttention(
      self.heads,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      force_fp32_for_softmax=True,
      name="attention",
    )(norm(name="norm1")(tokens))
    hidden = dense(4 * channels, name="mlp1")(norm(name="norm2")(tokens))
    tokens += dense(channels, name="mlp2")(nn.gelu(hidden))
    return tokens.reshape(x.shape)


class VisionTransformer(nn.Module):
  """A Vision Transformer.

  Attributes:
    num_classes: the number of classes, C.
    patch: pixels a side of a patch, which divides the image.
    width: channels of a token, a multiple of 4 and of `heads`.
    depth: number of blocks.
    heads: number of attention heads.
    frozen: as in `Model`.
    head_init: initialiser of the head's kernel, see `linear_head`.
    dropout: dropout rate before the head.
    remat: whether the backward pass recomputes the blocks, see
      `cpu.recomputed`: less memory, more time, the same numbers.
    dtype: dtype of the computation up to the head; parameters and the head are
      float32.
  """

  num_classes: int
  patch: int
  width: int
  depth: int
  heads: int
  frozen: tuple[str, ...] = ()
  head_init: str = "lecun_normal"
  dropout: float = 0.0
  remat: bool = False
  dtype: Dtype = jnp.float32

  @property
  def stages(self) -> tuple[str, ...]:
    """The names of all stages, in order."""
    blocks = (f"block{index + 1}" for index in range(self.depth))
    return ("stem", *blocks, "norm", "head")

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool,
    start: str = "stem",
    stop: str = "head",
  ) -> jax.Array:
    """Runs the stages from `start` to `stop`, as in `Model`.

    Between stages, tokens stand in the places of their patches: `[B, H / patch,
    W / patch, width]`.
    """
    stage = functools.partial(self._stage, train=train)
    return run_stages(self, stage, x, start, stop)

  def _stage(self, name: str, train: bool) -> Callable[[jax.Array], jax.Array]:
    if name == "stem":
      return Stem(self.patch, self.width, self.dtype, name=name)
    if name == "norm":
      return nn.LayerNorm(_EPSILON, dtype=self.dtype, name=name)
    if name == "head":
      return functools.partial(
        linear_head,
        num_classes=self.num_classes,
        init=self.head_init,
        dropout=self.dropout,
        train=train,
      )
    block = Block(self.heads, self.dtype, name=name)
    return functools.partial(cpu.recomputed, block) if self.remat else block


def sincos_positions(height: int, width: int, channels: int) -> np.ndarray:
  """Returns fixed embeddings of the places on a grid.

  With n = channels / 4 and f[i] = 10000^(-i / (n - 1)), i = 0..n-1, the token
  of column x and row y gets

    sin(x f), cos(x f), sin(y f), cos(y f)

  Args:
    height: rows of the grid.
    width: columns of the grid.
    channels: a multiple of 4, at least 8.

  Returns:
    float32 `[height, width, channels]`.
  """
  count = channels // 4
  frequencies = 10000.0 ** (-np.arange(count) / (count - 1))
  y, x = np.mgrid[:height, :width, :1][:2] * frequencies
  parts = (np.sin(x), np.cos(x), np.sin(y), np.cos(y))
  return np.concatenate(parts, axis=-1).astype(np.float32)


def _model(patch: int, width: int, depth: int, heads: int):
  return functools.partial(
    VisionTransformer, patch=patch, width=width, depth=depth, heads=heads
  )


MODELS = {
  "vit_ti16": _model(16, 192, 12, 3),
  "vit_s16": _model(16, 384, 12, 6),
  # For images of about 16 pixels a side.
  "small_vit": _model(4, 64, 4, 4),
}
