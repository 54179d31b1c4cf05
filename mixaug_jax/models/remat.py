"""Computing later, or twice, what would otherwise wait in memory."""

from typing import Any

import jax
from flax import linen as nn


def after(x: jax.Array, tree: Any) -> jax.Array:
  """Returns `x`, not to be had before all arrays of `tree` are.

  `jax.lax.optimization_barrier` says the same, but XLA's CPU compiler drops
  it early, and then computes things side by side or merges them. So this adds
  nought times a number of every array, which no compiler may leave out: the
  product is NaN where the number is not finite, and so is `x` then.
  """
  numbers = (leaf.ravel()[0] for leaf in jax.tree.leaves(tree))
  return x + (0 * sum(numbers)).astype(x.dtype)


def recomputed(block: nn.Module, x: jax.Array) -> jax.Array:
  """Returns `block(x)`; the backward pass keeps `x` and computes the rest anew.

  Chen et al., 2016, arXiv:1604.06174; `nn.remat` does it with a barrier, see
  `after`.

  Args:
    block: of one argument and without drop-out, in a module's `__call__`.
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
