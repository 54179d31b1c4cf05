"""ResNets in Linen (He et al., 2016, arXiv:1512.03385), in two dialects.

v1, of the paper and of Keras, puts the stride of a bottleneck into its first
1x1 convolution; v1.5, of torchvision and timm, into its 3x3. The variables are
grouped by stage: `stem`, `stage1` to `stageN` and `head` are the top names of
`params` and `batch_stats`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixaug_jax.models.convolution import Conv
from mixaug_jax.models.pooling import max_pool
from mixaug_jax.models.remat import recomputed

Dtype = Any
HEAD_INITS = {
  "lecun_normal": nn.initializers.lecun_normal(),
  "zeros": nn.initializers.zeros,
}


class Block(nn.Module):
  """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1.

  Attributes:
    width: channels of the first convolution; a bottleneck gives four times
      as many.
    stride: of the whole block.
    bottleneck: whether there are three convolutions.
    stride_first: whether a bottleneck's stride is in its first convolution.
    conv: makes a convolution, of `(features, size, stride, name)`.
    norm: makes a batch norm, of `(name, scale_init)`.
    zero_init_residual: whether the last batch-norm scale starts at zero, and
      the block as its shortcut.
  """

  width: int
  stride: int
  bottleneck: bool
  stride_first: bool
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  zero_init_residual: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.bottleneck:
      features, sizes = 4 * self.width, (1, 3, 1)
    else:
      features, sizes = self.width, (3, 3)
    strided = 1 if self.bottleneck and not self.stride_first else 0
    shortcut = x
    if self.stride != 1 or x.shape[-1] != features:
      shortcut = self.conv(features, 1, self.stride, name="shortcut_conv")(x)
      shortcut = self.norm(name="shortcut_bn")(shortcut)
    last = len(sizes) - 1
    for index, size in enumerate(sizes):
      x = self.conv(
        features if index == last else self.width,
        size,
        self.stride if index == strided else 1,
        name=f"conv{index + 1}",
      )(x)
      zero = self.zero_init_residual and index == last
      scale_init = nn.initializers.zeros if zero else nn.initializers.ones
      x = self.norm(name=f"bn{index + 1}", scale_init=scale_init)(x)
      if index != last:
        x = nn.relu(x)
    return nn.relu(x + shortcut)


class Stage(nn.Module):
  """Blocks of one width, the first of them with the stride.

  Attributes:
    blocks: their number.
    stride: of the first.
    block: makes a block, of `(stride, name)`.
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
      x = recomputed(block, x) if self.remat else block(x)
    return x


class Stem(nn.Module):
  """The first convolution, and the max-pool of large images.

  Attributes:
    width: channels.
    small_images: 3x3 at stride 1 and no pool, in place of 7x7 at stride 2 and
      a 3x3 pool at stride 2.
    conv: as in `Block`.
    norm: as in `Block`.
  """

  width: int
  small_images: bool
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    size, stride = (3, 1) if self.small_images else (7, 2)
    x = self.conv(self.width, size, stride, name="conv")(x)
    x = nn.relu(self.norm(name="bn")(x))
    if self.small_images:
      return x
    return max_pool(x)


class ResNet(nn.Module):
  """A ResNet.

  Attributes:
    stage_sizes: blocks of each stage.
    num_classes: C.
    bottleneck: blocks of three convolutions rather than two.
    width: channels of the stem; each stage doubles them.
    small_images: the stem of `Stem`.
    version: "v1" or "v1.5", see the module.
    conv_bias: whether convolutions have a bias.
    bn_epsilon: added to the variance by batch norm.
    bn_axis_name: axis over which batch statistics are averaged, or None.
    freeze_batch_norm: in training too, normalise by the running statistics
      and leave them as they are.
    frozen: stages that are not trained: their batch norm is frozen, and no
      gradient is computed for a stage that has only frozen ones before it.
    zero_init_residual: as in `Block`.
    head_init: initialiser of the head's kernel, a key of HEAD_INITS.
    dropout: rate, before the head.
    remat: whether the backward pass computes what is inside a block anew,
      rather than keep it from the forward pass (Chen et al., 2016,
      arXiv:1604.06174): less memory, more time, the same numbers.
    dtype: of the computation up to the head; parameters, batch statistics
      and the head are float32.
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

  @property
  def stages(self) -> tuple[str, ...]:
    """The names of all stages, stem and head included, in order."""
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
    """Runs the stages from `start` to `stop`, both included.

    Args:
      x: preprocessed images `[B, H, W, 3]`, or what the stage before `start`
        returned.
      train: whether to normalise by batch statistics, updating the running
        ones, and to drop out.
      start: a name of `stages`.
      stop: another, not before `start`.

    Returns:
      Logits, float32 `[B, C]`, if `stop` is the head; else the activations of
      that stage, `[B, h, w, c]` in `dtype`.
    """
    names = self.stages
    for name in names[names.index(start) : names.index(stop) + 1]:
      x = self._stage(name, train)(x)
      if name in self.frozen and set(names[: names.index(name)]) <= set(
        self.frozen
      ):
        x = jax.lax.stop_gradient(x)
    return x

  def _stage(self, name: str, train: bool) -> Callable[[jax.Array], jax.Array]:
    frozen = self.freeze_batch_norm or name in self.frozen
    conv = functools.partial(Conv, use_bias=self.conv_bias, dtype=self.dtype)
    norm = functools.partial(
      nn.BatchNorm,
      use_running_average=frozen or not train,
      momentum=0.9,
      epsilon=self.bn_epsilon,
      axis_name=self.bn_axis_name,
      dtype=self.dtype,
    )
    if name == "stem":
      return Stem(self.width, self.small_images, conv, norm, name=name)
    if name == "head":
      return functools.partial(self._head, train=train)
    index = self.stages.index(name) - 1
    block = functools.partial(
      Block,
      width=self.width * 2**index,
      bottleneck=self.bottleneck,
      stride_first=self.version == "v1",
      conv=conv,
      norm=norm,
      zero_init_residual=self.zero_init_residual,
    )
    stride = 1 if index == 0 else 2
    return Stage(self.stage_sizes[index], stride, block, self.remat, name=name)

  def _head(self, x: jax.Array, train: bool) -> jax.Array:
    """Mean over the image, drop-out, and one linear layer; in float32."""
    x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(
      self.num_classes,
      kernel_init=HEAD_INITS[self.head_init],
      precision=jax.lax.Precision.HIGHEST,
      name="head",
    )(x)


_MODELS = {
  "resnet18": {"stage_sizes": (2, 2, 2, 2), "bottleneck": False},
  "resnet34": {"stage_sizes": (3, 4, 6, 3), "bottleneck": False},
  "resnet50": {"stage_sizes": (3, 4, 6, 3)},
  "resnet101": {"stage_sizes": (3, 4, 23, 3)},
  "resnet152": {"stage_sizes": (3, 8, 36, 3)},
  # For images of some 16 pixels a side.
  "small_resnet": {
    "stage_sizes": (1, 1, 1),
    "bottleneck": False,
    "width": 16,
    "small_images": True,
  },
}
NAMES = tuple(_MODELS)


def create_model(
  name: str,
  num_classes: int,
  last_stage: str | None = None,
  **attributes: Any,
) -> ResNet:
  """Makes a ResNet by name.

  Args:
    name: one of NAMES.
    num_classes: the number of logits.
    last_stage: `stage3`, say, for a network that has none after it; None: all.
    **attributes: further attributes of `ResNet`.

  Raises:
    ValueError: a name or a value that there is not.
  """
  if name not in NAMES:
    raise ValueError(
      f"model.name must be one of {', '.join(NAMES)}, got {name!r}"
    )
  attributes = {**_MODELS[name], **attributes}
  if last_stage is not None:
    sizes = attributes["stage_sizes"]
    stages = [f"stage{number + 1}" for number in range(len(sizes))]
    if last_stage not in stages:
      raise ValueError(
        f"model.last_stage must be one of {', '.join(stages)}, "
        f"got {last_stage!r}"
      )
    attributes["stage_sizes"] = sizes[: stages.index(last_stage) + 1]
  model = ResNet(num_classes=num_classes, **attributes)
  if model.version not in ("v1", "v1.5"):
    raise ValueError(f"version must be v1 or v1.5, got {model.version!r}")
  if model.head_init not in HEAD_INITS:
    raise ValueError(
      f"model.head_init must be one of {', '.join(HEAD_INITS)}, "
      f"got {model.head_init!r}"
    )
  if unknown := set(model.frozen) - set(model.stages):
    raise ValueError(
      f"optimizer.freeze: {name} has no {', '.join(sorted(unknown))}; it has "
      f"{', '.join(model.stages)}"
    )
  return model
