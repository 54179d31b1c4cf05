"""Classical classifiers against scikit-learn, and their features."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import runs
from mixaug_jax.analysis import references
from mixaug_jax.comparison import arms, baselines, plan, same_data
from mixaug_jax.training import loop, pretrained

ROOT = pathlib.Path(__file__).parent.parent
SMALL = {
  "steps": "2",
  "data.classes": "0,1,2",
  "data.validation_fraction": "0.1",
  "log.writers": "console",
}


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


def test_few_neighbours_are_taken_where_more_are_no_better(digits):
  train = digits[0]
  found = references.nearest_neighbours(train, train, train[0], [1, 60])
  np.testing.assert_array_equal(found, train[1])


def test_the_cosine_ignores_the_length_of_features(digits):
  train, validation, test = digits
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  longer = test[0] * np.linspace(1, 9, len(test[0]))[:, None]
  found = references.nearest_neighbours(
    train, validation, longer, [3], metric="cosine"
  )
  expected = references.nearest_neighbours(
    (unit(train[0]), train[1]), validation, unit(test[0]), [3]
  )
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("penalty", [0.0001, 0.001, 0.1])
def test_logistic_regression_equals_scikit_learn(digits, penalty):
  linear_model = pytest.importorskip("sklearn.linear_model")
  preprocessing = pytest.importorskip("sklearn.preprocessing")
  train, validation, test = digits
  scaler = preprocessing.StandardScaler().fit(train[0])
  reference = linear_model.LogisticRegression(
    C=1 / (penalty * len(train[1])), max_iter=50_000, tol=1e-10
  ).fit(scaler.transform(train[0]), train[1])
  found = references.logistic_regression(
    train, validation, test[0], 10, [penalty]
  )
  expected = reference.predict(scaler.transform(test[0]))
  np.testing.assert_array_equal(found, expected)
  assert np.mean(found == test[1]) > 0.75


@pytest.mark.parametrize("examples", [20, 500])
def test_logistic_regression_converges(digits, examples):
  """Also with more examples than features, which are 64, and with fewer."""
  pixels, labels = (np.concatenate(x) for x in zip(*digits, strict=True))
  x, y = pixels[:examples], labels[:examples]
  weights = references._fit(x, y, 0.001, np.zeros((65, 10)))
  logits = x @ weights[:-1] + weights[-1]
  shares = np.exp(logits - logits.max(1, keepdims=True))
  shares /= shares.sum(1, keepdims=True)
  error = (shares - np.eye(10)[y]) / examples
  np.testing.assert_allclose(error.sum(0), 0, atol=2e-6)
  np.testing.assert_allclose(x.T @ error, -0.001 * weights[:-1], atol=2e-6)


def test_a_feature_that_training_never_varied_decides_nothing(digits):
  """The deviation of equal numbers may be a rounding error above zero."""
  train, validation, test = digits
  constant = lambda part, value: np.insert(part[0], 0, value, axis=1)
  assert 0 < np.full(len(train[0]), 0.1).std() < 1e-15
  found = references.logistic_regression(
    (constant(train, 0.1), train[1]),
    (constant(validation, 0.1), validation[1]),
    constant(test, 0.9),
    10,
  )
  expected = references.logistic_regression(train, validation, test[0], 10)
  np.testing.assert_array_equal(found, expected)


def test_a_class_without_training_examples_is_allowed(digits):
  train, validation, test = digits
  some = train[1] != 9
  found = references.logistic_regression(
    (train[0][some], train[1][some]), validation, test[0], 10
  )
  assert found.shape == test[1].shape


@pytest.fixture(
  scope="module", params=[("small_resnet", "stage2"), ("small_vit", None)]
)
def donor(request, tmp_path_factory):
  """A short run, whose weights others start from."""
  name, last_stage = request.param
  settings = {**SMALL, "model.name": name}
  if last_stage:
    settings["model.last_stage"] = last_stage
  config = config_lib.load(str(ROOT / "configs" / "baseline.py"), settings)
  workdir = tmp_path_factory.mktemp("donor") / "run"
  loop.train(config, workdir)
  return workdir


@pytest.fixture
def comparison(donor, tmp_path):
  """One finished run that starts from the weights of `donor`."""
  shutil.copytree(donor, tmp_path / "donor")
  name = runs.open_run(donor).config.model.name
  settings = {**SMALL, "model.name": name}
  settings["model.pretrained"] = str(tmp_path / "donor")
  overrides = {f"base.{key}": text for key, text in settings.items()}
  config = arms.load(str(ROOT / "configs" / "compare.py"), overrides)
  with config.unlocked():
    config.seeds, config.tune.trials = 1, 0
  made = plan.make(config, tmp_path / "comparison")
  same_data.train(made.cells[0], made)
  return made


def test_frozen_features_give_the_logits_of_the_weights(donor, comparison):
  theirs = runs.open_run(donor)
  features = baselines._frozen(comparison.first.run)
  test = theirs.datasets()[0].test
  head = theirs.classifier().variables["params"]["head"]
  found = features(test)
  logits = found @ head["kernel"] + head["bias"]
  expected = theirs.predictions("test").logits
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  # In another order, some of them again.
  rows = np.arange(len(test))[::-3]
  np.testing.assert_array_equal(features(test.keep(rows)), found[rows])


def test_classifiers_on_frozen_features_are_measured(comparison, tmp_path):
  correct, notes = baselines.measure(comparison)
  assert list(correct) == [
    "nearest neighbours on pixels",
    "logistic regression on pixels",
    "nearest neighbours on frozen features",
    "logistic regression on frozen features",
  ]
  assert not notes
  features = baselines._frozen(comparison.first.run)
  sets = comparison.first.run.datasets()[0]
  expected = references.logistic_regression(
    (features(sets.train), sets.train.labels),
    (features(sets.validation), sets.validation.labels),
    features(sets.test),
    3,
  )
  np.testing.assert_array_equal(
    correct["logistic regression on frozen features"][0],
    expected == sets.test.labels,
  )
  shutil.rmtree(tmp_path / "donor")  # The weights are gone.
  fewer, notes = baselines.measure(comparison)
  assert list(fewer) == list(correct)[:2]
  assert notes == [
    "Classifiers on frozen features are left out: config.model.pretrained: "
    f"{tmp_path / 'donor'} is not a run directory with a checkpoint; check its "
    "path."
  ]


def test_features_of_weights_that_are_incomplete_are_left_out(
  comparison, monkeypatch
):
  load = pretrained.RunWeights.load

  def without_stem(self, variables):
    variables, report = load(self, variables)
    return variables, dataclasses.replace(report, missing=("stem",))

  monkeypatch.setattr(pretrained.RunWeights, "load", without_stem)
  correct, (note,) = baselines.measure(comparison)
  assert len(correct) == 2
  assert note.endswith("donor fills only a part of the network.")


def test_what_is_not_measured_is_reported(comparison, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(plan.Comparison, "split", "validation")
    assert baselines.measure(comparison) == (
      {},
      ["Classical classifiers are left out: no test set."],
    )
  monkeypatch.setattr(baselines, "_MOST_IMAGES", 14)
  assert baselines.measure(comparison) == (
    {},
    [
      "Classical classifiers are left out: they are measured with up to 14 "
      "training images, and there are 15."
    ],
  )
