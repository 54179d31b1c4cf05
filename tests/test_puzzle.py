"""The levels and the transport of PuzzleMix, and its contract."""

import itertools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import augment
from mixaug_jax.augment import grid_cut, puzzle


def noise(images, labels):
  del labels
  return images.astype(jnp.float32).std(-1)


def light(images, labels):
  del labels
  return images.astype(jnp.float32).mean(-1) + 0.01


@pytest.mark.parametrize(
  ("levels", "height", "width"), [(2, 3, 3), (3, 2, 4), (4, 3, 2), (3, 1, 1)]
)
def test_the_levels_have_the_least_energy(levels, height, width):
  rng = np.random.default_rng(0)
  draw = lambda most, *shape: rng.integers(0, most, (25, *shape)).astype(int)
  costs = draw(30, height, width, levels)
  down, right = draw(12, height - 1, width), draw(12, height, width - 1)
  found = grid_cut.best_levels(
    *(jnp.asarray(x, jnp.int32) for x in (costs, down, right))
  )
  every = np.array(
    list(itertools.product(range(levels), repeat=height * width))
  ).reshape(-1, height, width)
  for example, x in enumerate(np.asarray(found)):
    energies = (down[example] * np.diff(every, axis=1) ** 2).sum((1, 2))
    energies += (right[example] * np.diff(every, axis=2) ** 2).sum((1, 2))
    own = costs[example].reshape(-1, levels)
    flat = every.reshape(len(every), -1)
    energies += np.take_along_axis(own[None], flat[..., None], -1).sum((1, 2))
    best = every[energies == energies.min()]
    np.testing.assert_array_equal(x, best.max(0))


def test_places_go_to_those_that_pay_least():
  """As in a run of Gale and Shapley's rule, one proposal after the other."""
  costs = np.random.default_rng(1).random((6, 9, 9), np.float32)
  found = np.asarray(puzzle.matching(jnp.asarray(costs)))
  for cost, got in zip(costs, found, strict=True):
    holds, wishes = {}, [list(np.argsort(row)) for row in cost]
    free = list(range(9))
    while free:
      row = free.pop()
      column = wishes[row].pop(0)
      other = holds.get(column)
      if other is None or cost[row, column] < cost[other, column]:
        holds[column], row = row, other
      if row is not None:
        free.append(row)
    assert got.tolist() == [holds[column] for column in range(9)]


_TRANSPORT = """
import jax
import numpy as np
from mixaug_jax import augment
from mixaug_jax.augment import puzzle

for cells in (4, 8):
  rng = np.random.default_rng(0)
  maps = rng.random((32, cells, cells), np.float32) ** 4
  seen = rng.random(maps.shape) < 0.5
  mixer = augment.PuzzleMix(cells=cells)
  found = jax.jit(
    lambda maps, seen: mixer._transport(puzzle._shares(maps, cells), seen)
  )(maps, seen)
  assert (np.sort(found) == np.arange(cells**2)).all()
"""


def test_a_compiled_transport_ends_with_a_permutation():
  """XLA's optimisations may not let costs differ between two rounds."""
  subprocess.run(
    [sys.executable, "-c", _TRANSPORT],
    env={**os.environ, "XLA_FLAGS": ""},
    cwd=pathlib.Path(__file__).parent.parent,
    timeout=600,
    check=True,
  )


def test_equal_costs_leave_all_cells_in_place():
  costs = jnp.zeros((1, 4, 4)) + 1 - jnp.eye(4)
  assert puzzle.matching(costs).tolist() == [[0, 1, 2, 3]]
  assert sorted(puzzle.matching(jnp.zeros((1, 4, 4)))[0].tolist()) == [
    *range(4)
  ]


@pytest.mark.parametrize("per_example", [False, True])
def test_labels_weigh_as_much_as_pixels(per_example):
  values = jnp.arange(1.0, 7)
  images = jnp.broadcast_to(values[:, None, None, None], (6, 8, 12, 3)) / 8
  maps = jax.random.uniform(jax.random.key(5), (6, 8, 12))
  call = jax.jit(
    lambda key: augment.puzzlemix(
      key,
      images,
      jnp.eye(6),
      network={"saliency": lambda *_: maps},
      cells=4,
      per_example=per_example,
    )
  )
  seen = set()
  for seed in range(4):
    mixed, labels = call(jax.random.key(seed))
    pixels = jnp.mean(mixed, (1, 2, 3)) * 8
    np.testing.assert_allclose(pixels, labels @ values, rtol=1e-5)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)
    seen |= set(np.round(np.diag(labels), 4).tolist())
  assert len(seen) > 2


def test_what_is_salient_is_seen():
  bright = np.zeros((2, 8, 8, 1), np.uint8)
  bright[0, 2:4, 2:4], bright[1, 2:4, 4:6] = 100, 200
  mixed, _ = augment.puzzlemix(
    jax.random.key(0),
    jnp.asarray(bright),
    jnp.eye(2),
    network={"saliency": light},
    cells=4,
    levels=2,
    smoothness=0.1,
    per_example=True,
    partner="roll",
  )
  for image in np.asarray(mixed):
    assert set(np.unique(image)) == {0, 100, 200}


def test_no_cell_moves_where_a_move_costs_too_much():
  images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
  call = (jax.random.key(2), images, jnp.eye(4))
  mixed, labels = augment.puzzlemix(
    *call, network={"saliency": noise}, cells=4, levels=2, distance=1e6
  )
  own = np.isclose(mixed, images).all(-1).mean((1, 2))
  np.testing.assert_allclose(own, np.diag(labels), atol=1e-6)


def test_odd_sides_are_reported():
  arguments = jax.random.key(0), jnp.ones((2, 7, 8, 3)), jnp.eye(2)
  with pytest.raises(ValueError, match="even sides, got images of 7x8"):
    augment.puzzlemix(*arguments, network={"saliency": noise})


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_map_without_shares_counts_as_even(value):
  images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))

  def mixed(value):
    network = {"saliency": lambda x, _: jnp.full(x.shape[:3], value)}
    call = (jax.random.key(6), images, jnp.eye(4))
    return augment.puzzlemix(*call, network=network, cells=4)

  found, even = mixed(value), mixed(1.0)
  np.testing.assert_array_equal(found[0], even[0])
  np.testing.assert_array_equal(found[1], even[1])


def test_the_largest_settings_do_not_overflow():
  """An image that pays for all of its cells is shown whole."""
  images = jax.random.uniform(jax.random.key(1), (3, 16, 16, 3))
  mixed, labels = augment.puzzlemix(
    *(jax.random.key(0), images, jnp.eye(3)),
    network={"saliency": light},
    levels=4,
    smoothness=10.0,
    similarity=1.0,
    prior=10.0,
    min_lambda=1.0,
    distance=1e6,
    per_example=True,
  )
  np.testing.assert_array_equal(labels, jnp.eye(3))
  np.testing.assert_array_equal(mixed, images)


@pytest.mark.parametrize("value", [255.0, np.nan])
def test_pixels_out_of_range_end(value):
  images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
  _, labels = augment.puzzlemix(
    *(jax.random.key(6), images.at[0, 3, 3].set(value), jnp.eye(4)),
    network={"saliency": lambda x, _: jnp.ones(x.shape[:3])},
    cells=4,
    similarity=1.0,
  )
  np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)
