"""Forms of operations that suit the compiler of a platform, and their choice.

`for_platform` is the only place that asks which platform programs run on. All
forms compute the same function; what differs is time and memory.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero

T = TypeVar("T")

# At its highest level, LLVM takes over a second per array of random numbers to
# compile a program that initialises parameters. The numbers are the same.
INIT_COMPILER_OPTIONS = {"xla_backend_optimization_level": 1}

# A convolution with at most this many output pixels is faster as a product.
_FEW_PIXELS = 4

# The weight gradient of a 3x3 convolution with at most this many input channels
# is faster by `_convolve_few_channels`.
_FEW_CHANNELS = 32


_target: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  "target", default=None
)


@contextlib.contextmanager
def target(platform: str) -> Iterator[None]:
  """Chooses forms for a platform that may not be JAX's default backend.

  A model must be made, and its program traced, inside this context.

  Args:
    platform: "cpu", "cuda" or "tpu".
  """
  token = _target.set(platform)
  try:
    yield
  finally:
    _target.reset(token)


def for_platform(*, cpu: T, default: T, tpu: T | None = None) -> T:
  """Returns the form for the platform of `target`, or JAX's default backend.

  Args:
    cpu: the form for CPUs.
    default: the form for all other platforms.
    tpu: the form for TPUs, if it is not `default`.
  """
  platform = _target.get() or jax.default_backend()
  if platform == "tpu" and tpu is not None:
    return tpu
  return cpu if platform == "cpu" else default


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves with a square kernel, padded by half the kernel on every side.

  With an odd kernel, torchvision and Keras's ResNet pad in the same way. `SAME`
  would differ: at stride 2 it pads (0, 1) where they pad (1, 1).

  Args:
    x: `[B, H, W, I]`.
    kernel: `[K, K, I, O]` of the same dtype, K odd.
    stride: stride in both directions.

  Returns:
    `[B, ceil(H / stride), ceil(W / stride), O]`.
  """
  height, width = (-(-side // stride) for side in x.shape[1:3])
  form = _convolve
  if len(kernel) == 1 or height * width <= _FEW_PIXELS:
    form = _convolve_as_product
  elif len(kernel) == 3 and x.shape[-1] <= _FEW_CHANNELS:
    form = _convolve_few_channels
  return for_platform(cpu=form, default=_convolve)(x, kernel, stride)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  padding = len(kernel) // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolve_few_channels(
  x: jax.Array, kernel: jax.Array, stride: int
) -> jax.Array:
  """Convolves, with the input of the weight gradient transposed by a product.

  XLA's weight gradient reads its input with the channels first. It fuses the
  transpose with all that makes the input, such as batch norm, and reads every
  array in steps of a whole image, which miss the caches. A product with the
  identity puts the channels first at the speed of memory. The values are equal.
  """
  return _convolve(x, kernel, stride)


def _convolve_tangent(stride, primals, tangents):
  x, kernel = primals
  of_x, of_kernel = tangents
  y = _convolve(x, kernel, stride)
  tangent = jnp.zeros_like(y)
  if not isinstance(of_x, SymbolicZero):
    tangent += _convolve(of_x, kernel, stride)
  if not isinstance(of_kernel, SymbolicZero):
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)
    channels_first = jnp.tensordot(identity, x, (1, 3))
    x = jnp.moveaxis(channels_first, 0, 3)
    tangent += _convolve(x, of_kernel, stride)
  return y, tangent


_convolve_few_channels.defjvp(_convolve_tangent, symbolic_zeros=True)


def _convolve_as_product(
  x: jax.Array, kernel: jax.Array, stride: int
) -> jax.Array:
  """Computes a convolution as a matrix product, `[BHW, KKI] @ [KKI, O]`.

  XLA's CPU convolution is slower than a product for 1x1 kernels, and many times
  slower for maps of a few pixels, where it is cheap to gather the window of
  each pixel. The matrices are flat because the gradient of the kernel then
  needs no transposed copies.
  """
  size, padding = len(kernel), len(kernel) // 2
  height, width = (-(-side // stride) for side in x.shape[1:3])
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


def relu(x: jax.Array) -> jax.Array:
  """Returns `max(x, 0)`.

  On GPUs, the result is stored for the gradient. XLA would otherwise compute it
  a second time from all that `x` is made of, which it keeps until then.
  """
  form: Any = for_platform(cpu=nn.relu, default=_stored_relu, tpu=nn.relu)
  return form(x)


@jax.custom_jvp
def _stored_relu(x):
  return lax.optimization_barrier(jnp.maximum(x, 0))


_stored_relu.defjvps(
  lambda tangent, result, x: jnp.where(result > 0, tangent, 0)
)


def max_pool(x: jax.Array) -> jax.Array:
  """Takes the maximum of every 3x3 window at stride 2, padded by one pixel.

  Args:
    x: `[B, H, W, C]`.

  Returns:
    `[B, ceil(H / 2), ceil(W / 2), C]`. The gradient goes to the first maximum
    of a window, row by row.
  """
  form = for_platform(
    cpu=_padded_max_pool, default=_padded_max_pool, tpu=_max_pool
  )
  return form(x)


def _max_pool(x: jax.Array) -> jax.Array:
  padding: Any = ((1, 1), (1, 1))  # Flax's own type is str.
  return nn.max_pool(x, (3, 3), strides=(2, 2), padding=padding)


def _padded_max_pool(x):
  odd = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
  return _indexed_max_pool(jnp.pad(x, odd, constant_values=-jnp.inf))


@jax.custom_vjp
def _indexed_max_pool(x):
  """Pools a map of even sides and keeps the place of each maximum.

  XLA's gradient of a pool, a select-and-scatter, takes one CPU thread many
  times as long as this function and its gradient. On a GPU it stores int32
  positions and scatters in three passes over the map.
  """
  return _pool_forward(x)[0]


def _pool_forward(x):
  _, height, width, _ = x.shape
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
  views = [
    x[:, top : top + height : 2, left : left + width : 2]
    for top in range(3)
    for left in range(3)
  ]
  largest, where = views[0], jnp.zeros(views[0].shape, jnp.uint8)
  for index, view in enumerate(views[1:], 1):
    where = jnp.where(view > largest, jnp.uint8(index), where)
    largest = jnp.maximum(largest, view)
  return largest, where


def _pool_backward(where, gradient):
  """Gathers, for the pixels of each parity, from the windows that hold them."""
  batch, height, width, channels = where.shape
  below_and_right = ((0, 0), (0, 1), (0, 1), (0, 0))
  where = jnp.pad(where, below_and_right, constant_values=9)
  gradient = jnp.pad(gradient, below_and_right)

  def sent(index, down, right):
    """Returns what the windows at an offset send to their pixel `index`."""
    box = (slice(None), slice(down, down + height), slice(right, right + width))
    return jnp.where(where[box] == index, gradient[box], 0)

  pixels = [
    [sent(4, 0, 0), sent(5, 0, 0) + sent(3, 0, 1)],
    [
      sent(7, 0, 0) + sent(1, 1, 0),
      sent(8, 0, 0) + sent(6, 0, 1) + sent(2, 1, 0) + sent(0, 1, 1),
    ],
  ]
  rows = jnp.stack([jnp.stack(row, 3) for row in pixels], 2)
  return (rows.reshape(batch, 2 * height, 2 * width, channels),)


_indexed_max_pool.defvjp(_pool_forward, _pool_backward)


def after(x: jax.Array, tree: Any) -> jax.Array:
  """Returns `x`, made to depend on every array of `tree`.

  `jax.lax.optimization_barrier` has this purpose, but XLA's CPU compiler drops
  it early and then reorders or merges the computations. This function instead
  adds zero times one number of every array, which a compiler must keep: the
  product is NaN if the number is not finite, and then so is `x`. It is used on
  every platform.
  """
  numbers = (leaf.ravel()[0] for leaf in jax.tree.leaves(tree))
  return x + jnp.asarray(0 * sum(numbers)).astype(x.dtype)


def recomputed(block: nn.Module, x: jax.Array) -> jax.Array:
  """Returns `block(x)`; the backward pass keeps `x` and recomputes the rest.

  The method is that of Chen et al., 2016, arXiv:1604.06174. `nn.remat` relies
  on a barrier that XLA's CPU compiler drops, see `after`.

  Args:
    block: a module of one argument without dropout, inside the `__call__` of
      another module.
    x: the argument.
  """
  module = block.clone(parent=None, name=None)

  def forward(block: nn.Module, x: jax.Array) -> tuple[jax.Array, Any]:
    return block(x), (block.variables, x)

  def backward(kept: Any, gradient: jax.Array) -> tuple[Any, jax.Array]:
    variables, x = kept

    def again(params: Any, x: jax.Array) -> jax.Array:
      return module.apply(
        {**variables, "params": params}, x, mutable=["batch_stats"]
      )[0]

    _, pull = jax.vjp(again, variables["params"], after(x, gradient))
    params, x = pull(gradient)
    return {"params": params}, x

  return nn.custom_vjp(
    lambda block, x: block(x), forward_fn=forward, backward_fn=backward
  )(block, x)
