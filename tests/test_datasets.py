"""Splits are disjoint, stratified and drawn by the seed; errors are clear."""

import pathlib

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets as sklearn_datasets

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.data import cache
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


def test_the_digits_have_no_folder():
  with pytest.raises(UserError, match="add :folder to --config"):
    _load(dir="photos")


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
  with pytest.raises(UserError, match="2 of 17 images cannot be read, the"):
    _folder(folder, placement=placement)


def test_an_image_that_is_lost_while_images_stream(folder, monkeypatch):
  options = {"placement": "stream", "on_error": "skip"}
  # The state of a file may stay when its content is lost.
  monkeypatch.setattr(Folder, "fingerprint", lambda self: self._root)
  train = _folder(folder, **options).train
  row = np.array([2])
  path = folder / train.ids[2]
  content = path.read_bytes()
  path.write_bytes(b"no image")
  with pytest.raises(UserError, match=r"png cannot be read any more: it is d"):
    train.images(row)
  path.write_bytes(content)
  train.images(row)
  # A new run leaves it out as the sentence states, and only so.
  path.write_bytes(b"no image")
  assert not _folder(folder, **options).skipped
  cache.clear(str(folder.parent / "cache"))
  assert list(_folder(folder, **options).skipped) == [train.ids[2]]


def test_a_class_without_a_readable_image_is_an_error(folder):
  for file in (folder / "train" / "b").iterdir():
    file.write_bytes(b"")
  with pytest.raises(UserError, match="no image of the class b can be read"):
    _folder(folder, on_error="skip")


def test_the_first_image_may_be_unreadable():
  class Missing(Unlabelled):
    """A source whose first image cannot be opened."""

    def __getitem__(self, index):
      if index == 0:
        raise FileNotFoundError(2, "No such file or directory")
      return super().__getitem__(index)

  sources = {"train": Missing([0, 1] * 4)}
  sets = data.load(_settings(on_error="skip"), 0, sources=sources)
  assert sets.skipped == {"train 0": "No such file or directory"}
  with pytest.raises(UserError, match="the first is train 0: No such file"):
    data.load(_settings(), 0, sources=sources)


class Unlabelled:
  """Eight arrays per class; the caller sets the labels."""

  class_names = ("a", "b")

  def __init__(self, labels, split="train", images=None):
    self.labels = np.asarray(labels)
    self.ids = [f"{split} {i}" for i in range(len(self.labels))]
    rng = np.random.default_rng(len(split))
    shape = (len(self.labels), 8, 8, 3)
    self.images = rng.integers(0, 256, shape, np.uint8)
    if images is not None:
      self.images = images

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    return {
      "image": self.images[index],
      "label": int(self.labels[index]),
      "id": self.ids[index],
    }

  def fingerprint(self):
    return str(hash(self.images.tobytes()))


def _settings(**overrides):
  overrides = {f"data.{key}": str(value) for key, value in overrides.items()}
  path = f"{ROOT}/configs/baseline.py:folder"
  return config_lib.load(path, {"data.image_size": "8", **overrides}).data


def test_examples_without_a_class_are_left_out_and_counted():
  sources = {
    "train": Unlabelled([0, 1, 0, 1, -1, 0, 2, 1]),
    "validation": Unlabelled([0, 1, -1], "validation"),
    "test": Unlabelled([-1] * 5, "test"),
  }
  sets = data.load(_settings(), 0, sources=sources)
  assert sets.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
  assert sets.train.ids[4:] == ["train 5", "train 7"]
  assert sets.validation.labels.tolist() == [0, 1]
  assert sets.test is None
  reason = "images whose label is not a class"
  assert sets.left_out["train"] == {reason: ["train 4", "train 6"]}
  assert sets.identity.left_out["test"] == {reason: 5}
  np.testing.assert_array_equal(
    sets.train.images(np.array([4]))[0], sources["train"].images[5]
  )
  sources["train"] = Unlabelled([-1] * 8)
  with pytest.raises(UserError, match="no image of train has one of the"):
    data.load(_settings(), 0, sources=sources)


class OtherClasses(Unlabelled):
  class_names = ("b", "a")


@pytest.mark.parametrize(
  ("sources", "sentence"),
  [
    ({"test": Unlabelled([0, 1])}, "has no split train, but test"),
    (
      {"train": Unlabelled([0, 1]), "test": OtherClasses([0, 1])},
      "the source of test has other class names",
    ),
    ({"train": Unlabelled([0.0, 1.0])}, "they must be integers"),
  ],
)
def test_sources_that_do_not_belong_together_are_refused(sources, sentence):
  with pytest.raises(UserError, match=sentence):
    data.load(_settings(), 0, sources=sources)


def test_a_source_has_as_many_labels_as_ids():
  source = Unlabelled([0, 1, 0, 1])
  source.ids = source.ids[:-1]
  with pytest.raises(UserError, match="4 examples, 4 labels and 3 ids"):
    data.load(_settings(), 0, sources={"train": source})


def _divided(seed=0, **overrides):
  whole = Unlabelled([0] * 10 + [1] * 20, "whole")
  settings = _settings(test_fraction=0.3, validation_fraction=0.2, **overrides)
  return data.load(settings, seed, sources={"all": whole})


def test_a_source_without_splits_is_divided():
  sets = _divided()
  assert np.bincount(sets.test.labels).tolist() == [3, 6]
  assert np.bincount(sets.validation.labels).tolist() == [1, 3]
  assert np.bincount(sets.train.labels).tolist() == [6, 11]
  every = [*sets.train.ids, *sets.validation.ids, *sets.test.ids]
  assert sorted(every) == sorted(f"whole {i}" for i in range(30))
  other = _divided(seed=1)
  assert other.test.ids == sets.test.ids
  assert other.validation.ids != sets.validation.ids
  assert _divided(test_seed=1).test.ids != sets.test.ids
  unread = _divided(test=False)
  assert unread.test is None
  # What would be test is not trained on instead.
  assert list(unread.train.ids) == list(_divided().train.ids)
  assert list(unread.validation.ids) == list(_divided().validation.ids)


def test_the_test_split_can_be_switched_off(folder):
  assert _folder(folder).test is not None
  sets = _folder(folder, test=False)
  assert sets.test is None
  assert len(sets.train) == len(_folder(folder).train)


def _copied():
  """Test holds a copy of train, and train two copies, one mislabelled."""
  train = Unlabelled([0, 1] * 6)
  train.images[4] = train.images[2]
  train.images[7] = train.images[2]
  test = Unlabelled([0, 1], "test")
  test.images[1] = train.images[5]
  return {"train": train, "test": test}


def test_copies_are_reported_or_refused():
  sets = data.load(_settings(), 0, sources=_copied())
  across = {x for pairs in sets.duplicates.across.values() for x in pairs}
  assert across == {("train 5", "test 1")}
  assert len(sets.duplicates.labels) == 1
  assert sets.identity.under_two_labels == 1
  lines = "; ".join(sets.warnings)
  assert "1 image of test is also in" in lines
  assert "1 image has a copy with another label" in lines
  with pytest.raises(UserError, match=r"config\.data\.duplicates=report"):
    data.load(_settings(duplicates="error"), 0, sources=_copied())
  sources = {"train": Unlabelled([0, 1] * 6)}
  sets = data.load(_settings(duplicates="error"), 0, sources=sources)
  assert not sets.duplicates


def test_copies_are_held_out_together():
  """Whatever the seed, an image is not in train and validation at once."""
  train = Unlabelled([0, 1] * 12)
  train.images[2::6] = train.images[2]  # Four copies of class 0.
  train.images[3::6] = train.images[3]
  for seed in range(10):
    settings = _settings(validation_fraction=0.3)
    sets = data.load(settings, seed, sources={"train": train})
    assert not sets.duplicates
    assert set(sets.validation.labels) == {0, 1}
    assert set(sets.train.labels) == {0, 1}
    assert len(sets.validation) >= 6


def test_a_class_of_copies_alone_is_divided_and_reported():
  train = Unlabelled([0, 1] * 8)
  train.images[::2] = train.images[0]
  sets = data.load(_settings(), 0, sources={"train": train})
  assert set(sets.validation.labels) == {0, 1}
  assert list(sets.duplicates.across) == [("train", "validation")]


def test_the_share_of_an_image_that_is_seen(folder):
  assert _folder(folder, cache_size="none").seen == 1
  sets = _folder(folder, cache_size=16)
  assert sets.seen == 0.25
  assert "sees only 25% of an average picture" in sets.warnings[0]
  wide = np.zeros((4, 10, 20, 3), np.uint8)
  wide[:, 0, 0, 0] = np.arange(4)
  source = Unlabelled([0, 1, 0, 1], images=wide)
  for resize, seen in (("crop", 0.5), ("squash", 1), ("pad", 1)):
    settings = _settings(resize=resize, validation_fraction=0.5)
    assert data.load(settings, 0, sources={"train": source}).seen == seen


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
      r"data\.name .* digits, folder, packed, stanford_dogs .*tfds:NAME",
    ),
    ({"name": "no_such_module:Source"}, r"config\.data\.name.*no_such_module"),
    (
      {"name": "pathlib:Path"},
      r"pathlib:Path has no method splits\(directory\)",
    ),
    ({"name": f"{__name__}:WithoutTrain"}, "has no split train, but test"),
    ({"bits": "8"}, r"data\.bits must be one of 10, 12, 14, 16, got 8"),
    ({"duplicates": "no"}, r"data\.duplicates must be one of report, error"),
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


@pytest.mark.parametrize(
  ("images", "held_out"), [(1000, 100), (400, 50), (200, 50), (80, 20)]
)
def test_an_unset_share_for_validation_follows_the_images(images, held_out):
  labels = np.arange(images) % 2
  whole = {"train": Unlabelled(labels.tolist())}
  sets = data.load(_settings(validation_fraction="none"), 0, sources=whole)
  assert len(sets.validation) == held_out
  assert len(sets.train) == images - held_out
  assert sets.chosen_share == held_out / images
  sets = data.load(_settings(validation_fraction="0.5"), 0, sources=whole)
  assert sets.chosen_share is None
