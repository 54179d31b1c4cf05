"""The max-pool of the ResNets' stem."""

import jax
import jax.numpy as jnp
from flax import linen as nn


def max_pool(x: jax.Array) -> jax.Array:
  """The maximum of every 3x3 window at stride 2, padded by one.

  Args:
    x: `[B, H, W, C]`.

  Returns:
    `[B, ceil(H / 2), ceil(W / 2), C]`. The gradient goes to the first maximum
    of a window, row by row.
  """
  if jax.default_backend() != "cpu":
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
  odd = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
  return _indexed_max_pool(jnp.pad(x, odd, constant_values=-jnp.inf))


@jax.custom_vjp
def _indexed_max_pool(x):
  """Of even sides. Keeps where each maximum was.

  XLA's gradient of a pool, a select-and-scatter, takes one CPU thread many
  times as long as the whole of this.
  """
  return _forward(x)[0]


def _forward(x):
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


def _backward(where, gradient):
  """Gathers, for the pixels of each parity, from the windows that hold them."""
  batch, height, width, channels = where.shape
  after = ((0, 0), (0, 1), (0, 1), (0, 0))
  where = jnp.pad(where, after, constant_values=9)
  gradient = jnp.pad(gradient, after)

  def sent(index, down, right):
    """What windows, so far down and right, send to their pixel `index`."""
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


_indexed_max_pool.defvjp(_forward, _backward)
