"""A source of the user's own is checked, and each mistake is one sentence."""

import numpy as np
import pytest
from test_datasets import ROOT, Unlabelled

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.data import checked, datasets
from mixaug_jax.errors import UserError


def _settings(**overrides):
  values = {f"data.{key}": str(value) for key, value in overrides.items()}
  values = {"data.image_size": "8", **values}
  return config_lib.load(f"{ROOT}/configs/baseline.py:folder", values).data


def _source(**attributes):
  source = Unlabelled([0, 1] * 4)
  for name, value in attributes.items():
    setattr(source, name, value)
  return source


def test_sequences_become_what_the_contract_describes():
  source = _source(
    labels=[0, 1] * 4,
    ids=range(8),
    class_names=["a", "b"],
    left_out={"blurred images": (), "old images": ["x"]},
  )
  sets = data.load(_settings(), 0, sources={"train": source})
  assert sets.class_names == ("a", "b")
  assert sorted([*sets.train.ids, *sets.validation.ids]) == list("01234567")
  assert sets.train.labels.dtype == np.int32
  assert sets.left_out == {"train": {"old images": ["x"]}}


def test_names_are_stored_as_they_can_be_printed():
  escape, tab = "\x1b[2J", "a\tb"
  source = checked.Checked(
    "train",
    _source(
      ids=[escape, tab, *"234567"],
      class_names=["dog\n", "é\\x"],
      left_out={"old\n": [tab]},
    ),
  )
  assert source.ids[:3] == ["\\x1b[2J", "a\\tb", "2"]
  assert source.class_names == ("dog\\n", "é\\x")
  assert source.left_out == {"old\\n": ["a\\tb"]}


@pytest.mark.parametrize(
  ("attributes", "sentence"),
  [
    ({"labels": [0.0, 1.0] * 4}, "they must be integers"),
    ({"labels": [[0, 1]] * 4}, "they must be integers"),
    ({"labels": [0, 1]}, "has 2 examples, 2 labels and 8 ids"),
    ({"ids": list("aabcdefg")}, "has the id a twice"),
    ({"ids": None}, "is not one that docs/data.md describes: TypeError"),
    ({"class_names": (0, 1)}, "class names that are no texts"),
    ({"class_names": ()}, "has no class"),
    ({"class_names": ("a", "a")}, "has two classes of the name a"),
    ({"class_names": ("\u00e9", "e\u0301")}, "has two classes of the name"),
    ({"left_out": ["x"]}, "is not one that docs/data.md describes"),
    ({"fingerprint": lambda: b"x"}, "which is not a text"),
  ],
)
def test_a_wrong_attribute_is_one_sentence(attributes, sentence):
  with pytest.raises(UserError, match=f"the source of train .*{sentence}"):
    checked.sources({"train": _source(**attributes)})


@pytest.mark.parametrize(
  ("splits", "sentence"),
  [
    (["train", "val"], "has the split 'val'; the names of splits are train"),
    (["all", "test"], "has the splits all, test; all stands alone"),
    (["test"], "has no split train, but test"),
    ([], "has no split train, but none"),
  ],
)
def test_other_splits_are_refused(splits, sentence):
  with pytest.raises(UserError, match=sentence):
    checked.sources({name: _source() for name in splits})
  with pytest.raises(UserError, match="must give a dict of splits"):
    checked.sources(None)


class Raises:
  """A source of the user's own that fails when it is opened."""

  @classmethod
  def splits(cls, directory):
    raise KeyError(directory)


class BadRows(Unlabelled):
  """A source that cannot give one of its items."""

  def __getitem__(self, index):
    if index == 3:
      raise ValueError("bad record")
    return super().__getitem__(index)


def test_whatever_the_code_of_the_user_raises_is_one_sentence():
  config = _settings(name=f"{__name__}:Raises", dir="photos")
  with pytest.raises(UserError, match="cannot open photos: KeyError"):
    datasets.open_sources(config)
  rows = {"train": BadRows([0, 1] * 4)}
  with pytest.raises(UserError, match="train 3: its source raises ValueError"):
    data.load(_settings(), 0, sources=rows)
  sets = data.load(_settings(on_error="skip"), 0, sources=rows)
  assert list(sets.skipped) == ["train 3"]


def test_a_class_without_training_images_is_a_warning():
  sources = {
    "train": Unlabelled([0, 0, 0]),
    "validation": Unlabelled([0, 1], "validation"),
  }
  sets = data.load(_settings(), 0, sources=sources)
  assert "train has no image of 1 of 2 classes; the first: b" in sets.warnings
