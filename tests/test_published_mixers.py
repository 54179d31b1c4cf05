"""The mixers against values of published code.

tests/data/published_mixers.npz holds what these packages computed for small
arrays: gridmix and attentive_cutmix in OpenMixup, saliencymix, snapmix,
puzzlemix, patchup and manifold_mixup by their authors (saliency by OpenCV 5.0,
graph cuts by gco-wrapper 3.0.9), jigsaw and mosaic in Kornia 0.9.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import augment
from mixaug_jax.augment import (
  attentive,
  grid_cut,
  grids,
  mixing,
  partners,
  stage_mixers,
)

PATH = pathlib.Path(__file__).parent / "data" / "published_mixers.npz"
PUBLISHED = np.load(PATH)


def weigh(mixer, drawn, images, maps):
  """Returns the weights of a draw for a batch in which all is the partner's."""
  drawn = jax.tree.map(lambda x: jnp.asarray(x)[None], drawn)
  return mixer.weigh(drawn, mixing.Pair(images, images, maps))


@pytest.mark.parametrize("case", range(5))
def test_the_holes_of_gridmix(case):
  mask = PUBLISHED[f"gridmix_{case}_mask"]
  size, cells, lam = PUBLISHED[f"gridmix_{case}_settings"]
  size, cell = int(size), -(-int(size) // int(cells))
  holes = grids.grid_holes(jnp.float32(lam), cell, 0, 0, size, size)
  np.testing.assert_array_equal(holes, mask)
  np.testing.assert_allclose(
    1 - holes.mean(), PUBLISHED[f"gridmix_{case}_lam"], atol=1e-6
  )


def test_the_pieces_of_jigsaw():
  order, expected = PUBLISHED["jigsaw_order"], PUBLISHED["jigsaw_out"]
  images = np.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16)[:, :1]
  # Kornia fills the grid down its columns.
  order = order.reshape(2, 4, 4).swapaxes(1, 2).reshape(2, 16)
  moved = grids.permuted_cells(
    jnp.asarray(images.transpose(0, 2, 3, 1)), jnp.asarray(order)
  )
  np.testing.assert_array_equal(moved[..., 0], expected)


def test_the_windows_of_mosaic():
  images = np.arange(4 * 3 * 16 * 16).reshape(4, 3, 16, 16)[:, :1]
  images = jnp.asarray(images.transpose(0, 2, 3, 1))
  left, top = jnp.asarray(PUBLISHED["mosaic_start"]).T
  tiles = images[PUBLISHED["mosaic_order"]]
  seen = jax.vmap(grids.window)(tiles, top, left)
  np.testing.assert_array_equal(seen[..., 0], PUBLISHED["mosaic_out"])


def test_the_maps_of_fine_grained_saliency():
  for images, expected in (
    (PUBLISHED["saliency_images"], PUBLISHED["saliency_maps"]),
    (PUBLISHED["saliency_large"][None], PUBLISHED["saliency_large_map"][None]),
  ):
    maps = augment.fine_grained_saliency(jnp.asarray(images))
    np.testing.assert_array_equal(jnp.round(maps * 255), expected)


def test_the_boxes_of_saliencymix():
  images = jnp.asarray(PUBLISHED["saliency_images"])
  for image, lam, box in zip(
    images,
    PUBLISHED["saliency_lams"],
    PUBLISHED["saliency_boxes"],
    strict=True,
  ):
    mixer = augment.SaliencyMix(min_lambda=lam, max_lambda=lam)
    drawn = mixer.draw(jax.random.key(0), 32, 32)
    weights = weigh(mixer, drawn, image[None], {})
    pasted = np.zeros((32, 32), bool)
    top, left, bottom, right = box
    pasted[top:bottom, left:right] = True
    np.testing.assert_array_equal(~weights.keep[0, ..., 0], pasted)
    np.testing.assert_allclose(weights.lam, 1 - pasted.mean(), rtol=1e-6)


def test_the_cells_of_attentive_cutmix():
  attention = jnp.asarray(PUBLISHED["attentive_attention"])
  mixer = augment.AttentiveCutMix()
  drawn = mixer.draw(jax.random.key(0), 28, 28)
  weights = weigh(
    mixer,
    drawn,
    jnp.zeros((3, 28, 28, 1)),
    {"attention": (attention, attention)},
  )
  mask = PUBLISHED["attentive_mask"]
  np.testing.assert_array_equal(~weights.keep[..., 0], mask)
  share = PUBLISHED["attentive_share"]
  np.testing.assert_allclose(weights.others, np.full((3, 1), share), rtol=1e-6)


def test_the_boxes_and_labels_of_snapmix():
  images = jnp.asarray(PUBLISHED["snap_images"])
  partners = np.array([1, 2, 3, 0])
  # Rows are the first axis, which the published code calls x.
  boxes = [
    (top, bottom - top, left, right - left)
    for top, left, bottom, right in PUBLISHED["snap_boxes"]
  ]
  pasted = jax.vmap(attentive.box_into_box, (0, None, None))(
    images[partners], *map(jnp.array, boxes)
  )
  inside, source = (np.zeros((16, 16, 1), bool) for _ in boxes)
  for mask, (top, height, left, width) in zip(
    (inside, source), boxes, strict=True
  ):
    mask[top : top + height, left : left + width] = True
  mixed = jnp.where(inside, pasted, images)
  np.testing.assert_allclose(mixed, PUBLISHED["snap_mixed"], atol=1e-5)
  weights = PUBLISHED["snap_weight"][PUBLISHED["snap_targets"]]
  maps = np.einsum("bhwc,bc->bhw", PUBLISHED["snap_features"], weights)
  drawn = augment.Drawn(
    ~inside, 1 - np.float32(inside.mean()), {"outside": ~source}
  )
  found = weigh(
    augment.SnapMix(),
    drawn,
    images,
    {"class_map": (jnp.asarray(maps), jnp.asarray(maps[partners]))},
  )
  np.testing.assert_allclose(found.lam, PUBLISHED["snap_lam_a"], atol=1e-5)
  np.testing.assert_allclose(
    found.others[:, 0], PUBLISHED["snap_lam_b"], atol=1e-5
  )


def published_puzzle(case):
  """Returns the images that puzzlemix mixes, and the weights of the labels."""
  cells, levels, lam = PUBLISHED[f"puzzle_{case}_settings"]
  images = jnp.asarray(PUBLISHED["puzzle_images"])
  saliency = jnp.asarray(PUBLISHED["puzzle_saliency"] / 2**10)
  order = PUBLISHED["puzzle_partners"]
  mixer = augment.PuzzleMix(cells=int(cells), levels=int(levels))
  powers = [2**n for n in range(1, 5) if 2**n <= cells]
  drawn = augment.Drawn(True, 1, (np.float32(lam), powers.index(int(cells))))
  drawn = jax.tree.map(lambda x: jnp.asarray(x)[None], drawn)
  found = mixer.weigh(
    drawn,
    mixing.Pair(
      images, images[order], {"saliency": (saliency, saliency[order])}
    ),
  )
  return found.pasted, found.lam


@pytest.mark.parametrize(
  ("case", "equal"),
  [(0, range(4)), (1, [1, 2, 3]), (2, range(4)), (3, range(4)), (4, [2, 3])],
)
def test_the_images_and_labels_of_puzzlemix(case, equal):
  """The authors' swaps end at a worse mask for the other three examples."""
  mixed, lam = (np.asarray(x)[list(equal)] for x in published_puzzle(case))
  expected = PUBLISHED[f"puzzle_{case}_mixed"][list(equal)].astype(int)
  np.testing.assert_allclose(mixed, expected, atol=1)
  expected = PUBLISHED[f"puzzle_{case}_lam"][list(equal)]
  np.testing.assert_allclose(lam, expected, rtol=1e-6)


@pytest.mark.parametrize(("case", "better"), [(3, []), (4, [0, 1])])
def test_the_masks_of_puzzlemix_are_no_worse_than_by_swaps(case, better):
  names = ("costs", "down", "right", "levels")
  costs, down, right, levels = (PUBLISHED[f"puzzle_{case}_{x}"] for x in names)
  costs *= (costs.shape[-1] - 1) ** 2
  found = grid_cut.best_levels(*map(jnp.asarray, (costs, down, right)))

  def energy(x):
    x = np.asarray(x, int)
    own = np.take_along_axis(costs, x[..., None], -1).sum((1, 2, 3))
    below = (down * np.diff(x, axis=1) ** 2).sum((1, 2))
    return own + below + (right * np.diff(x, axis=2) ** 2).sum((1, 2))

  gain = energy(levels) - energy(found)
  assert (gain >= 0).all()
  assert np.flatnonzero(gain).tolist() == better


def test_the_blocks_of_patchup():
  x, partners = PUBLISHED["patchup_x"], PUBLISHED["patchup_partners"]
  rate = stage_mixers.block_rate(0.5, 3, 8, 8)
  np.testing.assert_allclose(rate, PUBLISHED["patchup_rate"], rtol=1e-6)
  holes = stage_mixers.blocks(jnp.asarray(PUBLISHED["patchup_centres"]), 3)
  mixed = np.where(holes, x[partners], x)
  np.testing.assert_allclose(mixed, PUBLISHED["patchup_mixed"], atol=1e-6)
  lam = 1 - np.mean(holes)
  labels = lam * np.eye(3) + (1 - lam) * np.eye(3)[partners]
  np.testing.assert_allclose(labels, PUBLISHED["patchup_labels"], atol=1e-6)


def test_the_activations_of_manifold_mixup(monkeypatch):
  order = jnp.asarray(PUBLISHED["manifold_partners"])
  monkeypatch.setattr(partners, "draw_partners", lambda *_: order)
  mixed, soft = augment.manifold_mixup(
    jax.random.key(0),
    jnp.asarray(PUBLISHED["manifold_x"]),
    jnp.eye(4),
    min_lambda=0.3,
    max_lambda=0.3,
    per_example=True,  # No other test compiles this program.
  )
  np.testing.assert_allclose(mixed, PUBLISHED["manifold_out"], atol=1e-6)
  np.testing.assert_allclose(soft, PUBLISHED["manifold_labels"], atol=1e-6)
