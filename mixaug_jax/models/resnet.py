"""ResNets in Linen (He et al., 2016, arXiv:1512.03385), in two versions.

v1, that of the paper and of Keras, has the stride of a bottleneck in its first
1x1 convolution. v1.5, that of torchvision and timm, has it in the 3x3
convolution. The variables are grouped by stage: `stem`, `stage1` to `stageN`
and `head` are the top names of `params` and `batch_stats`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixaug_jax.models import cpu
from mixaug_jax.models.folded_norm import (
  FoldedBatchNorm,
  convolve_and_pool,
  expand,
)
from mixaug_jax.models.head import linear_head
from mixaug_jax.models.protocol import run_stages

Dtype = Any


class Conv(nn.Module):
  """A convolution with explicit padding, see `cpu.convolve`.

  Its parameters are float32: `kernel` [K, K, I, O] and `bias` [O].

  Attributes:
    features: number of outputs, O.
    size: K, odd.
    stride: stride in both directions.
    use_bias: whether there is a bias.
    dtype: dtype of the computation.
    kernel_init: initialiser of the kernel, by default that of He et al., 2015
      (arXiv:1502.01852), scaled by the number of outputs.
  """

  features: int
  size: int
  stride: int = 1
  use_bias: bool = False
  dtype: Dtype = jnp.float32
  kernel_init: Callable[..., jax.Array] = nn.initializers.variance_scaling(
    2.0, "fan_out", "normal"
  )

  @nn.compact
  def __call__(
    self, x: jax.Array, convolve: Callable[..., jax.Array] | None = None
  ) -> jax.Array:
    """Returns `convolve(x, kernel, stride)`, by default a convolution."""
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    x = x.astype(self.dtype)
    if convolve is not None:
      return convolve(x, kernel, self.stride)
    x = cpu.convolve(x, kernel.astype(self.dtype), self.stride)
    if self.use_bias:
      bias = self.param(
        "bias", nn.initializers.zeros, (self.features,), jnp.float32
      )
      x += bias.astype(self.dtype)
    return x


class Block(nn.Module):
  """A residual block of two 3x3 convolutions, or of 1x1, 3x3 and 1x1.

  Attributes:
    width: channels of the first convolution; the output of a bottleneck has
      four times as many.
    stride: stride of the whole block.
    bottleneck: whether there are three convolutions.
    stride_first: whether the stride of a bottleneck is in its first
      convolution.
    conv: `(features, size, stride, name) -> module`, makes a convolution.
    norm: `(name, scale_init) -> module`, makes a batch norm.
    folded_norm: `(features, name, scale_init) -> module`, makes a batch norm
      that is folded into a 1x1 convolution of more outputs than inputs, or
      None: batch norm is never folded.
    zero_init_residual: whether the last batch-norm scale starts at zero, so
      that the block starts as its shortcut.
  """

  width: int
  stride: int
  bottleneck: bool
  stride_first: bool
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  folded_norm: Callable[..., FoldedBatchNorm] | None
  zero_init_residual: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = [1, 3, 1] if self.bottleneck else [3, 3]
    features = 4 * self.width if self.bottleneck else self.width
    strided = 1 if self.bottleneck and not self.stride_first else 0
    shortcut = x
    if self.stride != 1 or x.shape[-1] != features:
      conv = self.conv(features, 1, self.stride, name="shortcut_conv")
      shortcut = self._normalised(conv, x, name="shortcut_bn")
    last = len(sizes) - 1
    for index, size in enumerate(sizes):
      conv = self.conv(
        features if index == last else self.width,
        size,
        self.stride if index == strided else 1,
        name=f"conv{index + 1}",
      )
      zero = self.zero_init_residual and index == last
      scale_init = nn.initializers.zeros if zero else nn.initializers.ones
      x = self._normalised(
        conv, x, name=f"bn{index + 1}", scale_init=scale_init
      )
      if index != last:
        x = nn.relu(x)
    # The sum of a bottleneck is four times as wide as what it is made of.
    relu = cpu.relu if self.bottleneck else nn.relu
    return relu(x + shortcut)

  def _normalised(self, conv: Any, x: jax.Array, **settings: Any) -> jax.Array:
    """Returns the convolution of `x` after batch norm."""
    if self.folded_norm and conv.size == 1 and conv.features > x.shape[-1]:
      norm = self.folded_norm(conv.features, **settings)
      return conv(x, functools.partial(expand, norm))
    return self.norm(**settings)(conv(x))


class Stage(nn.Module):
  """Blocks of one width; the first one has the stride.

  Attributes:
    blocks: number of blocks.
    stride: stride of the first block.
    block: `(stride, name) -> module`, makes a block.
    remat: as in `ResNet`.
  """

  blocks: int
  stride: int
  block: Callable[..., nn.Module]
  remat: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for index in range(self.blocks):
      stride = self.stride if index == 0 else 1
      block = self.block(stride=stride, name=f"block{index + 1}")
      x = cpu.recomputed(block, x) if self.remat else block(x)
    return x


class Stem(nn.Module):
  """The first convolution, and the max-pool of large images.

  Attributes:
    width: output channels.
    small_images: whether to have a 3x3 convolution at stride 1 and no pool,
      in place of 7x7 at stride 2 and a 3x3 pool at stride 2.
    conv: as in `Block`.
    norm: as in `Block`.
    folded_norm: as in `Block`.
  """

  width: int
  small_images: bool
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  folded_norm: Callable[..., FoldedBatchNorm] | None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    size, stride = (3, 1) if self.small_images else (7, 2)
    conv = self.conv(self.width, size, stride, name="conv")
    if self.folded_norm and not self.small_images:
      norm = self.folded_norm(self.width, name="bn")
      return nn.relu(conv(x, functools.partial(convolve_and_pool, norm)))
    x = nn.relu(self.norm(name="bn")(conv(x)))
    if self.small_images:
      return x
    return cpu.max_pool(x)


class ResNet(nn.Module):
  """A ResNet.

  Attributes:
    stage_sizes: number of blocks of each stage.
    num_classes: the number of classes, C.
    bottleneck: whether blocks have three convolutions rather than two.
    width: channels of the stem and `width` of the blocks in stage1; each later
      stage doubles it.
    small_images: as in `Stem`.
    version: "v1" or "v1.5", see the docstring of the module.
    conv_bias: whether convolutions have a bias.
    bn_epsilon: what batch norm adds to the variance.
    bn_axis_name: axis over which batch statistics are averaged, or None.
    freeze_batch_norm: whether training, too, normalises by the running
      statistics and leaves them as they are.
    frozen: as in `Model`; the batch norm of these stages is frozen.
    zero_init_residual: as in `Block`.
    head_init: initialiser of the head's kernel, see `linear_head`.
    dropout: dropout rate before the head.
    remat: whether the backward pass recomputes the blocks, see
      `cpu.recomputed`: less memory, more time, the same numbers.
    dtype: dtype of the computation up to the head; parameters, batch
      statistics and the head are float32.

  Raises:
    ValueError: an unknown version.
  """

  stage_sizes: tuple[int, ...]
  num_classes: int
  bottleneck: bool = True
  width: int = 64
  small_images: bool = False
  version: str = "v1.5"
  conv_bias: bool = False
  bn_epsilon: float = 1e-5
  bn_axis_name: str | None = None
  freeze_batch_norm: bool = False
  frozen: tuple[str, ...] = ()
  zero_init_residual: bool = False
  head_init: str = "lecun_normal"
  dropout: float = 0.0
  remat: bool = False
  dtype: Dtype = jnp.float32

  def __post_init__(self):
    if self.version not in ("v1", "v1.5"):
      raise ValueError(
        f"model.version must be v1 or v1.5, got {self.version!r}"
      )
    super().__post_init__()

  @property
  def stages(self) -> tuple[str, ...]:
    """The names of all stages, in order."""
    numbered = (f"stage{i + 1}" for i in range(len(self.stage_sizes)))
    return ("stem", *numbered, "head")

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

    In training, batch norm normalises by the statistics of the batch and
    updates the running ones.
    """
    stage = functools.partial(self._stage, train=train)
    return run_stages(self, stage, x, start, stop)

  def _stage(self, name: str, train: bool) -> Callable[[jax.Array], jax.Array]:
    frozen = self.freeze_batch_norm or name in self.frozen
    conv = functools.partial(Conv, use_bias=self.conv_bias, dtype=self.dtype)
    shared: dict[str, Any] = {
      "momentum": 0.9,
      "epsilon": self.bn_epsilon,
      "axis_name": self.bn_axis_name,
    }
    norm = functools.partial(
      nn.BatchNorm,
      use_running_average=frozen or not train,
      dtype=self.dtype,
      **shared,
    )
    folded_norm = cpu.for_platform(
      cpu=None, default=functools.partial(FoldedBatchNorm, **shared)
    )
    # In float32, products of moments would need more than the usual precision.
    if frozen or not train or self.conv_bias or self.dtype != jnp.bfloat16:
      folded_norm = None
    if name == "stem":
      return Stem(
        self.width, self.small_images, conv, norm, folded_norm, name=name
      )
    if name == "head":
      return functools.partial(
        linear_head,
        num_classes=self.num_classes,
        init=self.head_init,
        dropout=self.dropout,
        train=train,
      )
    index = self.stages.index(name) - 1
    block = functools.partial(
      Block,
      width=self.width * 2**index,
      bottleneck=self.bottleneck,
      stride_first=self.version == "v1",
      conv=conv,
      norm=norm,
      folded_norm=folded_norm,
      zero_init_residual=self.zero_init_residual,
    )
    stride = 1 if index == 0 else 2
    return Stage(self.stage_sizes[index], stride, block, self.remat, name=name)


def _build(
  num_classes: int,
  *,
  stage_sizes: tuple[int, ...],
  last_stage: str | None = None,
  **attributes: Any,
) -> ResNet:
  """Makes a ResNet.

  Args:
    num_classes: the number of classes, C.
    stage_sizes: as in `ResNet`.
    last_stage: the last stage before the head, such as `stage3`; those after
      it are left out. None keeps all.
    **attributes: further attributes of `ResNet`.

  Raises:
    ValueError: an unknown stage.
  """
  if last_stage is not None:
    names = [f"stage{number + 1}" for number in range(len(stage_sizes))]
    if last_stage not in names:
      raise ValueError(
        f"model.last_stage must be one of {', '.join(names)}, "
        f"got {last_stage!r}"
      )
    stage_sizes = stage_sizes[: names.index(last_stage) + 1]
  return ResNet(stage_sizes, num_classes, **attributes)


def _model(*stage_sizes: int, **attributes: Any) -> Callable[..., ResNet]:
  return functools.partial(_build, stage_sizes=stage_sizes, **attributes)


MODELS = {
  "resnet18": _model(2, 2, 2, 2, bottleneck=False),
  "resnet34": _model(3, 4, 6, 3, bottleneck=False),
  "resnet50": _model(3, 4, 6, 3),
  "resnet101": _model(3, 4, 23, 3),
  "resnet152": _model(3, 8, 36, 3),
  # For images of about 16 pixels a side.
  "small_resnet": _model(
    1, 1, 1, bottleneck=False, width=16, small_images=True
  ),
}
