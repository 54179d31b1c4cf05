"""Test-time augmentation of a comparison, against direct computation."""

import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest

from mixaug_jax import augment, runs
from mixaug_jax.analysis import statistics
from mixaug_jax.comparison import arms, plan, same_data, with_views
from mixaug_jax.errors import UserError
from mixaug_jax.training import records

ARMS = """
from ml_collections import ConfigDict
from configs import default


def get_config(dataset="digits"):
  config = ConfigDict()
  config.base = default.get_config(dataset)
  config.base.steps, config.base.data.classes = 3, "0,1,2"
  config.base.model.name = "small_vit"
  config.base.log.writers = "console"
  config.baseline, config.goal, config.seeds = "none", 0.05, 2
  config.arms = ConfigDict({"none": {}, "cut": {"mix": {"name": "cutmix"}}})
  return config
"""


def _plan(folder):
  return plan.make(arms.load(str(folder / "arms.py"), {}), folder / "runs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("with_views")
  (folder / "arms.py").write_text(ARMS)
  comparison = _plan(folder)
  for cell in comparison.cells:
    same_data.train(cell, comparison)
  numbers = with_views.measure(comparison, "shifts")
  return folder, numbers


@pytest.fixture
def comparison(trained, tmp_path):
  """A copy of the runs, with the stored predictions of `shifts`."""
  shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
  return _plan(tmp_path)


@pytest.fixture(scope="module")
def numbers(trained):
  return trained[1]


def _file(comparison, name):
  return comparison.cell(name).workdir / "predictions_test_views.npz"


def _correct(run):
  """Which test images are classified correctly by the mean of five shifts."""
  network = run.run.classifier()
  test = run.run.datasets()[0].test
  images = np.pad(
    test.images(np.arange(len(test))),
    ((0, 0), (1, 1), (1, 1), (0, 0)),
    "reflect",
  )
  places = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
  logits = [
    network.model.apply(
      network.variables,
      network.preprocessing(
        np.float32(images[:, y : y + 16, x : x + 16]) / np.float32(255)
      ),
      train=False,
    )
    for y, x in places
  ]
  return np.mean(logits, axis=0).argmax(1) == test.labels


def test_the_numbers_are_those_of_the_mean_over_views(comparison, numbers):
  found = numbers
  assert (found["views"], found["count"], found["notes"]) == ("shifts", 5, [])
  assert list(found["arms"]) == ["none", "cut"]
  json.dumps(found, allow_nan=False)
  differences = []
  for name, arm in found["arms"].items():
    plain = np.stack([r.correct for r in comparison.runs[name].values()])
    ours = np.stack([_correct(r) for r in comparison.runs[name].values()])
    assert (ours != plain).any()
    assert arm["seeds"] == [0, 1]
    for key, correct in (("without", plain), ("with", ours)):
      expected = statistics.accuracy(correct).interval(0.95, 0, 1)
      assert arm[key]["each"] == pytest.approx(list(correct.mean(1)))
      assert arm[key]["low"] == pytest.approx(expected.low)
      assert arm[key]["high"] == pytest.approx(expected.high)
    differences.append(statistics.difference(ours, plain))
  p_values = [x.p_value for x in differences]
  levels = statistics.holm_levels(p_values)
  for number, arm in enumerate(found["arms"].values()):
    expected = differences[number].interval(levels[number], -1, 1)
    for key, value in expected._asdict().items():
      assert arm["difference"][key] == pytest.approx(value)
    corrected = statistics.holm(p_values)[number]
    assert arm["difference"]["p_holm"] == pytest.approx(corrected)


def test_predictions_are_computed_once(comparison, numbers, monkeypatch):
  monkeypatch.delattr(runs.Run, "classifier")
  monkeypatch.delattr(runs.Run, "datasets")
  assert with_views.measure(comparison, "shifts") == numbers


def test_predictions_of_other_views_are_computed_again(comparison, numbers):
  other = with_views.measure(comparison, "flip")
  assert other["arms"]["none"]["with"] != numbers["arms"]["none"]["with"]
  assert with_views.measure(comparison, "shifts") == numbers


def test_predictions_of_other_weights_are_computed_again(comparison, numbers):
  paths = [_file(comparison, x) for x in ("none/0", "none/1", "cut/0", "cut/1")]
  shutil.copy(paths[3], paths[0])  # Those of another run.
  with np.load(paths[1]) as file:
    np.savez(paths[1], logits=np.zeros((3, 2)), source=file["source"])
  paths[2].write_bytes(paths[2].read_bytes()[:100])
  paths[3].unlink()
  assert with_views.measure(comparison, "shifts") == numbers
  before = paths[0].read_bytes()
  assert with_views.measure(comparison, "shifts") == numbers
  assert paths[0].read_bytes() == before


def test_runs_without_their_weights_are_left_out(comparison, numbers):
  for name in ("none/1", "cut/0", "cut/1"):
    shutil.rmtree(comparison.cell(name).workdir / "checkpoints")
  # Stored predictions need no weights.
  assert with_views.measure(comparison, "shifts") == numbers
  for cell in comparison.cells:
    _file(comparison, cell.name).unlink()
  found = with_views.measure(comparison, "shifts")
  assert list(found["arms"]) == ["none"]
  arm = found["arms"]["none"]
  assert arm["seeds"] == [0]
  for key in ("without", "with"):
    assert arm[key]["each"] == numbers["arms"]["none"][key]["each"][:1]
  assert arm["difference"]["p_value"] is None
  (note,) = found["notes"]
  assert note.startswith(
    "Views of none/1, cut/0, cut/1 are left out: the check"
  )
  assert note.endswith(" is missing; trials of a comparison keep none.")


def test_files_that_cannot_be_read_or_written_are_notes(
  comparison, numbers, monkeypatch
):
  path = _file(comparison, "cut/1")
  path.unlink()

  def full(path):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))

  with monkeypatch.context() as patch:
    patch.setattr(with_views.files, "replacing", full)
    found = with_views.measure(comparison, "shifts")
  (note,) = found["notes"]
  assert note == (
    "Predictions with views that could not be stored, so that another page "
    f"computes them again: 1 ([Errno 28] No space left on device: '{path}')."
  )
  assert {**found, "notes": []} == numbers
  monkeypatch.setattr(runs.Run, "classifier", full)
  found = with_views.measure(comparison, "shifts")
  assert found["arms"]["cut"]["seeds"] == [0]
  (note,) = found["notes"]
  assert note.startswith("Views of cut/1 are left out: [Errno 28] No space")


def test_a_run_that_diverged_has_the_accuracy_of_chance_either_way(comparison):
  cell = comparison.cell("cut/1")
  (cell.workdir / records.RESULT_FILE).unlink()
  records.write_diverged(cell.workdir, 2)
  arm = with_views.measure(comparison, "shifts")["arms"]["cut"]
  assert arm["without"]["each"][1] == arm["with"]["each"][1]
  assert arm["with"]["each"][1] == pytest.approx(1 / 3)
  assert arm["difference"]["each"][1] == 0


def test_all_runs_share_one_program(comparison, monkeypatch):
  traced = []
  make = augment.make_views

  def counted(names, size):
    views = make(names, size)
    return lambda images: traced.append(images.shape) or views(images)

  monkeypatch.setattr(augment, "make_views", counted)
  with_views.measure(comparison, "identity,flip")
  # For the check of the views, and for the program.
  assert len(traced) == 2


def test_other_images_than_those_of_the_run_are_not_measured(comparison):
  run = comparison.first
  other = dataclasses.replace(run.compared, ids=run.compared.ids[::-1])
  comparison.runs["none"][0] = dataclasses.replace(run, compared=other)
  (note,) = with_views.measure(comparison, "shifts")["notes"]
  assert note == (
    "Views of none/0 are left out: the images are not those that the run was "
    "measured on."
  )


@pytest.mark.parametrize(
  ("views", "size", "said"),
  [
    ("shift", 16, "config.views: views must be one of"),
    ("flip,flip", 16, "config.views: views must be named, each once"),
    ("", 16, "config.views: views must be one of"),
    ("shifts", 1, "config.views: reflect padding of 1 pixels is too long"),
  ],
)
def test_wrong_views_are_refused(trained, views, size, said):
  config = _plan(trained[0]).cells[0].config.copy_and_resolve_references()
  assert with_views.check("identity,shifts", config) == 6
  with config.unlocked():
    config.data.image_size = config.data.cache_size = size
  with pytest.raises(UserError, match=said):
    with_views.check(views, config)
