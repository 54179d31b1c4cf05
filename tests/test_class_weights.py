"""Class weights: their values, the weighted losses, and what a run reports."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import (
  balance,
  class_weights,
  experiment,
  losses,
  step,
)

counts = st.lists(st.integers(0, 5000), min_size=2, max_size=9).filter(any)
LONG_TAIL = {"data.examples_per_class": "40", "data.imbalance_factor": "20"}


@given(counts, st.sampled_from([0.0, 0.9, 0.999, 0.9999]))
def test_weights_are_those_of_the_definition(numbers, beta):
  n = np.array(numbers, np.float64)
  some = n > 0
  for method, raw in (
    ("inverse", 1 / n[some]),
    ("effective", (1 - beta) / (1 - beta ** n[some])),
  ):
    weights = class_weights.of_counts(numbers, method, beta)
    wanted = np.zeros(len(n))
    wanted[some] = raw * n.sum() / (raw * n[some]).sum()
    np.testing.assert_allclose(weights, wanted, rtol=1e-5)
    # The mean over the training examples.
    assert (n * weights).sum() / n.sum() == pytest.approx(1, rel=1e-5)
    assert weights.dtype == np.float32


def test_the_ends_of_beta():
  numbers = [900, 30, 1, 0]
  of = lambda beta: class_weights.of_counts(numbers, "effective", beta)
  np.testing.assert_allclose(of(0.0), [1, 1, 1, 0])
  inverse = class_weights.of_counts(numbers, "inverse", 0.0)
  np.testing.assert_allclose(of(1 - 1e-9), inverse, rtol=1e-4)
  # 931 examples of three classes: each has a third of the weight.
  np.testing.assert_allclose(inverse[:3] * numbers[:3], 931 / 3, rtol=1e-6)


def test_several_labels_an_image_have_no_class_weights():
  for bad in (np.ones((5, 3)), [0, 0], [3, -1]):
    with pytest.raises(ValueError, match="number of examples of each class"):
      class_weights.of_counts(bad, "inverse", 0.9)


def soft_examples(seed=0, examples=7, classes=4):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, (examples, classes)).astype(np.float32)
  labels = rng.dirichlet(np.ones(classes), examples).astype(np.float32)
  labels[0] = np.eye(classes)[2]
  weights = rng.uniform(0.1, 9, classes).astype(np.float32)
  return logits, labels, weights


def test_the_softmax_loss_is_weighted_by_label_mass():
  logits, labels, weights = soft_examples()
  loss = class_weights.weighted("softmax", weights)
  log = special.log_softmax(logits.astype(np.float64), axis=1)
  wanted = -(weights * labels * log).sum(1)
  np.testing.assert_allclose(jax.jit(loss)(logits, labels), wanted, rtol=1e-5)


def test_the_sigmoid_loss_is_that_of_its_formula():
  logits, labels, weights = soft_examples()
  loss = class_weights.weighted("sigmoid", weights)
  p = special.expit(logits.astype(np.float64))
  yes = weights * labels
  no = yes.sum(1, keepdims=True) - yes
  wanted = -(yes * np.log(p) + no * np.log1p(-p)).sum(1)
  np.testing.assert_allclose(jax.jit(loss)(logits, labels), wanted, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_a_mixed_image_has_the_mixed_loss_of_its_classes(name, smoothing):
  logits, labels, weights = soft_examples()
  loss = class_weights.weighted(name, weights, smoothing)
  classes = labels.shape[1]
  mixed = 0
  for c in range(classes):
    hard = np.tile(np.eye(classes, dtype=np.float32)[c], (len(labels), 1))
    smooth = losses.smooth_labels(hard, smoothing)
    plain = losses.LOSSES[name](logits, smooth)
    np.testing.assert_allclose(
      loss(logits, hard), weights[c] * plain, rtol=1e-5
    )
    mixed += weights[c] * labels[:, c] * np.asarray(plain)
  np.testing.assert_allclose(loss(logits, labels), mixed, rtol=1e-4)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_weights_of_one_are_the_loss_without(name):
  logits, labels, _ = soft_examples()
  loss = class_weights.weighted(name, np.ones(4, np.float32))
  plain = losses.LOSSES[name](logits, labels)
  np.testing.assert_allclose(loss(logits, labels), plain, rtol=1e-5)


@pytest.mark.parametrize(
  ("values", "sentence"),
  [
    ({"loss.class_weights": "invers"}, "one of inverse, effective, got"),
    ({"loss.effective_beta": "1"}, "effective_beta must be .* below 1, got"),
    ({"loss.effective_beta": "-0.1"}, "effective_beta must be at least 0"),
    (
      {"loss.class_weights": "inverse", "data.oversample": "true"},
      "would make up for rare classes twice; set one of them",
    ),
    ({"data.imbalance_factor": "0.5"}, "imbalance_factor must be at least 1"),
    ({"data.oversample_power": "2"}, "oversample_power must be .* at most 1"),
    ({"evaluate.best_by": "loss"}, "one of accuracy, balanced_accuracy"),
  ],
)
def test_wrong_values_are_refused(values, sentence):
  with pytest.raises(UserError, match=sentence):
    config_lib.load("baseline", values)


def _squares(logits, labels):
  return jnp.sum((logits - labels) ** 2, -1)


def test_a_loss_of_the_users_own_is_refused_before_data_are_read(monkeypatch):
  monkeypatch.setitem(losses.LOSSES, "squares", _squares)
  values = {"loss.class_weights": "inverse", "loss.name": "squares"}
  config = config_lib.load("baseline", values)
  with pytest.raises(UserError, match=r"not for loss\.name=squares; leave it"):
    experiment.check(config)


def test_settings_without_effect_are_reported():
  values = {"loss.effective_beta": "0.9", "data.oversample_power": "0.5"}
  for more, reason in (
    ({}, "unset"),
    ({"loss.class_weights": "inverse"}, "inverse"),
  ):
    config = config_lib.load("baseline", values | more)
    assert config_lib.without_effect(config) == [
      "config.data.oversample_power has no effect, because "
      "config.data.oversample is false",
      "config.loss.effective_beta has no effect, because "
      f"config.loss.class_weights is {reason}",
    ]
  used = {"loss.class_weights": "effective", "loss.effective_beta": "0.9"}
  assert not config_lib.without_effect(config_lib.load("baseline", used))


class Linear(nn.Module):
  num_classes: int = 10
  stages: tuple[str, ...] = ("stem", "head")

  @nn.compact
  def __call__(self, x, *, train, start="stem", stop="head"):
    return nn.Dense(self.num_classes)(x.reshape(len(x), -1))


def built(**values):
  config = config_lib.load(
    "baseline", {"data.placement": "host", **LONG_TAIL, **values}
  )
  exp = experiment.build(config)
  recipe = dataclasses.replace(
    exp.recipe, model=Linear(), optimizer=optax.sgd(0.1)
  )
  return dataclasses.replace(exp, recipe=recipe)


def _after_a_step(exp, class_id):
  """Trains on images of one class; returns the update and the metrics."""
  state, _ = exp.initial_state()
  images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
  batch = {"image": images, "label": np.full(8, class_id, np.int32)}
  run = jax.jit(step.make_train_step(exp.recipe, step.Devices()))
  values = exp.recipe.hyperparameters()
  new, measured = run(state, np.uint32(0), values, {}, batch)
  update = jax.tree.map(jnp.subtract, new.params, state.params)
  evaluate = jax.jit(step.make_eval_step(exp.recipe, step.Devices()))
  padded = {**batch, "mask": np.ones(8), "position": np.arange(8)}
  sums, _ = evaluate(state.variables, {}, padded)
  return update, measured, sums


def test_a_step_is_weighted_and_an_evaluation_is_not():
  plain, weighted = built(), built(**{"loss.class_weights": "inverse"})
  counts = np.bincount(weighted.datasets.train.labels, minlength=10)
  weights = class_weights.of_counts(counts, "inverse", 0.0)
  np.testing.assert_array_equal(weighted.class_weights, weights)
  assert max(weights) > 5 * min(weights)
  for class_id in (0, 9):
    update, measured, sums = _after_a_step(plain, class_id)
    heavy, loss, same = _after_a_step(weighted, class_id)
    factor = weights[class_id]
    np.testing.assert_allclose(
      loss["loss"], factor * measured["loss"], rtol=1e-5
    )
    jax.tree.map(
      lambda a, b, f=factor: np.testing.assert_allclose(
        a, f * b, rtol=1e-3, atol=1e-6
      ),
      heavy,
      update,
    )
    np.testing.assert_array_equal(same["loss"], sums["loss"])


def test_unset_weights_change_nothing():
  exp = built()
  assert exp.class_weights is None
  assert exp.recipe.train_loss is exp.recipe.loss


def test_a_run_shows_weights_and_repeats():
  lines = balance.describe(built(**{"loss.class_weights": "effective"}))
  assert len(lines) == 1
  assert lines[0].startswith(
    "class weights (effective), with a mean of 1 over the training images: 0 "
  )
  assert "(40 images), " in lines[0]
  assert lines[0].endswith("(2 images)")
  exp = built(**{"data.oversample": "true", "data.oversample_power": "0.5"})
  (line,) = balance.describe(exp)
  drawn = np.bincount(exp.datasets.train.labels)
  of_nine = drawn[9] / exp.datasets.class_counts[9]
  total = sum(exp.datasets.class_counts)
  assert line.startswith(f"an epoch draws {drawn.sum()} images from {total}: ")
  assert line.endswith(f"9 {of_nine:.3g} times (2 images)")
  assert balance.describe(built()) == []
