"""Likelihoods, calibration and averages of views against their formulas."""

import json
import pathlib

import numpy as np
import pytest
from scipy import special

from mixaug_jax import config as config_lib
from mixaug_jax import runs
from mixaug_jax.analysis import (
  calibration,
  likelihood,
  predictions,
  statistics,
  views,
)
from mixaug_jax.command import evaluate, predict
from mixaug_jax.errors import UserError
from mixaug_jax.training import loop, losses

ROOT = pathlib.Path(__file__).parent.parent
KINDS = (likelihood.SOFTMAX, likelihood.SIGMOID)


def _data(count=200, classes=4, seed=0):
  """Logits and labels; most labels have the largest logit."""
  rng = np.random.default_rng(seed)
  logits = 3 * rng.normal(size=(count, classes))
  labels = np.where(
    rng.random(count) < 0.7,
    logits.argmax(-1),
    rng.integers(0, classes, count),
  )
  return logits, labels


def test_every_loss_has_a_meaning_and_its_value_is_that_of_training():
  logits, labels = _data()
  one_hot = np.eye(4)[labels]
  for name, loss in losses.LOSSES.items():
    known = likelihood.of_loss(name)
    assert known.loss_name == name
    assert known.own_loss is None
    expected = np.asarray(loss(np.float32(logits), np.float32(one_hot)))
    actual = known.cross_entropy(logits, labels)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert known.loss(logits, labels) == pytest.approx(expected.mean(), 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_label_that_is_no_class_is_nan(kind):
  logits = np.array([[1.0, 2.0, 3.0]] * 3)
  loss = kind.cross_entropy(logits, np.array([-1, 3, 2]))
  np.testing.assert_array_equal(np.isnan(loss), [True, True, False])


def test_sigmoid_probabilities_and_loss_by_hand():
  logits = np.array([[2.0, -1.0, 0.5], [700.0, -800.0, 0.0]])
  labels = np.array([0, 1])
  sigmoid = likelihood.SIGMOID
  p = 1 / (1 + np.exp(-logits[0]))
  np.testing.assert_allclose(sigmoid.probabilities(logits)[0], p)
  by_hand = -np.log(p[0]) - np.log(1 - p[1]) - np.log(1 - p[2])
  # The second row would overflow if it were computed so.
  np.testing.assert_allclose(
    sigmoid.cross_entropy(logits, labels), [by_hand, 1500 + np.log(2)]
  )
  np.testing.assert_array_equal(logits[1], [700, -800, 0])


def test_confidence_is_the_probability_of_the_predicted_class():
  """With sigmoids 0.75 and 0.25 right and wrong, in bins of a half."""
  logits = special.logit(np.array([[0.75, 0.1], [0.25, 0.1], [0.6, 0.9]]))
  labels = np.array([0, 1, 0])
  edges, confidence, accuracy, count = calibration.reliability(
    logits, labels, bins=2, likelihood=likelihood.SIGMOID
  )
  np.testing.assert_array_equal(edges, [0, 0.5, 1])
  np.testing.assert_array_equal(count, [1, 2])
  np.testing.assert_allclose(confidence, [0.25, (0.75 + 0.9) / 2])
  np.testing.assert_allclose(accuracy, [0, 0.5])
  error = calibration.expected_calibration_error(
    logits, labels, bins=2, likelihood=likelihood.SIGMOID
  )
  assert error == pytest.approx(0.25 / 3 + 2 / 3 * (0.825 - 0.5))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_temperature_minimises_the_loss_of_the_run(kind):
  logits, labels = _data()
  found = calibration.fit_temperature(logits, labels, kind)
  grid = np.geomspace(0.1, 10, 400)
  values = [kind.cross_entropy(logits / t, labels).mean() for t in grid]
  assert found == pytest.approx(grid[np.argmin(values)], rel=0.02)
  scaled = calibration.reliability(logits, labels, 15, found, kind)
  plain = calibration.reliability(logits / found, labels, 15, 1.0, kind)
  np.testing.assert_array_equal(scaled[1], plain[1])


def test_the_two_kinds_have_different_temperatures():
  logits, labels = _data()
  one, other = (calibration.fit_temperature(logits, labels, k) for k in KINDS)
  assert abs(one - other) > 0.1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_averaged_views_predict_the_mean_of_their_probabilities(kind):
  logits = 4 * np.random.default_rng(1).normal(size=(3, 5, 6))
  mean = kind.probabilities(logits).mean(0)
  averaged = views.averaged(logits, "probabilities", kind)
  np.testing.assert_allclose(kind.probabilities(averaged), mean, rtol=1e-12)
  by_logits = views.averaged(logits, "logits", kind)
  np.testing.assert_array_equal(by_logits, logits.mean(0))


def test_averaged_sigmoids_of_large_logits_stay_finite():
  logits = np.array([[[900.0, -900.0]], [[900.0, -900.0]]])
  averaged = views.averaged(logits, "probabilities", likelihood.SIGMOID)
  np.testing.assert_allclose(averaged, logits[0])


def brier(logits, labels):
  exp = np.e**logits
  return ((exp / exp.sum(-1, keepdims=True) - labels) ** 2).sum(-1)


def test_a_loss_of_the_users_own_is_called_and_probabilities_are_a_softmax(
  monkeypatch,
):
  monkeypatch.syspath_prepend(str(ROOT / "tests"))
  logits, labels = _data()
  own = likelihood.of_loss("test_calibration:brier")
  expected = brier(logits, np.eye(4)[labels]).mean()
  assert own.loss(logits, labels) == pytest.approx(expected, rel=1e-5)
  assert own.kind == "softmax"
  assert "brier defines none" in own.note
  np.testing.assert_array_equal(
    own.probabilities(logits), likelihood.SOFTMAX.probabilities(logits)
  )


def test_a_loss_that_is_gone_is_named_only_when_it_is_called():
  gone = likelihood.of_loss("no_such_module:loss")
  assert gone.probabilities(np.zeros((1, 2))).tolist() == [[0.5, 0.5]]
  with pytest.raises(UserError, match=r"^config\.loss\.name=no_such_module"):
    gone.loss(np.zeros((1, 2)), np.zeros(1, int))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_wrong_and_has_no_calibration(kind, bad):
  logits, labels = _data()
  broken = logits.copy()
  broken[::2, 1] = bad
  right = logits.argmax(-1) == labels
  right[::2] = False
  np.testing.assert_array_equal(calibration.correct(broken, labels), right)
  for k, rest in ((1, right.mean()), (4, 0.5), (9, 0.5)):
    assert calibration.top_k_accuracy(broken, labels, k) == rest
  by_class = [right[labels == c].mean() for c in range(4)]
  actual = calibration.per_class_accuracy(broken, labels, 4)
  np.testing.assert_allclose(actual, by_class)
  whole = calibration.confusions(logits[1::2], labels[1::2], 4)
  np.testing.assert_array_equal(
    calibration.confusions(broken, labels, 4), whole
  )
  words = "the logits of 100 of 200 examples are not finite"
  for function in (
    calibration.reliability,
    calibration.expected_calibration_error,
    calibration.fit_temperature,
  ):
    with pytest.raises(ValueError, match=words):
      function(broken, labels, likelihood=kind)
  assert calibration.undefined(broken).sum() == 100


def test_a_diverged_run_is_measured_without_its_calibration():
  logits, labels = _data()
  broken = np.where(np.arange(200)[:, None] % 2, logits, np.nan)
  of = lambda *args: calibration.measures(*args, likelihood.SOFTMAX, None)
  with_fit = lambda x, y: calibration.measures(
    x, labels, likelihood.SOFTMAX, (y, labels)
  )
  whole = with_fit(logits, logits)
  assert np.isfinite(list(whole.values())).all()
  assert of(logits, labels) == whole | {
    "temperature": None,
    "calibration_error_scaled": None,
  }
  diverged = with_fit(broken, logits)
  assert diverged["accuracy"] == (logits.argmax(-1) == labels)[1::2].sum() / 200
  assert diverged["temperature"] == whole["temperature"]
  names = ("loss", "calibration_error", "calibration_error_scaled")
  assert np.isnan([diverged[name] for name in names]).all()
  unfitted = with_fit(logits, broken)
  assert unfitted["calibration_error"] == whole["calibration_error"]
  names = ("temperature", "calibration_error_scaled")
  assert np.isnan([unfitted[name] for name in names]).all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("wrong", [-1, 4, 80_000])
def test_a_label_that_is_no_class_is_never_right(kind, wrong):
  logits, labels = _data()
  changed = labels.copy()
  changed[::2] = wrong
  rest, kept = logits[1::2], labels[1::2]
  right = calibration.correct(rest, kept)
  assert calibration.correct(logits, changed).sum() == right.sum()
  assert calibration.top_k_accuracy(logits, changed, 4) == 0.5
  np.testing.assert_array_equal(
    calibration.per_class_accuracy(logits, changed, 4),
    calibration.per_class_accuracy(rest, kept, 4),
  )
  np.testing.assert_array_equal(
    calibration.confusions(logits, changed, 4),
    calibration.confusions(rest, kept, 4),
  )
  _, _, accuracy, count = calibration.reliability(
    logits, changed, likelihood=kind
  )
  assert np.nansum(accuracy * count) == pytest.approx(right.sum())
  assert np.isnan(kind.loss(logits, changed))
  with pytest.raises(ValueError, match="100 of 200 labels are no class"):
    calibration.fit_temperature(logits, changed, kind)


def test_mcnemar_counts_bools_and_refuses_nan():
  arm, base = np.array([1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 0])
  assert statistics.mcnemar(arm, base) == (2, 1, 1.0)
  with pytest.raises(ValueError, match="got NaN"):
    statistics.mcnemar(np.where(arm, np.nan, 0), base)


def test_an_image_whose_logits_are_not_numbers_is_an_error_not_a_class():
  paths = [pathlib.Path(name) for name in ("a.png", "b.png", "c.png")]
  drawn = []

  def logits(images):
    out = np.zeros((len(images), 2), np.float32)
    out[:, 1] = images[:, 0, 0, 0]
    out[1::3] = np.nan
    return out

  def draw(images, classes, files):
    drawn.append((images[:, 0, 0, 0], classes, list(files)))
    return files

  rows, errors = predictions.classify(
    paths,
    lambda path: np.full((2, 2, 3), ord(path.stem[0]) - ord("a"), np.uint8),
    logits,
    ["no", "yes"],
    likelihood.SIGMOID,
    draw,
  )
  assert [row["image"] for row in rows] == ["a.png", "c.png"]
  assert [row["overlay"] for row in rows] == ["a.png", "c.png"]
  assert rows[1]["top"][0]["class"] == "yes"
  assert rows[1]["top"][0]["probability"] == pytest.approx(special.expit(2.0))
  assert rows[1]["top"][1]["probability"] == 0.5
  assert rows[0]["probabilities"] == "sigmoid"
  assert [str(e) for e in errors] == [
    "b.png: the logits of the network are not numbers"
  ]
  (images, classes, files) = drawn[0]
  assert files == [paths[0], paths[2]]
  np.testing.assert_array_equal(images[:4], [0, 2, 0, 2])
  np.testing.assert_array_equal(classes[:4], [0, 1, 0, 1])


@pytest.fixture(scope="module")
def sigmoid_run(tmp_path_factory):
  """A run of eight steps with a loss for each class."""
  config = config_lib.load(
    str(ROOT / "configs" / "baseline.py"),
    {
      "loss.name": "sigmoid",
      "loss.label_smoothing": "0.1",
      "steps": "8",
      "batch_size": "48",
      "evaluate.batch_size": "200",
      "log.writers": "console",
    },
  )
  workdir = tmp_path_factory.mktemp("sigmoid") / "run"
  return workdir, loop.train(config, workdir)


def _evaluate(workdir, capsys, *extra):
  evaluate.main([f"--workdir={workdir}", *extra])
  return capsys.readouterr().out


def test_evaluate_gives_the_loss_of_the_result(sigmoid_run, capsys):
  workdir, result = sigmoid_run
  report = json.loads(_evaluate(workdir, capsys, "--json"))
  assert report["loss"] == report["probabilities"] == "sigmoid"
  row = report["views"]["identity"]
  assert row["loss"] == pytest.approx(result.test.loss, rel=1e-5)
  assert row["accuracy"] == result.test.accuracy
  run = runs.open_run(workdir)
  test = run.predictions("test")
  confidence = special.expit(test.logits.astype(np.float64)).max(-1)
  right = test.logits.argmax(-1) == test.labels
  edges = np.ceil(confidence * 15)
  by_hand = sum(
    abs(right[edges == b].sum() - confidence[edges == b].sum())
    for b in np.unique(edges)
  )
  assert row["calibration_error"] == pytest.approx(by_hand / len(right), 1e-4)


def test_a_table_names_the_loss_and_the_probabilities(sigmoid_run, capsys):
  workdir, _ = sigmoid_run
  head = _evaluate(workdir, capsys).splitlines()[0]
  assert "loss: sigmoid" in head
  assert "of sigmoid probabilities" in head


def test_predict_gives_a_probability_of_each_class(
  sigmoid_run, tmp_path, capsys
):
  from PIL import Image

  workdir, _ = sigmoid_run
  path = tmp_path / "x.png"
  Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(path)
  predict.main([f"--workdir={workdir}", "--json", str(path)])
  (row,) = json.loads(capsys.readouterr().out)
  network = runs.open_run(workdir).classifier()
  logits = network.predictor()(np.full((1, 16, 16, 3), 90, np.uint8))[0, 0]
  expected = np.sort(special.expit(logits))[::-1][:5]
  actual = [entry["probability"] for entry in row["top"]]
  np.testing.assert_allclose(actual, expected, rtol=1e-4)
  assert row["probabilities"] == "sigmoid"
  predict.main([f"--workdir={workdir}", str(path)])
  assert "need not sum to 1" in capsys.readouterr().out.splitlines()[0]
