"""PuzzleMix, which keeps the salient parts of both images in sight."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.boxes import whole
from mixaug_jax.augment.dtypes import from_float32, full_scale
from mixaug_jax.augment.grid_cut import best_levels
from mixaug_jax.augment.grids import permuted_cells, spread
from mixaug_jax.augment.lambdas import Beta
from mixaug_jax.augment.mixing import (
  Drawn,
  Network,
  Pair,
  Shard,
  Weights,
  mix,
  wide,
)

_NEIGHBOURHOOD = 4  # Pixels a side, to compare the images at a border.
_SCALE = 1000  # Of the mean cost of a cell, which is rounded to integers.


@dataclasses.dataclass(frozen=True)
class PuzzleMix(Beta):
  """The settings and draws of `puzzlemix`, which documents them."""

  needs: ClassVar[tuple[str, ...]] = ("saliency",)
  cells: int = 16
  levels: int = 3
  smoothness: float = 1.2
  similarity: float = 0.5
  prior: float = 0.2
  distance: float = 0.8

  def __post_init__(self):
    super().__post_init__()
    check.whole("cells", self.cells, 2, 16)
    check.whole("levels", self.levels, 2, 4)
    check.within("smoothness", self.smoothness, 0, 10)
    check.within("similarity", self.similarity, 0, 1)
    check.within("prior", self.prior, 0, 10)
    check.within("distance", self.distance, 0, 1e6)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam_key, grid_key = jax.random.split(key)
    grid = draw.integer(grid_key, 0, len(self._grids(height, width)))
    # The pixels and the label follow from the images.
    return Drawn(
      jnp.ones((height, width, 1), bool),
      jnp.float32(1),
      (self.draw_lambda(lam_key), grid),
    )

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    batch, height, width, _ = pair.images.shape
    lam, grid = drawn.extra
    lam = jnp.broadcast_to(lam, (batch,))
    saliency = [
      jax.lax.stop_gradient(spread(x, height, width))
      for x in pair.maps["saliency"]
    ]
    call = (pair.images, pair.partners, *saliency, lam)
    solvers = [
      functools.partial(self._solve, cells)
      for cells in self._grids(height, width)
    ]
    if len(grid) == 1:
      mixed, kept = jax.lax.switch(grid[0], solvers, *call)
    else:
      solved = [solve(*call) for solve in solvers]
      chosen = jnp.arange(batch, dtype=jnp.int32), grid
      mixed, kept = (jnp.stack(x, 1)[chosen] for x in zip(*solved, strict=True))
    nothing = jnp.zeros((1, height, width, 1), bool)
    return Weights(nothing, kept, 1 - kept[:, None], mixed)

  def _grids(self, height: int, width: int) -> list[int]:
    """Returns the numbers of cells in a row that the grid may have."""
    powers = [2**n for n in range(1, int(self.cells).bit_length())]
    grids = [n for n in powers if not height % n and not width % n]
    if not grids:
      raise ValueError(
        f"puzzlemix needs even sides, got images of {height}x{width} pixels"
      )
    return grids

  def _solve(self, cells, images, partners, own, other, lam):
    """Returns the mixed images, and the weights of their own labels."""
    own, other = _shares(own, cells), _shares(other, cells)
    top = int(self.levels) - 1
    # Level k of a cell is k / top of the partner.
    hidden, revealed, down, right = self._borders(cells, images, partners)
    costs = _interpolated(other + hidden, own + revealed, top)
    costs += self._prior(lam, top)[:, None, None] / cells**2
    unit = _SCALE * cells**2
    # The square of a difference of levels is in units of 1 / top**2.
    costs = whole(unit * costs) * top**2
    base = self.smoothness / cells / 16
    down, right = (whole(unit * (x + base)) for x in (down, right))
    level = best_levels(costs, down, right)
    keep = 1 - level.astype(jnp.float32) / top
    moved = [
      permuted_cells(x, self._transport(share, seen))
      for x, share, seen in (
        (images, own, keep > 0),
        (partners, other, keep < 1),
      )
    ]
    height, width = images.shape[1:3]
    weight = spread(keep, height, width)[..., None]
    dtype = wide(images.dtype)
    weight, first, second = (x.astype(dtype) for x in (weight, *moved))
    mixed = weight * first + (1 - weight) * second
    return from_float32(mixed, images.dtype), jnp.mean(keep, (1, 2))

  def _borders(self, cells, images, partners):
    """Returns what the borders of cells add to the energy.

    Neighbours cost the difference of their pixels at the border, times
    smoothness and similarity: half of it belongs to each cell, and the rest is
    paid where one shows the image and the other the partner.

    Returns:
      The costs of showing the image and of showing the partner, `[B, n, n]`;
      and the weights of neighbours in a column and in a row.
    """
    scale = full_scale(images.dtype)
    pixels = [
      jax.lax.stop_gradient(x).astype(jnp.float32) / scale
      for x in (images, partners)
    ]
    weight = self.smoothness * self.similarity / cells / 16
    shape = (len(images), cells, cells)
    of_own = of_other = jnp.zeros(shape, jnp.float32)
    across = []
    for axis in (1, 2):
      edges = [_edges(x, cells, axis) for x in pixels]
      first, second = zip(*edges, strict=True)
      cost = [[weight * _difference(a, b) for b in second] for a in first]
      ahead, behind = [[(0, 0)] * 3 for _ in range(2)]
      ahead[axis], behind[axis] = (0, 1), (1, 0)
      of_own += jnp.pad(cost[0][1] + cost[0][0], ahead) / 2
      of_own += jnp.pad(cost[1][0] + cost[0][0], behind) / 2
      of_other += jnp.pad(cost[1][0] + cost[1][1], ahead) / 2
      of_other += jnp.pad(cost[0][1] + cost[1][1], behind) / 2
      across.append((cost[0][1] + cost[1][0] - cost[0][0] - cost[1][1]) / 2)
    return of_own, of_other, *across

  def _prior(self, lam, top):
    """Returns -log of the binomial probability of each level, times prior."""
    level = jnp.arange(top + 1, dtype=jnp.float32)
    count = jnp.array([math.comb(top, k) for k in range(top + 1)], jnp.float32)
    lam, level = lam[:, None], level[None]
    probability = count[None] * lam ** (top - level) * (1 - lam) ** level
    return -self.prior * jnp.log(probability + 1e-8)

  def _transport(self, shares, seen):
    """Returns the cell of the image that moves to each place, `[B, n^2]`."""
    batch, cells, _ = shares.shape
    place = jnp.arange(cells, dtype=jnp.float32) / (cells - 1)
    squares = (place[:, None] - place[None]) ** 2
    far = squares[:, None, :, None] + squares[None, :, None]
    far = self.distance * far.reshape(1, cells**2, cells**2)
    gain = jnp.where(
      seen.reshape(batch, 1, -1), shares.reshape(batch, -1, 1), 0
    )
    return matching(far - gain)


def _shares(maps, cells):
  """Returns the share of each cell in a map, float32 `[B, cells, cells]`.

  Cells have equal shares where a map is zero, or not finite.
  """
  batch, height, width = maps.shape
  shape = (batch, cells, height // cells, cells, width // cells)
  sums = jnp.mean(maps.astype(jnp.float32).reshape(shape), (2, 4))
  total = jnp.sum(sums, (1, 2), keepdims=True)
  usable = (total > 0) & (total < jnp.inf)
  return jnp.where(usable, sums / jnp.where(usable, total, 1), 1 / cells**2)


def _interpolated(first, second, top):
  share = jnp.arange(top + 1, dtype=jnp.float32) / top
  share = share.reshape(1, 1, 1, -1)
  return (1 - share) * first[..., None] + share * second[..., None]


def _difference(first, second):
  """Returns the mean difference along a border, at most 1.

  Energies of larger ones, as of images that are not in [0, 1], would have no
  minimum cut.
  """
  difference = abs(first - second)
  return jnp.mean(jnp.where(difference < 1, difference, 1), -1)


def _edges(pixels, cells, axis):
  """Returns the pixels on both sides of the borders between cells.

  Pixels are means of square neighbourhoods, so that fine texture is no border.

  Returns:
    Two arrays: the last pixels of a cell and the first ones of the next, with
    the borders on `axis` and the pixels and channels of a border on the last.
  """
  batch, height, width, channels = pixels.shape
  sides = []
  for side in (height // cells, width // cells):
    size = min(_NEIGHBOURHOOD, side)
    sides.append(next(n for n in range(size, 0, -1) if not side % n))
  rows, columns = (
    side // cells // n for side, n in zip((height, width), sides, strict=True)
  )
  means = pixels.reshape(
    batch, cells * rows, sides[0], cells * columns, sides[1], channels
  )
  means = jnp.mean(means, (2, 4))
  means = means.reshape(batch, cells, rows, cells, columns, channels)
  if axis == 2:
    means = means.swapaxes(2, 4).swapaxes(1, 3)
  # Now `[B, cells, depth, cells, length, C]` with the borders on the first.
  last, first = means[:, :-1, -1], means[:, 1:, 0]
  ends = [x.reshape(*x.shape[:3], -1) for x in (last, first)]
  return tuple(x.swapaxes(1, 2) if axis == 2 else x for x in ends)


def matching(costs: jax.Array) -> jax.Array:
  """Returns the row that each column gets.

  Each row asks for its cheapest column, and a column keeps the cheapest row
  that asks; the others ask for their next column, until none is refused. This
  is the masked transport of PuzzleMix (algorithm 1), and the deferred
  acceptance of Gale and Shapley (1962).

  Args:
    costs: of each row and column, float `[B, n, n]`.

  Returns:
    A permutation of the rows, int32 `[B, n]`.
  """
  batch, n, _ = costs.shape
  example = jnp.arange(batch, dtype=jnp.int32)[:, None]
  row = jnp.arange(n, dtype=jnp.int32)[None]

  def ask(state):
    costs, *_ = state
    column = jnp.argmin(costs, 2).astype(jnp.int32)
    price = jnp.min(costs, 2)
    best = jnp.full((batch, n), jnp.inf, costs.dtype)
    best = best.at[example, column].min(price)
    cheapest = price == best[example, column]
    kept = jnp.full((batch, n), n, jnp.int32)
    kept = kept.at[example, column].min(jnp.where(cheapest, row, n))
    refused = kept[example, column] != row
    more = jnp.where(refused, jnp.inf, 0)
    costs = costs.at[example, row, column].add(more.astype(costs.dtype))
    return costs, kept, jnp.any(refused)

  # The first round is a part of the loop. XLA could otherwise compute the costs
  # twice, with other rounding, and a row might be refused for ever. What starts
  # the loop varies over a mesh as the costs do.
  nobody = jnp.argmin(costs, 2).astype(jnp.int32)
  start = costs, nobody, jnp.all(nobody >= 0)
  return jax.lax.while_loop(lambda state: state[2], ask, start)[1]


def puzzlemix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 1.0,
  *,
  network: Network,
  cells: int = 16,
  levels: int = 3,
  smoothness: float = 1.2,
  similarity: float = 0.5,
  prior: float = 0.2,
  distance: float = 0.8,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Arranges the salient cells of two images side by side (Kim et al., 2020).

  PuzzleMix, arXiv:2009.06962. A batch draws a grid of n x n cells, with n in 2,
  4, 8, ... up to `cells`, among those that divide the sides. Each cell shows a
  share z of the image, 0, ..., 1 in `levels` steps, and 1 - z of its partner.
  The levels minimise an energy, exactly and by a minimum cut, see
  `grid_cut.best_levels`:

  - the saliency that is hidden, as a share of all of it;
  - `smoothness` / (16 n) times the squared difference of neighbours;
  - `smoothness` * `similarity` / (16 n) times the difference of the pixels on
    both sides of a border, for what the two neighbours show;
  - `prior` / n^2 times -log of the binomial probability of a level, given
    lam ~ Beta(alpha, alpha).

  Then the cells of each image move to where they are seen: a move costs
  `distance` times the squared length, with 1 for the side of the grid, and
  gains the saliency of the cell, see `matching`. The weight of the label is the
  mean of z.

  The defaults are those of the authors' commands; whole cells move, as in their
  code for ImageNet. It finds the levels by swaps, a local minimum, and stops
  the transport after n rounds; here it goes on, for up to n^2 rounds if
  `distance` is small. The paper's adversarial noise and its loss of clean
  images are not a part of it.

  Args:
    key: a PRNG key, typed or raw; draws lambda, the grid and the partners.
    images: `[B, H, W, C]`, any real dtype, with even sides; integers hold
      levels 0 to 255, floats are in [0, 1].
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0.
    network: `{"saliency": function}`; the function of `(images, labels)`
      returns a map for each example, `[B, h, w]`, not negative: in the paper,
      the root mean square over the channels of the gradient of the loss.
    cells: most cells in a row, 2 to 16.
    levels: number of shares that a cell can have, 2 to 4.
    smoothness: weight of differences between neighbours, in [0, 10]; beta in
      the paper.
    similarity: weight of pixels in them, in [0, 1]; gamma in the paper.
    prior: weight of lambda, in [0, 10]; eta in the paper.
    distance: cost of a move, at least 0, xi in the paper; a large number
      prevents all.
    min_lambda: lower bound on the lam of the prior.
    max_lambda: upper bound on it.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`; costs the solution of every grid.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`, a side is odd, or `network` lacks the function.
  """
  return mix(
    key,
    images,
    labels,
    (
      PuzzleMix(
        alpha,
        min_lambda,
        max_lambda,
        cells,
        levels,
        smoothness,
        similarity,
        prior,
        distance,
      ),
    ),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
    network=network,
  )
