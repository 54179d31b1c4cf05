"""The losses against their definitions."""

import pathlib

import chex
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixaug_jax.training import losses


def _logits_and_labels(seed: int, classes: int):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(5, classes)).astype(np.float32) * 5
  labels = rng.dirichlet(np.ones(classes), size=5).astype(np.float32)
  return logits, labels


class LossTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_softmax_equals_the_definition(self):
    logits, labels = _logits_and_labels(0, 7)
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    expected = -(labels * np.log(probabilities)).sum(-1)
    actual = self.variant(losses.softmax_cross_entropy)(logits, labels)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)

  @chex.variants(with_jit=True, without_jit=True)
  def test_sigmoid_sums_a_binary_cross_entropy_over_classes(self):
    logits, labels = _logits_and_labels(1, 3)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -(labels * np.log(p) + (1 - labels) * np.log1p(-p)).sum(-1)
    actual = self.variant(losses.sigmoid_cross_entropy)(logits, labels)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_perfect_prediction_has_no_loss(name):
  one_hot = np.eye(4, dtype=np.float32)
  loss = losses.LOSSES[name](one_hot * 200 - 100, one_hot)
  np.testing.assert_allclose(loss, 0, atol=1e-6)


@given(st.sampled_from([2, 3, 10, 200]), st.floats(0, 0.99))
def test_smoothed_labels_stay_probabilities(classes, smoothing):
  labels = jax.nn.one_hot(np.arange(classes), classes)
  smooth = losses.smooth_labels(labels, smoothing)
  np.testing.assert_allclose(smooth.sum(-1), 1, rtol=1e-5)
  assert smooth.min() >= 0
  np.testing.assert_allclose(
    smooth[0, 0], 1 - smoothing + smoothing / classes, rtol=1e-5
  )


def one_number(logits, labels):
  return losses.softmax_cross_entropy(logits, labels).mean()


def one_argument(logits):
  return logits.sum(-1)


@pytest.mark.parametrize(
  ("name", "sentence"),
  [
    ("sofmax", "did you mean 'softmax'"),
    ("test_losses:one_number", r"must return a loss \[B\]"),
    ("test_losses:one_argument", "cannot be called with logits and labels"),
    ("test_losses:pathlib", "cannot be called with logits and labels"),
  ],
)
def test_a_name_of_anything_but_a_loss_is_one_sentence(
  monkeypatch, name, sentence
):
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
  with pytest.raises(ValueError, match=f"^loss.name.*{sentence}"):
    losses.make(name)


def test_losses_are_found_by_name_and_in_any_module():
  assert losses.make("sigmoid") is losses.sigmoid_cross_entropy
  assert losses.make("optax:softmax_cross_entropy")
