"""Splits are disjoint, stratified and drawn by the seed; errors are clear."""

import pathlib

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets as sklearn_datasets

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.data.digits import Digits, load_digits
from mixaug_jax.data.folder import Folder
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment

ROOT = pathlib.Path(__file__).parent.parent


def _load(seed=0, dataset="digits", **overrides):
  overrides = {f"data.{key}": str(value) for key, value in overrides.items()}
  path = f"{ROOT}/configs/baseline.py:{dataset}"
  return data.load(config_lib.load(path, overrides).data, seed)


@pytest.fixture
def folder(tmp_path):
  """Two classes of twelve and of four images, and a test split."""
  rng = np.random.default_rng(0)
  for split, counts in {"train": (12, 4), "test": (2, 3)}.items():
    for name, count in zip("ab", counts, strict=True):
      (tmp_path / "set" / split / name).mkdir(parents=True)
      for index in range(count):
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        file = tmp_path / "set" / split / name / f"{index:02}.png"
        Image.fromarray(pixels).save(file)
  return tmp_path / "set"


def _folder(folder, seed=0, **overrides):
  settings = {"dir": folder, "image_size": 8, "cache_size": 8}
  settings["cache_dir"] = folder.parent / "cache"
  return _load(seed, "folder", **{**settings, **overrides})


def test_digits_are_fifty_balanced_examples_that_the_seed_chooses():
  one, other = _load(0), _load(1)
  assert np.bincount(one.train.labels).tolist() == [5] * 10
  assert len(one.test) == 1000
  assert one.test.ids == other.test.ids
  assert set(one.train.ids) != set(other.train.ids)
  assert _load(0).train.ids == one.train.ids
  used = [*one.train.ids, *one.validation.ids, *one.test.ids]
  assert len(used) == len(set(used))


def test_digits_are_those_of_scikit_learn():
  expected = sklearn_datasets.load_digits()
  images, labels = load_digits()
  np.testing.assert_array_equal(images, expected.images)
  np.testing.assert_array_equal(labels, expected.target)
  train, test = Digits.splits().values()
  assert len(train) + len(test) == len(labels)
  for source in (train, test):
    for index, name in enumerate(source.ids):
      row = int(name.removeprefix("digits/"))
      assert source.labels[index] == expected.target[row]
      np.testing.assert_allclose(
        source[index]["image"][..., 0],
        expected.images[row] * 255 / 16,
        atol=0.5,
      )


def test_digits_are_upright_rgb_of_the_requested_size():
  images = _load().train.images(np.arange(50))
  assert images.shape == (50, 16, 16, 3)
  assert images.dtype == np.uint8
  assert (images[..., 0] == images[..., 2]).all()


def test_a_folder_is_read_in_order_and_validation_is_held_out(folder):
  sets = _folder(folder, validation_fraction=0.25)
  assert sets.class_names == ("a", "b")
  assert np.bincount(sets.validation.labels).tolist() == [3, 1]
  assert np.bincount(sets.train.labels).tolist() == [9, 3]
  assert not set(sets.train.ids) & set(sets.validation.ids)
  assert sets.test.ids[0] == str(pathlib.Path("test", "a", "00.png"))
  expected = Image.open(folder / "test" / "a" / "00.png")
  expected = np.asarray(expected.resize((8, 8), Image.Resampling.BILINEAR))
  np.testing.assert_array_equal(sets.test.images(np.array([0]))[0], expected)


def test_a_validation_folder_is_used_as_validation(folder):
  (folder / "test").rename(folder / "validation")
  sets = _folder(folder)
  assert len(sets.train) == 16
  assert len(sets.validation) == 5
  assert sets.test is None


def test_the_seed_draws_the_validation_set(folder):
  ids = lambda seed: _folder(folder, seed, validation_fraction=0.5).train.ids
  assert ids(3) == ids(3)
  assert len({tuple(ids(seed)) for seed in range(5)}) > 1


def test_oversampling_draws_every_class_equally_often(folder):
  counts = np.bincount(_folder(folder, oversample=True).train.labels)
  assert counts[0] == counts[1]


def test_classes_by_count_and_by_name():
  assert _load(classes=3).class_names == ("0", "1", "2")
  sets = _load(classes="7,2")
  assert sets.class_names == ("7", "2")
  assert set(sets.test.labels) == {0, 1}


@pytest.mark.parametrize("placement", ["host", "stream", "device"])
def test_bad_images_are_refused_or_left_out(folder, placement):
  (folder / "train" / "a" / "03.png").write_bytes(b"")
  (folder / "train" / "b" / "zz.jpg").write_bytes(b"no image")
  sets = _folder(folder, on_error="skip", placement=placement)
  assert len(sets.skipped) == 2
  assert len(sets.train) + len(sets.validation) == 15
  assert not any("zz" in name for name in sets.train.ids)
  if placement != "stream":  # A stream meets them when it reads them.
    with pytest.raises(UserError, match="2 of 17 images cannot be read, the"):
      _folder(folder, placement=placement)


class WithoutTrain:
  """A data set that cannot be trained on."""

  @classmethod
  def splits(cls, directory):
    return {"test": cls()}


@pytest.mark.parametrize(
  ("overrides", "sentence"),
  [
    (
      {"name": "cifar"},
      r"data\.name .* digits, folder, stanford_dogs .*tfds:NAME",
    ),
    ({"name": "no_such_module:Source"}, r"config\.data\.name.*no_such_module"),
    (
      {"name": "pathlib:Path"},
      r"pathlib:Path has no method splits\(directory\)",
    ),
    ({"name": f"{__name__}:WithoutTrain"}, "has no split train, but test"),
    ({"classes": "1"}, "must be 2 to 10"),
    ({"classes": "2,x"}, "no class 'x'"),
    ({"classes": "11"}, "must be 2 to 10"),
  ],
)
def test_mistakes_are_reported(overrides, sentence):
  with pytest.raises(UserError, match=sentence):
    _load(**overrides)


def test_folders_that_are_not_a_data_set_are_reported(folder, tmp_path):
  with pytest.raises(UserError, match="there is no folder"):
    _folder(tmp_path / "nothing")
  (folder / "test" / "c").mkdir()
  (folder / "test" / "c" / "x.png").touch()
  with pytest.raises(UserError, match="a class that train does not have: c"):
    _folder(folder)
  (folder / "train" / "c").mkdir()
  with pytest.raises(UserError, match=r"no image in .*; add some"):
    _folder(folder)


def test_sources_and_placement_replace_those_of_the_config(folder):
  sources = Folder.splits(str(folder))
  del sources["test"]
  config = config_lib.load(
    f"{ROOT}/configs/baseline.py:digits",
    {"data.placement": "host", "batch_size": "48", "evaluate.batch_size": "48"},
  )
  sets = data.load(config.data, 0, sources=sources, placement="stream")
  assert sets.class_names == ("a", "b")
  assert sets.test is None
  assert {sets.train.placement, sets.validation.placement} == {"stream"}
  assert data.load(config.data, 0).test.placement == "host"
  built = experiment.build(config, sources=sources)
  assert built.datasets.train.ids == sets.train.ids
