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
  size = kernel.shape[0]
  if size == 1 and jax.default_backend() == "cpu":
    # XLA's CPU convolution takes its time over what is a matrix product, and
    # flattened to one its weight gradient needs no transposed copies.
    x = x[:, ::stride, ::stride]
    product = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return product.reshape(*x.shape[:3], -1)
  padding = size // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


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
