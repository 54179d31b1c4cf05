"""Accuracies against plain counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixaug_jax.training import losses, metrics


@given(
  st.integers(0, 2**20), st.sampled_from([2, 5, 12]), st.sampled_from([1, 2, 6])
)
def test_in_top_equals_a_stable_sort(seed, classes, k):
  rng = np.random.default_rng(seed)
  # Few distinct values, so that ties are common.
  logits = rng.integers(0, 4, size=(9, classes)).astype(np.float32)
  labels = rng.integers(0, classes, size=9)
  order = np.argsort(-logits, axis=-1, kind="stable")
  expected = [
    label in row[:k] for label, row in zip(labels, order, strict=True)
  ]
  np.testing.assert_array_equal(metrics.in_top(logits, labels, k), expected)


def test_constant_logits_are_right_about_one_class_only():
  labels = np.arange(10)
  logits = np.zeros((10, 10), np.float32)
  assert metrics.in_top(logits, labels, 1).sum() == 1
  assert metrics.in_top(logits * np.nan, labels, 1).sum() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_never_right(bad):
  logits = np.eye(3, dtype=np.float32)
  logits[1, 2] = bad
  ids, one_hot = np.arange(3), np.eye(3, dtype=np.float32)
  for k in (1, 3, 9):
    for array in (np.asarray, jnp.asarray):
      right = metrics.in_top(array(logits), array(ids), k)
      np.testing.assert_array_equal(right, [True, False, True])
      assert isinstance(right, type(array(0)))
  np.testing.assert_array_equal(
    metrics.mixed_accuracy(logits, one_hot), [1, 0, 1]
  )


@pytest.mark.parametrize("wrong", [-1, 4, 80_000])
def test_a_label_that_is_no_class_is_never_right_and_has_no_loss(wrong):
  logits = np.array([[0, 0, 0, 1], [1, 0, 0, 0]], np.float32)
  labels = np.array([wrong, 0])
  for k in (1, 4, 9):
    assert metrics.in_top(logits, labels, k).tolist() == [False, True]
  sums = jax.jit(metrics.evaluation_sums, static_argnums=3)
  both, padded = (
    sums(logits, labels, mask, losses.softmax_cross_entropy)
    for mask in (np.float32([1, 1]), np.float32([0, 1]))
  )
  assert (both["accuracy"], both["top5_accuracy"]) == (1, 1)
  assert np.isnan(both["loss"])
  assert np.isfinite(padded["loss"])


def test_mixed_accuracy_is_the_label_mass_on_the_predicted_class():
  logits = np.array([[0, 3, 1], [9, 0, 1]], np.float32)
  labels = np.array([[0.7, 0.3, 0], [0, 0.4, 0.6]], np.float32)
  np.testing.assert_allclose(metrics.mixed_accuracy(logits, labels), [0.3, 0.0])


@given(st.integers(0, 2**20), st.sampled_from([1, 6, 9]))
def test_padding_adds_nothing_to_the_sums(seed, padding):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(6, 5)).astype(np.float32)
  labels = rng.integers(0, 5, 6)
  whole = metrics.evaluation_sums(
    logits, labels, np.ones(6, np.float32), losses.softmax_cross_entropy
  )
  # Rows of NaN: a mask that multiplies would let them through.
  padded = metrics.evaluation_sums(
    np.concatenate([logits, np.full((padding, 5), np.nan, np.float32)]),
    np.concatenate([labels, np.zeros(padding, labels.dtype)]),
    np.concatenate([np.ones(6), np.zeros(padding)]).astype(np.float32),
    losses.softmax_cross_entropy,
  )
  assert whole["count"] == 6
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, padded
  )
