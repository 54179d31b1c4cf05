"""Classical classifiers against scikit-learn."""

import numpy as np
import pytest

from mixaug_jax.analysis import references


@pytest.fixture(scope="module")
def digits():
  """Pixels and classes of real digits, in three parts."""
  datasets = pytest.importorskip("sklearn.datasets")
  pixels, labels = datasets.load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(labels))
  parts = np.split(order, [60, 120, 620])[:3]
  return [(pixels[part] / 16, labels[part]) for part in parts]


@pytest.mark.parametrize("count", [1, 4])
def test_nearest_neighbours_equal_scikit_learn(digits, count):
  neighbors = pytest.importorskip("sklearn.neighbors")
  train, validation, test = digits
  # Distances are distinct here. Ties of votes go to the nearer class, so the
  # reference gives the nearer examples a little more weight as well.
  weights = lambda x: 1 + 0.25 / 2.0 ** np.argsort(np.argsort(x, axis=1), 1)
  reference = neighbors.KNeighborsClassifier(count, weights=weights)
  expected = reference.fit(*train).predict(test[0])
  found = references.nearest_neighbours(train, validation, test[0], [count])
  np.testing.assert_array_equal(found, expected)


def test_of_equally_frequent_classes_the_nearest_wins():
  places, labels = np.arange(1.0, 6)[:, None], np.array([1, 0, 0, 2, 1])
  found = references.nearest_neighbours(
    (places, labels), (places, labels), np.zeros((1, 1)), [5]
  )
  assert found == [1]  # Twice 0 and twice 1.


def test_the_number_of_neighbours_is_chosen_on_validation(digits):
  train, validation, test = digits
  of = lambda count: references.nearest_neighbours(
    train, validation, validation[0], [count]
  )
  right = [np.mean(of(n) == validation[1]) for n in references.NEIGHBOURS]
  best = references.NEIGHBOURS[int(np.argmax(right))]
  np.testing.assert_array_equal(
    references.nearest_neighbours(train, validation, test[0]),
    references.nearest_neighbours(train, validation, test[0], [best]),
  )
  few = (train[0][:2], train[1][:2])
  assert set(references.nearest_neighbours(few, few, test[0])) <= set(few[1])


@pytest.mark.parametrize("penalty", [0.001, 0.1])
def test_logistic_regression_equals_scikit_learn(digits, penalty):
  linear_model = pytest.importorskip("sklearn.linear_model")
  preprocessing = pytest.importorskip("sklearn.preprocessing")
  train, validation, test = digits
  scaler = preprocessing.StandardScaler().fit(train[0])
  reference = linear_model.LogisticRegression(
    C=1 / (penalty * len(train[1])), max_iter=5000, tol=1e-8
  ).fit(scaler.transform(train[0]), train[1])
  found = references.logistic_regression(
    train, validation, test[0], 10, [penalty]
  )
  expected = reference.predict(scaler.transform(test[0]))
  assert np.mean(found == expected) >= 0.995
  assert np.mean(found == test[1]) > 0.75


def test_a_class_without_training_examples_is_allowed(digits):
  train, validation, test = digits
  some = train[1] != 9
  found = references.logistic_regression(
    (train[0][some], train[1][some]), validation, test[0], 10
  )
  assert found.shape == test[1].shape
