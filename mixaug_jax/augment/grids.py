"""Mixers that cut images into the cells of a grid, or into tiles."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.boxes import whole
from mixaug_jax.augment.lambdas import Beta
from mixaug_jax.augment.mixing import (
  Drawn,
  Mixer,
  Pair,
  Shard,
  Weights,
  mix,
)

_MOST_CELLS = 64


@dataclasses.dataclass(frozen=True)
class GridMix(Beta):
  """The settings and draws of `gridmix`, which documents them."""

  cells: int = 4

  def __post_init__(self):
    super().__post_init__()
    check.whole("cells", self.cells, 1, _MOST_CELLS)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam_key, y_key, x_key = jax.random.split(key, 3)
    cell = -(-width // self.cells)
    y, x = draw.integer(y_key, 0, cell), draw.integer(x_key, 0, cell)
    lam = self.draw_lambda(lam_key)
    keep = ~grid_holes(lam, cell, y, x, height, width)[..., None]
    return Drawn(keep, jnp.mean(keep, dtype=jnp.float32))


def grid_holes(
  lam: jax.Array,
  cell: int,
  y: jax.Array | int,
  x: jax.Array | int,
  height: int,
  width: int,
) -> jax.Array:
  """Returns a square hole in each cell of a grid, bool `[height, width]`.

  Args:
    lam: share of a cell that is no hole, up to whole pixels. A hole has at
      least one pixel a side and one less than the cell.
    cell: pixels a side of a cell.
    y: rows by which the grid is moved up.
    x: columns by which it is moved to the left.
    height: rows of the image.
    width: columns of the image.
  """
  # A cell of one pixel has no room for both images.
  side = jnp.clip(whole(cell * jnp.sqrt(1 - lam)), 1, max(cell - 1, 1))
  inside = lambda start, size: (
    (jnp.arange(size, dtype=jnp.int32) + start) % cell < side
  )
  return inside(y, height)[:, None] & inside(x, width)[None]


def gridmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 1.0,
  *,
  cells: int = 4,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Pastes a grid of squares of another image (Baek et al., 2021).

  "GridMix: Strong regularization through local context mapping", Pattern
  Recognition 109, in the form of the GridMixup and OpenMixup packages. Each
  cell of the grid has a hole with the side sqrt(1 - lam) times that of the
  cell, rounded down, with lam ~ Beta(alpha, alpha). Every hole has at least one
  pixel, and one less than the cell a side. The grid starts at a uniform pixel,
  so that every pixel can be covered; in those packages, it starts at a corner.
  The weight of the label is lam = 1 - (pixels of holes) / (H W).

  The paper's second loss, which classifies each cell, is not a part of it.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0.
    cells: cells in a row of the grid, 1 to 64. OpenMixup's default is 20, for
      224 pixels. A cell has W / cells pixels a side, rounded up.
    min_lambda: lower bound on lam before the rounding to pixels.
    max_lambda: upper bound on it.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`.
  """
  return mix(
    key,
    images,
    labels,
    (GridMix(alpha, min_lambda, max_lambda, cells),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class PatchMix(Beta):
  """The settings and draws of `patchmix`, which documents them."""

  cells: int = 4

  def __post_init__(self):
    super().__post_init__()
    check.whole("cells", self.cells, 1, _MOST_CELLS)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    lam_key, order_key = jax.random.split(key)
    count = self.cells**2
    kept = whole(jnp.round(self.draw_lambda(lam_key) * count))
    rank = jax.random.permutation(order_key, jnp.arange(count, dtype=jnp.int32))
    keep = (rank < kept).reshape(self.cells, self.cells)
    keep = spread(keep, height, width)[..., None]
    return Drawn(keep, jnp.mean(keep, dtype=jnp.float32))


def spread(grid: jax.Array, height: int, width: int) -> jax.Array:
  """Enlarges `[..., h, w]` to the pixels of an image, nearest neighbour."""
  rows, columns = grid.shape[-2:]
  y = jnp.arange(height, dtype=jnp.int32) * rows // height
  x = jnp.arange(width, dtype=jnp.int32) * columns // width
  return grid[..., y[:, None], x[None]]


def patchmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  alpha: float = 1.0,
  *,
  cells: int = 4,
  min_lambda: float = 0.0,
  max_lambda: float = 1.0,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Takes random cells of a grid from another image, as a jigsaw of two.

  The first image keeps round(lam * cells^2) random cells, with lam ~
  Beta(alpha, alpha). This is the random mask of TokenMix (Liu et al., 2022,
  arXiv:2207.08409) without its label rule. The weight of the label is
  lam = (pixels kept) / (H W).

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    alpha: parameter of Beta(alpha, alpha), above 0.
    cells: cells in a row and in a column of the grid, 1 to 64. They may differ
      by a pixel. A vision transformer has W / patch tokens in a row.
    min_lambda: lower bound on lam before the rounding to cells.
    max_lambda: upper bound on it.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`.
  """
  return mix(
    key,
    images,
    labels,
    (PatchMix(alpha, min_lambda, max_lambda, cells),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class Jigsaw(Mixer):
  """The settings and draws of `jigsaw`, which documents them."""

  uses_partner: ClassVar[bool] = False
  cells: int = 4

  def __post_init__(self):
    check.whole("cells", self.cells, 1, _MOST_CELLS)

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    if height % self.cells or width % self.cells:
      raise ValueError(
        f"jigsaw cells must divide the sides of the image, got {self.cells} "
        f"for {height} x {width} pixels"
      )
    cells = jnp.arange(self.cells**2, dtype=jnp.int32)
    order = jax.random.permutation(key, cells)
    return Drawn(jnp.zeros((height, width, 1), bool), jnp.float32(1), order)

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    return permuted_cells(
      partners, jnp.broadcast_to(extra, (len(partners), self.cells**2))
    )


def permuted_cells(images: jax.Array, order: jax.Array) -> jax.Array:
  """Moves the cells of a square grid.

  Args:
    images: `[B, H, W, C]`.
    order: for each cell, in rows, the number of the one that it gets, int32
      `[B, n^2]`. n divides H and W.
  """
  batch, height, width, channels = images.shape
  n = round(order.shape[1] ** 0.5)
  cells = images.reshape(batch, n, height // n, n, width // n, channels)
  cells = cells.swapaxes(2, 3).reshape(batch, n * n, -1)
  cells = jnp.take_along_axis(cells, order[..., None], axis=1)
  cells = cells.reshape(batch, n, n, height // n, width // n, channels)
  return cells.swapaxes(2, 3).reshape(images.shape)


def jigsaw(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  cells: int = 4,
  probability: float = 1.0,
  per_example: bool = True,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Permutes the cells of a grid in each image, as Kornia's RandomJigsaw.

  The permutation is uniform over all of them. Labels are not changed.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    cells: cells in a row and in a column, 1 to 64; divides H and W.
    probability: probability of a permutation.
    per_example: draw for each example instead of once for the batch.
    shard: as in `cutout`.

  Returns:
    Images of the given shape and dtype, and the labels.

  Raises:
    ValueError: as `cutout`, or `cells` does not divide the sides.
  """
  return mix(
    key,
    images,
    labels,
    (Jigsaw(cells),),
    probability=probability,
    per_example=per_example,
    shard=shard,
  )


@dataclasses.dataclass(frozen=True)
class Mosaic(Mixer):
  """The settings and draws of `mosaic`, which documents them."""

  partners: ClassVar[int] = 3
  min_start: float = 0.3
  max_start: float = 0.7

  def __post_init__(self):
    check.interval(
      "min_start", self.min_start, "max_start", self.max_start, 0, 1
    )

  def draw(self, key: jax.Array, height: int, width: int) -> Drawn:
    y_key, x_key = jax.random.split(key)
    top, left = (
      whole(draw.uniform(k, self.min_start, self.max_start) * side)
      for k, side in ((y_key, height), (x_key, width))
    )
    of_row, of_column = (
      jnp.stack([side - start, start]).astype(jnp.float32) / side
      for start, side in ((top, height), (left, width))
    )
    # Tiles go down the columns, as Kornia's do.
    shares = (of_column[:, None] * of_row[None]).reshape(-1)
    extra = {"top": top, "left": left, "shares": shares}
    return Drawn(jnp.zeros((height, width, 1), bool), shares[0], extra)

  def pixels(self, partners: jax.Array, extra: Any) -> jax.Array:
    batch = partners.shape[1]
    top, left = (
      jnp.broadcast_to(extra[name], (batch,)) for name in ("top", "left")
    )
    return jax.vmap(window, (1, 0, 0))(partners, top, left)

  def weigh(self, drawn: Drawn, pair: Pair) -> Weights:
    return Weights(drawn.keep, drawn.lam, drawn.extra["shares"][:, 1:])


def window(images: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
  """Cuts a window out of a mosaic of four images.

  Args:
    images: `[4, H, W, C]`: the left column from top to bottom, then the right.
    top: row of the mosaic at which the window starts, 0 to H.
    left: column of the mosaic at which it starts, 0 to W.

  Returns:
    `[H, W, C]`.
  """
  _, height, width, channels = images.shape
  tall = images.reshape(2, 2 * height, width, channels)
  tall = jax.lax.dynamic_slice_in_dim(tall, top, height, axis=1)
  wide = jnp.concatenate([tall[0], tall[1]], axis=1)
  return jax.lax.dynamic_slice_in_dim(wide, left, width, axis=1)


def mosaic(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  min_start: float = 0.3,
  max_start: float = 0.7,
  probability: float = 1.0,
  per_example: bool = False,
  partner: str = "any",
  group_size: int | None = None,
  shard: Shard | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Shows a window of a mosaic of four images (Bochkovskiy et al., 2020).

  arXiv:2004.10934; the windows are those of Kornia's RandomMosaic. The example
  is the upper left tile of a 2x2 mosaic of whole images. The others are its
  partner, the partner of that one, and the third in this chain: four different
  images, if the group has four. The window has the size of an image. It starts
  at `start` times the sides, rounded down, with start ~ U(min_start,
  max_start) for the row and for the column. Each label weighs as much as its
  pixels: with row r and column c of the start, the first one
  (1 - r / H)(1 - c / W), and the others likewise.

  Args:
    key: a PRNG key, typed or raw.
    images: `[B, H, W, C]`, any real dtype.
    labels: probabilities `[B, classes]`, float.
    min_start: lower bound on the start over the side, in [0, 1].
    max_start: upper bound on it.
    probability: as in `cutmix`, like the arguments that follow.
    per_example: see `cutmix`.
    partner: see `cutmix`. With `other_class`, each tile is of another class
      than the one before in the chain.
    group_size: see `cutmix`.
    shard: see `cutmix`.

  Returns:
    Images and labels of the given shapes and dtypes. A batch of one example is
    returned unchanged.

  Raises:
    ValueError: as `cutmix`.
  """
  return mix(
    key,
    images,
    labels,
    (Mosaic(min_start, max_start),),
    probability=probability,
    per_example=per_example,
    partner=partner,
    group_size=group_size,
    shard=shard,
  )
