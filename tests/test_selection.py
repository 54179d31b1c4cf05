"""Held-out examples: stratified, and never apart from their copies."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixaug_jax.data import selection

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@given(LABELS, st.floats(0.01, 0.9), st.integers(0, 9), st.data())
def test_every_class_is_in_both_parts_and_copies_in_one(
  labels, fraction, seed, draw
):
  labels = np.array(labels)
  # A copy has the label of its original here.
  copy = draw.draw(st.lists(st.integers(0, 4), min_size=1, max_size=1))[0]
  numbers = np.arange(len(labels)) // (copy + 1)
  hashes = (labels * 1000 + numbers).astype(np.uint64)
  rest, held = selection.hold_out(
    labels, fraction, np.random.default_rng(seed), hashes
  )
  assert sorted([*rest, *held]) == list(range(len(labels)))
  for label in np.unique(labels):
    positions = np.flatnonzero(labels == label)
    both = np.isin(positions, held).any() and np.isin(positions, rest).any()
    assert both == (len(positions) > 1)
    sizes = np.unique(hashes[positions], return_counts=True)[1]
    if len(sizes) > 1:
      # Not more than the share, unless no group of copies is that small.
      wanted = max(1, round(fraction * len(positions)), sizes.min())
      assert np.isin(positions, held).sum() <= wanted
      assert not set(hashes[rest]) & set(hashes[held]) & set(hashes[positions])


@given(LABELS, st.floats(0.01, 0.9), st.integers(0, 9))
def test_without_copies_the_first_of_a_random_order_are_held_out(
  labels, fraction, seed
):
  labels = np.array(labels)
  rng = np.random.default_rng(seed)
  expected = []
  for label in np.unique(labels):
    order = rng.permutation(np.flatnonzero(labels == label))
    count = max(1, round(fraction * len(order)))
    expected += order[: min(count, len(order) - 1)].tolist()
  unique = np.arange(len(labels)).astype(np.uint64)
  for hashes in (None, unique):
    _, held = selection.hold_out(
      labels, fraction, np.random.default_rng(seed), hashes
    )
    assert held.tolist() == sorted(expected)


def test_copies_under_two_labels_stay_in_one_part():
  labels = np.array([0, 0, 0, 1, 1, 1])
  hashes = np.array([1, 2, 3, 1, 5, 6], np.uint64)
  for seed in range(20):
    rest, held = selection.hold_out(
      labels, 0.3, np.random.default_rng(seed), hashes
    )
    assert not set(hashes[rest]) & set(hashes[held])
