"""Average precision, F1 and thresholds against scikit-learn."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as reference

from mixaug_jax.training import average_precision, set_metrics, thresholds
from mixaug_jax.training.losses import sigmoid_cross_entropy


def _draw(seed, examples=60, classes=7, levels=None):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, (examples, classes)).astype(np.float32)
  if levels:  # Ties.
    logits = np.round(logits * levels) / levels
  labels = (rng.random((examples, classes)) < rng.random(classes)) * 1
  labels[0] = 1  # Each class has a positive example.
  return logits, labels.astype(np.uint8)


@hypothesis.given(st.integers(0, 10**6), st.sampled_from([None, 1, 2]))
def test_average_precision_is_that_of_sklearn(seed, levels):
  logits, labels = _draw(seed, levels=levels)
  expected = reference.average_precision_score(labels, logits, average=None)
  found = average_precision.per_class(logits, labels)
  np.testing.assert_allclose(found, expected, rtol=1e-12)
  order = np.random.default_rng(seed).permutation(len(labels))
  again = average_precision.per_class(logits[order], labels[order])
  np.testing.assert_array_equal(again, found)


def test_a_class_without_an_example_is_left_out_and_counted():
  logits, labels = _draw(0)
  labels[:, 2] = 0
  found, left_out = average_precision.mean(logits, labels)
  kept = np.delete(np.arange(7), 2)
  expected = reference.average_precision_score(labels[:, kept], logits[:, kept])
  assert found == pytest.approx(expected, rel=1e-12)
  assert left_out == 1
  limits = np.full(7, 0.5)
  every = set_metrics.at_thresholds(logits, labels, limits)["macro_f1"]
  some = set_metrics.at_thresholds(
    logits[:, kept], labels[:, kept], limits[kept]
  )
  assert every == pytest.approx(some["macro_f1"])
  none, left_out = average_precision.mean(logits, np.zeros_like(labels))
  assert np.isnan(none)
  assert left_out == 7


def test_logits_that_are_not_numbers_rank_as_badly_as_they_can():
  logits, labels = _draw(1)
  logits[5, 3] = np.nan
  worst = logits.copy()
  worst[5] = np.where(labels[5], -1e6, 1e6)
  np.testing.assert_array_equal(
    average_precision.per_class(logits, labels),
    average_precision.per_class(worst, labels),
  )
  at = set_metrics.at_thresholds(logits[5:6], labels[5:6] * 0, np.ones(7) / 2)
  assert at["exact_match"] == 0


@hypothesis.given(st.integers(0, 10**6))
def test_the_figures_at_thresholds_are_those_of_sklearn(seed):
  logits, labels = _draw(seed)
  limits = np.random.default_rng(seed).random(7)
  chosen = special.expit(logits.astype(np.float64)) >= limits
  found = set_metrics.at_thresholds(logits, labels, limits)
  score = lambda average: reference.f1_score(
    labels, chosen, average=average, zero_division=0
  )
  assert found["micro_f1"] == pytest.approx(score("micro"))
  assert found["macro_f1"] == pytest.approx(score("macro"))
  assert found["exact_match"] == pytest.approx(
    reference.accuracy_score(labels, chosen)
  )


@hypothesis.given(st.integers(0, 10**6), st.sampled_from([None, 1]))
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(seed, levels):
  logits, labels = _draw(seed, examples=25, classes=2, levels=levels)
  labels[:5, 0] = 1
  labels[4:, 1] = 0
  found = thresholds.choose(logits, labels, ["a", "b"])
  assert found.default == ["b"]  # Four examples.
  assert found.by_class["b"] == 0.5
  shares = special.expit(logits[:, 0].astype(np.float64))
  f1 = lambda limit: reference.f1_score(labels[:, 0], shares >= limit)
  best = f1(found.by_class["a"])
  assert best == pytest.approx(max(map(f1, shares)))
  # It lies between two probabilities, and no higher one is as good.
  assert found.by_class["a"] not in shares
  higher = shares[shares > found.by_class["a"]]
  assert all(f1(x) < best for x in higher[higher > higher.min()])


def test_a_threshold_separates_probabilities_that_are_neighbours():
  for low in (0.5, np.nextafter(0.5, 1)):  # Their middle rounds up or down.
    shares = np.array([np.nextafter(low, 1)] * 5 + [low] * 5)
    found = thresholds._best(shares, np.repeat([1, 0], 5))
    assert (shares >= found).tolist() == [True] * 5 + [False] * 5


def test_the_loss_of_label_sets_leaves_padding_out():
  logits, labels = _draw(2, examples=4)
  mask = np.array([1, 1, 0, 1], np.float32)
  found = set_metrics.loss_sums(logits, labels, mask, sigmoid_cross_entropy)
  loss = np.logaddexp(0, np.where(labels, -logits, logits)).sum(-1)
  np.testing.assert_allclose(found["loss"], (loss * mask).sum(), rtol=1e-5)
  assert found["count"] == 3
