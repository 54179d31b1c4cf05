"""Batch norm that costs no pass over the largest maps, for accelerators.

Training is bound by memory there. Two places of a ResNet have batch norm on
maps that are several times as large as those before or after them. In both,
normalisation is an equal computation on the smaller map.
"""

from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from mixaug_jax.models import cpu


class FoldedBatchNorm(nn.Module):
  """The batch norm of training, as a factor and an offset for each channel.

  Its variables are those of `nn.BatchNorm`, whose attributes have the same
  meaning here.

  Attributes:
    features: number of channels, C.
  """

  features: int
  momentum: float
  epsilon: float
  axis_name: Hashable | None
  scale_init: Callable[..., jax.Array] = nn.initializers.ones

  def setup(self):
    shape = (self.features,)
    self.scale = self.param("scale", self.scale_init, shape, jnp.float32)
    self.bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
    self.mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    self.var = self.variable("batch_stats", "var", jnp.ones, shape)

  def sign(self) -> jax.Array:
    """Returns the sign of each factor, 1 or -1, float32 `[C]`."""
    return jnp.where(self.scale < 0, -1.0, 1.0)

  def __call__(
    self, mean: jax.Array, square: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns factor and offset, and updates the running statistics.

    Args:
      mean: mean of each channel over this device's examples, float32 `[C]`.
      square: mean of the squares, likewise.
    """
    initializing = self.is_initializing()
    if self.axis_name is not None and not initializing:
      mean, square = lax.pmean((mean, square), self.axis_name)
    variance = jnp.maximum(0, square - mean**2)
    if not initializing:
      for running, new in ((self.mean, mean), (self.var, variance)):
        old = self.momentum * running.value
        running.value = old + (1 - self.momentum) * new
    factor = self.scale * lax.rsqrt(variance + self.epsilon)
    return factor, self.bias - mean * factor


def convolve_and_pool(
  norm: FoldedBatchNorm, x: jax.Array, kernel: jax.Array, stride: int
) -> jax.Array:
  """Returns `max_pool(norm(convolve(x, kernel, stride)))`.

  In each channel, batch norm is monotonic, so only the maxima are normalised.
  It is decreasing if its factor is negative; then the kernel changes its sign.

  Args:
    norm: the batch norm.
    x: `[B, H, W, I]`.
    kernel: float32 `[K, K, I, C]`, K odd.
    stride: stride in both directions.
  """
  sign = norm.sign()
  x = cpu.convolve(x, (sign * kernel).astype(x.dtype), stride)
  wide = x.astype(jnp.float32)
  mean, square = (jnp.mean(y, (0, 1, 2)) for y in (wide, wide**2))
  factor, offset = norm(sign * mean, square)
  return (sign * factor * cpu.max_pool(x) + offset).astype(x.dtype)


def expand(
  norm: FoldedBatchNorm, x: jax.Array, kernel: jax.Array, stride: int
) -> jax.Array:
  """Returns `norm(convolve(x, kernel, stride))` for a 1x1 kernel.

  The moments of `y = x w` follow from those of `x`:

      mean(y) = mean(x) w        mean(y^2) = diag(w^T mean(x x^T) w)

  Normalised by them, `y` is the product with a scaled kernel plus an offset. It
  is never stored, and the backward pass reads only its gradient, because the
  gradient of the scale follows from that of the kernel.

  Args:
    norm: the batch norm.
    x: `[B, H, W, I]`.
    kernel: float32 `[1, 1, I, C]`, where C is larger than I.
    stride: stride in both directions.
  """
  x, kernel = x[:, ::stride, ::stride], kernel[0, 0]
  mean, products = _moments(x)
  exactly = lambda a, b: jnp.matmul(a, b, precision="highest")
  square = jnp.sum(kernel * exactly(products, kernel), 0)
  factor, offset = norm(exactly(mean, kernel), square)
  kernel = factor * kernel
  # The product rounds the kernel, which must not shift the mean of a channel.
  offset += exactly(mean, _lost(kernel, x.dtype))
  y = _product(x, kernel)
  return (y.astype(jnp.float32) + offset).astype(x.dtype)


@jax.custom_vjp
def _moments(x):
  """Returns the means of `x`, `[I]`, and of `x x^T`, `[I, I]`, float32."""
  # A product with ones, eight to fill a tile, sums on a TPU's matrix unit.
  ones = jnp.ones((*x.shape[:3], 8), x.dtype)
  total, products = (
    jnp.einsum("bhwi,bhwj->ij", x, y, preferred_element_type=jnp.float32)
    for y in (ones, x)
  )
  count = x.size // x.shape[-1]
  return total[:, 0] / count, products / count


def _moments_forward(x):
  means = _moments(x)
  return means, (x, means[0])


def _moments_backward(kept, gradients):
  """One product for both factors of `x x^T`, where JAX has one for each."""
  x, mean = kept
  count = x.size // x.shape[-1]
  of_mean, of_products = (gradient / count for gradient in gradients)
  both = of_products + of_products.T
  # The product rounds `both`, which must not shift the sum of a channel.
  of_mean += jnp.matmul(mean, _lost(both, x.dtype), precision="highest")
  gradient = _multiply(x, both.astype(x.dtype)).astype(jnp.float32) + of_mean
  return (gradient.astype(x.dtype),)


_moments.defvjp(_moments_forward, _moments_backward)


def _lost(x, dtype):
  """Returns what rounding float32 to `dtype` takes away."""
  info = jnp.finfo(dtype)
  return x - lax.reduce_precision(x, info.nexp, info.nmant)


@jax.custom_vjp
def _product(x, kernel):
  """A product that keeps float32 sums in the gradient of its kernel."""
  return _multiply(x, kernel.astype(x.dtype))


def _product_backward(kept, gradient):
  x, kernel = kept
  of_kernel = jnp.einsum(
    "bhwi,bhwo->io", x, gradient, preferred_element_type=jnp.float32
  )
  return _multiply(gradient, kernel.T.astype(x.dtype)), of_kernel


_product.defvjp(lambda x, w: (_product(x, w), (x, w)), _product_backward)


def _multiply(x, matrix):
  return cpu.convolve(x, matrix[None, None], 1)
