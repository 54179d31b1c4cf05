"""Several labels an image, or none: lists, mistakes, splits, settings."""

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.data import duplicates, label_sets, set_stratify
from mixaug_jax.data.csv_source import CsvSource
from mixaug_jax.data.identity import SplitIdentity
from mixaug_jax.data.labelled_files import LabelledFiles
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment

FILES = [f"im/{k}.png" for k in range(12)]
CELLS = ["dog;cat", "", "cat", "dog", "ant;cat;dog", "cat; dog"] * 2


@pytest.fixture
def folder(tmp_path):
  """A folder with the images of FILES, which differ, and list.csv."""
  (tmp_path / "im").mkdir()
  for red, name in enumerate(FILES):
    Image.new("RGB", (8, 8), (red * 20, 0, 0)).save(tmp_path / name)
  _write(tmp_path, zip(FILES, CELLS, strict=True))
  return tmp_path


def _write(folder, rows, header="path,labels", name="list.csv"):
  lines = [header] * bool(header) + [",".join(row) for row in rows]
  (folder / name).write_text("\n".join(lines) + "\n")
  return str(folder / name)


def _open(path, **options):
  return CsvSource.splits(str(path), **({"label_separator": ";"} | options))


def test_a_cell_holds_labels_or_none(folder):
  source = _open(folder / "list.csv")["all"]
  assert source.class_names == ("ant", "cat", "dog")
  assert source.labels.dtype == np.uint8
  expected = [[0, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 1]]
  assert source.labels.tolist() == expected * 2
  assert source[1]["label"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("separator", ["|", " ", ","])
def test_the_separator_is_any_character(folder, separator):
  cells = [f'"{cell.replace("; ", ";")}"' for cell in CELLS]
  cells = [cell.replace(";", separator) for cell in cells]
  path = _write(folder, zip(FILES, cells, strict=True))
  found = _open(path, label_separator=separator)["all"]
  assert found.class_names == ("ant", "cat", "dog")
  assert found.labels.sum(0).tolist() == [2, 8, 8]


def test_a_list_without_a_header_may_begin_with_no_label(folder):
  path = _write(folder, [("im/0.png", ""), ("im/1.png", "a;b")], header="")
  assert _open(path)["all"].labels.tolist() == [[0, 0], [1, 1]]


def test_columns_of_0_and_1_are_labels(folder):
  rows = [(name, str(k % 2), "x", str(k // 6)) for k, name in enumerate(FILES)]
  path = _write(folder, rows, header="path,dog,class,cat")
  options = {"label_separator": None, "label_columns": "dog, cat"}
  source = _open(path, **options)["all"]
  assert source.class_names == ("cat", "dog")
  assert source.labels.tolist() == [[k // 6, k % 2] for k in range(12)]


@pytest.mark.parametrize("names", ["breed,species", "image,target"])
def test_columns_of_labels_may_have_usual_names(folder, names):
  rows = [(name, str(k % 2), "1") for k, name in enumerate(FILES)]
  path = _write(folder, rows, header=f"path,{names}")
  options = {"label_separator": None, "label_columns": names}
  source = _open(path, **options)["all"]
  assert source.class_names == tuple(names.split(","))
  assert source.labels.tolist() == [[k % 2, 1] for k in range(12)]


@pytest.mark.parametrize("header", ["path,labels", ""])
def test_a_separator_that_separates_cells_is_named(folder, header):
  path = _write(folder, [(FILES[0], "cat"), (FILES[1], "cat,dog")], header)
  with pytest.raises(UserError, match="',' separates cells and, by"):
    _open(path, label_separator=",")


def test_a_test_list_without_labels_is_left_out(folder):
  (folder / "list.csv").rename(folder / "train.csv")
  _write(folder, [(name,) for name in FILES], header="path", name="test.csv")
  found = _open(folder)
  assert set(found) == {"train"}
  assert "images of test.csv without a class" in str(found["train"].left_out)
  # Its first image has no label, but the others have some.
  _write(
    folder, zip(FILES, CELLS[1:] + CELLS[:1], strict=True), name="test.csv"
  )
  assert len(_open(folder)["test"]) == 12


@pytest.mark.parametrize(
  ("cell", "why"),
  [
    ("cat;", r"line 14: a label is empty in 'cat;'; remove a ';'"),
    ("cat;;dog", "a label is empty"),
    ("cat;cat", "the label cat stands there twice"),
    ("a,b", "3 cells in place of 2"),
  ],
)
def test_a_wrong_cell_names_its_line(folder, cell, why):
  rows = [*zip(FILES, CELLS, strict=True), ("im/0.png", cell)]
  with pytest.raises(UserError, match=why):
    _open(_write(folder, rows))


def test_other_mistakes_in_lists_are_reported(folder):
  rows = [*zip(FILES, CELLS, strict=True), ("im/0.png", "cat")]
  with pytest.raises(UserError, match="put all labels of an image into one"):
    _open(_write(folder, rows))
  with pytest.raises(UserError, match=r"no row of .* has a label"):
    _open(_write(folder, [("im/0.png", ""), ("im/1.png", "")]))
  with pytest.raises(UserError, match=r"set config.data.label_separator if"):
    _open(_write(folder, [("im/0.png", "cat"), ("im/1.png", "")]), **NONE)
  _write(folder, zip(FILES, CELLS, strict=True), name="train.csv")
  _write(folder, [("im/0.png", "cat;emu")], name="test.csv")
  with pytest.raises(UserError, match="train does not have the class emu"):
    _open(folder)
  path = _write(folder, [("im/0.png", "1", "yes")], header="path,cat,dog")
  columns = {**NONE, "label_columns": "cat,dog"}
  with pytest.raises(UserError, match="column dog holds 'yes'; it must be 0"):
    _open(path, **columns)
  with pytest.raises(UserError, match=r"no column emu, .*; its columns are"):
    _open(path, **{**NONE, "label_columns": "cat,emu"})
  with pytest.raises(UserError, match=r"no column Cat, .*; write cat$"):
    _open(path, **{**NONE, "label_columns": "Cat,dog"})
  with pytest.raises(UserError, match=r"or set config.data.label_columns in"):
    _open(path)
  with pytest.raises(UserError, match="must be different names of columns"):
    _open(path, **{**NONE, "label_columns": "cat,cat"})


NONE = {"label_separator": None}


def _config(folder, **overrides):
  return config_lib.load(
    "cutmix",
    {
      "data.name": "csv",
      "data.dir": str(folder / "list.csv"),
      "data.label_separator": ";",
      "data.examples_per_class": None,
      "data.validation_fraction": 0.4,
      "data.image_size": 8,
      "data.cache_dir": str(folder / "cache"),
      "loss.name": "sigmoid",
      **{key.replace("__", "."): value for key, value in overrides.items()},
    },
  )


@pytest.mark.parametrize(
  ("overrides", "why"),
  [
    ({"loss__name": "softmax"}, "set config.loss.name=sigmoid"),
    ({"mix__partner": "other_class"}, "set config.mix.partner=any"),
    ({"mix__name": "snapmix"}, "choose another mixer"),
    ({"data__examples_per_class": 5}, "examples_per_class counts the images"),
    ({"data__oversample": True}, "oversample repeats the images of a class"),
    ({"data__label_columns": "cat"}, "set one of config.data.label_separator"),
    ({"data__label_separator": "; "}, "must be one character such as ; or |"),
    ({"data__name": "folder"}, "needs the lists of config.data.name=csv"),
    ({"data__name": "tfds:mnist"}, "needs the lists of config.data.name=csv"),
  ],
)
def test_a_setting_that_needs_one_class_is_refused(folder, overrides, why):
  config = _config(folder, **overrides)
  with pytest.raises(UserError, match=why) as caught:
    experiment.check(config)
  assert "\n" not in str(caught.value)
  with pytest.raises(UserError, match=why):
    experiment.build(config)


def test_the_splits_have_label_sets_and_describe_them(folder):
  sets = data.load(_config(folder).data, 0)
  for split in sets.by_name().values():
    assert split.labels.dtype == np.uint8
    assert split.labels.shape == (len(split), 3)
  ids = [name for split in sets.by_name().values() for name in split.ids]
  assert sorted(ids) == sorted(FILES)
  text = " ".join(sets.warnings)
  assert "validation has fewer than 5 images of" in text
  assert "whose threshold is 0.5" in text
  found = sets.identity.splits
  total = np.sum([x.per_class for x in found.values()], axis=0)
  assert total.tolist() == [2, 8, 8]


def test_a_split_without_any_label_is_refused(folder):
  _write(folder, zip(FILES[:6], CELLS[:6], strict=True), name="train.csv")
  _write(folder, [(name, "") for name in FILES[6:]], name="test.csv")
  config = _config(folder, data__dir=str(folder))
  with pytest.raises(UserError, match="no image of test has a label"):
    data.load(config.data, 0)


def test_chosen_classes_keep_images_and_drop_labels(folder):
  sets = data.load(_config(folder, data__classes="cat,ant").data, 0)
  assert sets.class_names == ("cat", "ant")
  assert sum(len(split) for split in sets.by_name().values()) == 12
  source = _open(folder / "list.csv")["all"]
  place = {name: row for row, name in enumerate(source.ids)}
  rows = [place[name] for name in sets.train.ids]
  np.testing.assert_array_equal(
    sets.train.labels, source.labels[rows][:, [1, 0]]
  )


def test_the_labels_of_a_run_that_the_data_lack_have_no_image(folder):
  config = _config(folder).data
  names = ("ant", "bee", "cat", "dog")
  sets = data.load(config, 0, class_names=names)
  assert sets.train.labels.shape[1] == 4
  assert not sets.train.labels[:, 1].any()
  sets = data.load(config, 0, class_names=("cat", "dog"))
  unknown = sets.left_out["all"]["images of classes that the run does not know"]
  assert unknown == ["im/4.png", "im/10.png"]


def test_a_change_of_a_label_changes_the_identity():
  labels = np.array([[1, 0], [1, 1]], np.uint8)
  of = lambda x: SplitIdentity.of(["a", "b"], x, np.zeros(2, np.uint64), 2)
  assert of(labels).per_class == [2, 1]
  assert of(labels).ids != of(labels[::-1]).ids
  assert of(labels).ids != of(np.array([[1, 0], [1, 0]], np.uint8)).ids


def test_a_change_of_a_label_of_many_changes_the_fingerprint():
  labels = np.zeros((2, 1500), np.uint8)
  other = labels.copy()
  other[0, 700] = 1
  one, two = (
    LabelledFiles("/", ["/a", "/b"], ["a", "b"], x, ("c",) * 1500, {})
    for x in (labels, other)
  )
  assert one.fingerprint() != two.fingerprint()


def test_copies_with_other_labels_are_found():
  labels = np.array([[1, 0], [1, 1], [1, 0]], np.uint8)
  examples = duplicates.Examples(list("abc"), labels, np.zeros(3, np.uint64))
  assert duplicates.find({"train": examples}).labels == [("a", "b")]


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_held_out_shares_are_stratified_by_every_label(fraction):
  rng = np.random.default_rng(0)
  rates = np.array([0.5, 0.3, 0.1, 0.03, 0.01])
  labels = (rng.random((600, 5)) < rates).astype(np.uint8)
  rest, held = set_stratify.hold_out(labels, fraction, np.random.default_rng(1))
  assert sorted([*rest, *held]) == list(range(600))
  assert abs(len(held) - 600 * fraction) <= 3
  wanted = fraction * labels.sum(0)
  np.testing.assert_allclose(labels[held].sum(0), wanted, atol=2)
  again = set_stratify.hold_out(labels, fraction, np.random.default_rng(1))
  np.testing.assert_array_equal(again[1], held)
  other = set_stratify.hold_out(labels, fraction, np.random.default_rng(2))
  assert other[1].tolist() != held.tolist()


def test_a_rare_label_is_in_both_parts_and_copies_are_in_one():
  rng = np.random.default_rng(0)
  labels = np.zeros((100, 3), np.uint8)
  labels[:, 0] = 1
  labels[3:5, 1] = 1
  labels[7, 2] = 1
  hashes = np.arange(100).astype(np.uint64)
  hashes[50:60] = 1000
  rest, held = set_stratify.hold_out(labels, 0.1, rng, hashes)
  assert labels[rest].sum(0)[1:].tolist() == [1, 1]
  assert labels[held].sum(0)[1:].tolist() == [1, 0]
  assert not set(hashes[rest]) & set(hashes[held])
  one = set_stratify.hold_out(labels[:1], 0.5, rng)
  assert [x.tolist() for x in one] == [[0], []]
  both = set_stratify.hold_out(np.eye(2, dtype=np.uint8), 0.1, rng)
  assert [len(x) for x in both] == [1, 1]


def test_words_name_labels_or_none():
  labels = np.array([[1, 1], [0, 0]], np.uint8)
  assert label_sets.in_words(labels, ["a", "b"]) == ["a, b", "no label"]
  assert label_sets.in_words(np.array([1, 0]), ["a", "b"]) == ["b", "a"]


def test_a_forgotten_separator_is_noticed(folder):
  cells = ["cat", "dog", "cat;dog"] * 4
  _write(folder, zip(FILES, cells, strict=True))
  config = _config(folder, data__label_separator=None)
  assert any(
    "'cat;dog' is made of other classes" in text
    and "config.data.label_separator=';'" in text
    for text in data.load(config.data, 0).warnings
  )
  folders = folder / "folders"
  for name in ("cat", "dog", "cat,dog"):
    (folders / name).mkdir(parents=True)
    for image in FILES[:9]:
      (folders / name / f"{image[3:]}").hardlink_to(folder / image)
  config.data.name, config.data.dir = "folder", str(folders)
  assert "made of" not in " ".join(data.load(config.data, 0).warnings)
  config = _config(folder)
  assert "made of" not in " ".join(data.load(config.data, 0).warnings)
  assert label_sets.hidden(["cat", "dog, big"]) == []


def test_one_class_an_image_stays_as_it_was(folder):
  path = _write(folder, [(name, "ab"[k % 2]) for k, name in enumerate(FILES)])
  source = CsvSource.splits(path)["all"]
  assert source.labels.dtype == np.int32
  assert source.labels.shape == (12,)
