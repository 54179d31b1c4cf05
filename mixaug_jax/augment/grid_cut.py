"""Levels of least energy on a grid, by a minimum cut.

The graph is that of Ishikawa, 2003, "Exact optimization for Markov random
fields with convex priors", TPAMI 25. The cut is found by push-relabel (Goldberg
and Tarjan, 1988, J. ACM 35), with all nodes at a time and exact heights now and
then. Everything is a whole number, so the result does not depend on the device.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

# Sweeps of pushes between two computations of the exact heights.
_SWEEPS = 16
_FAR = 2**29  # The height of a node that cannot reach the sink.
_ENDLESS = 2**29  # A capacity that no flow fills.


def best_levels(
  costs: jax.Array, down: jax.Array, right: jax.Array
) -> jax.Array:
  """Returns the levels x of the least energy; of several, the largest.

      sum over cells of costs[x]
        + sum over neighbours p and q of weight * (x[p] - x[q])**2

  The minimum is exact. What can flow into one cell, its costs and levels**2
  times its weights, must be below 2**29.

  Args:
    costs: of each level in each cell, int32 `[B, H, W, levels]`.
    down: weights of each cell and the one below, not negative, int32
      `[B, H - 1, W]`.
    right: weights of each cell and the one to the right, int32 `[B, H, W - 1]`.

  Returns:
    int32 `[B, H, W]`, from 0 to levels - 1.
  """
  top = costs.shape[-1] - 1
  # Node k of a cell is on the side of the source if its level is above k. As
  # x = x**2 for 0 and 1, the square is a sum of cuts between each node of p and
  # each of q, and a cost of each cell, weight * (x**2 - top * x).
  down = jnp.pad(down, ((0, 0), (0, 1), (0, 0)))
  right = jnp.pad(right, ((0, 0), (0, 0), (0, 1)))
  around = down + right + jnp.roll(down, 1, 1) + jnp.roll(right, 1, 2)
  level = jnp.arange(top + 1, dtype=jnp.int32)
  square = level * (level - top)
  costs += around[..., None] * square.reshape(1, 1, 1, -1)
  costs -= jnp.min(costs, -1, keepdims=True)
  costs = jnp.moveaxis(costs, -1, 1)
  arcs = {}
  for layers in range(1 - top, top):
    exists = (level[:top] + layers >= 0) & (level[:top] + layers < top)
    exists = exists[None, :, None, None]
    for weights, (y, x) in ((down, (1, 0)), (right, (0, 1))):
      both = jnp.where(exists, weights[:, None], 0)
      arcs[layers, y, x] = both
      arcs[-layers, -y, -x] = jnp.roll(both, (layers, y, x), (1, 2, 3))
  chain = jnp.concatenate([costs[:, 1:top], jnp.zeros_like(costs[:, :1])], 1)
  arcs[1, 0, 0] = chain
  back = jnp.where(level[:top] > 0, _ENDLESS, 0)[None, :, None, None]
  arcs[-1, 0, 0] = jnp.broadcast_to(back, chain.shape)
  zeros = jnp.zeros_like(chain)
  excess = zeros.at[:, 0].set(costs[:, 0])
  to_sink = zeros.at[:, -1].set(costs[:, top])
  return _cut(arcs, excess, to_sink)


def _cut(arcs, excess, to_sink):
  """Returns the number of nodes in each column that cannot reach the sink.

  Args:
    arcs: capacities to the node that is so many layers, rows and columns away,
      int32 `[B, layers, H, W]`, 0 where there is no such node.
    excess: what flows in from the source.
    to_sink: capacities to the sink.
  """
  batch, *shape = excess.shape
  steps = list(arcs)
  opposite = np.array(
    [steps.index(tuple(-n for n in x)) for x in steps], np.int32
  )
  number = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
  # The number of the neighbour of each node, `[arcs, nodes]`.
  neighbour = np.stack(
    [np.roll(number, [-n for n in x], (0, 1, 2)).reshape(-1) for x in steps]
  )
  capacities = jnp.stack(list(arcs.values()), 1).reshape(batch, len(steps), -1)
  excess, to_sink = (x.reshape(batch, -1) for x in (excess, to_sink))

  def raised(height, capacities, to_sink):
    """Returns one more than the lowest height that a node can push to."""
    least = jnp.where(capacities > 0, height[:, neighbour], _FAR)
    least = jnp.minimum(jnp.min(least, 1), jnp.where(to_sink > 0, 0, _FAR))
    return jnp.minimum(least + 1, _FAR)

  def distances(capacities, to_sink):
    """Returns the number of arcs to the sink."""

    def nearer(state):
      height, _ = state
      new = jnp.minimum(height, raised(height, capacities, to_sink))
      return new, jnp.any(new != height)

    far = jnp.full_like(to_sink, _FAR)
    start = nearer((far, True))
    return jax.lax.while_loop(lambda state: state[1], nearer, start)[0]

  def push(arc, state):
    height, excess, capacities = state
    to, back = (jnp.asarray(x)[arc] for x in (neighbour, opposite))
    lower = height == height[:, to] + 1
    out = jnp.where(lower, jnp.minimum(excess, capacities[:, arc]), 0)
    arrived = out[:, jnp.asarray(neighbour)[back]]
    capacities = capacities.at[:, arc].add(-out).at[:, back].add(arrived)
    return height, excess + arrived - out, capacities

  def sweep(_, state):
    height, excess, to_sink, capacities = state
    out = jnp.where(height == 1, jnp.minimum(excess, to_sink), 0)
    excess, to_sink = excess - out, to_sink - out
    height, excess, capacities = jax.lax.fori_loop(
      0, len(steps), push, (height, excess, capacities)
    )
    new = jnp.maximum(height, raised(height, capacities, to_sink))
    return jnp.where(excess > 0, new, height), excess, to_sink, capacities

  def flow(state):
    _, *state = state
    state = jax.lax.fori_loop(0, _SWEEPS, sweep, tuple(state))
    _, excess, to_sink, capacities = state
    height = distances(capacities, to_sink)
    more = jnp.any((excess > 0) & (height < _FAR))
    return more, height, excess, to_sink, capacities

  # Heights of 0 are valid, because no arc leads down by more than 1.
  yes = jnp.all(excess == excess)  # True, on the devices of the rest.
  start = yes, jnp.zeros_like(excess), excess, to_sink, capacities
  _, height, *_ = jax.lax.while_loop(lambda state: state[0], flow, start)
  return jnp.sum((height >= _FAR).reshape(batch, *shape), 1, jnp.int32)
