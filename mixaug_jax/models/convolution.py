"""The convolution of the ResNets: explicit padding, float32 parameters.

How the numbers are computed is decided here and nowhere else.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Dtype = Any
_FEW_PIXELS = 4  # Of an output, for which a product is the faster.


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """A square convolution, padded by half the kernel on every side.

  With an odd kernel that is the padding of torchvision and of Keras's ResNet.
  `SAME` would differ: at stride 2 it pads (0, 1) where they pad (1, 1).

  Args:
    x: `[B, H, W, I]`.
    kernel: `[K, K, I, O]` of the same dtype, K odd.
    stride: of both directions.

  Returns:
    `[B, ceil(H / stride), ceil(W / stride), O]`.
  """
  size, padding = kernel.shape[0], kernel.shape[0] // 2
  height, width = (-(-side // stride) for side in x.shape[1:3])
  few = size == 1 or height * width <= _FEW_PIXELS
  if few and jax.default_backend() == "cpu":
    return _as_product(x, kernel, stride, height, width)
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _as_product(
  x: jax.Array, kernel: jax.Array, stride: int, height: int, width: int
) -> jax.Array:
  """The convolution as one product of two matrices, `[BHW, KKI] @ [KKI, O]`.

  XLA's CPU convolution takes its time over what is one for 1x1 kernels, and
  many times as long over maps of a few pixels, where gathering each pixel's
  window is cheap. Flat matrices, because then the gradient of the kernel needs
  no transposed copies.
  """
  size, padding = kernel.shape[0], kernel.shape[0] // 2
  around = (padding, padding)
  x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
  down, right = (stride * (side - 1) + 1 for side in (height, width))
  windows = [
    x[:, top : top + down : stride, left : left + right : stride]
    for top in range(size)
    for left in range(size)
  ]
  inputs = jnp.concatenate(windows, axis=-1)
  flat = kernel.reshape(-1, kernel.shape[-1])
  product = inputs.reshape(-1, len(flat)) @ flat
  return product.reshape(len(x), height, width, -1)


class Conv(nn.Module):
  """`convolve` with its parameters, `kernel` [K, K, I, O] and `bias` [O].

  Attributes:
    features: O.
    size: K, odd.
    stride: of both directions.
    use_bias: whether there is a bias.
    dtype: of the computation; parameters are float32.
    kernel_init: of the kernel; by default that of He et al., 2015
      (arXiv:1502.01852), by the number of outputs.
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
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    x = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
    if self.use_bias:
      bias = self.param(
        "bias", nn.initializers.zeros, (self.features,), jnp.float32
      )
      x += bias.astype(self.dtype)
    return x
