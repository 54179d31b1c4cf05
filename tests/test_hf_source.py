"""Data sets in the formats of the Hugging Face hub are sources."""

import importlib.util
import io

import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax.data import datasets as data
from mixaug_jax.data import labelled
from mixaug_jax.data.hf_source import HfDataset, HfSplit
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment

CLASSES = ["cat", "dog"]


def _png(value):
  file = io.BytesIO()
  Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
  return file.getvalue()


def _write(folder, columns=("image", "label"), count=6):
  """Writes train.parquet and test.parquet of images of one colour each."""
  datasets = pytest.importorskip("datasets")
  image, label = columns
  kinds = {
    image: datasets.Image(),
    label: datasets.ClassLabel(names=CLASSES),
    "weight": datasets.Value("float32"),
  }
  for split, first in (("train", 0), ("test", 100)):
    values = range(first, first + count)
    rows = {
      image: [{"bytes": _png(x), "path": f"{x}.png"} for x in values],
      label: [x % 2 for x in values],
      "weight": [0.5] * count,
    }
    table = datasets.Dataset.from_dict(rows, datasets.Features(kinds))
    table.to_parquet(folder / f"{split}.parquet")


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """An empty folder of data; the cache of `datasets` is a temporary one."""
  datasets = pytest.importorskip("datasets")
  monkeypatch.setattr(
    datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache")
  )
  monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
  (tmp_path / "data").mkdir()
  return tmp_path / "data"


@pytest.mark.parametrize("columns", [("image", "label"), ("img", "kind")])
def test_parquet_files_are_splits_with_classes_ids_and_images(folder, columns):
  _write(folder, columns)
  settings = {"data.name": "hf:parquet", "data.dir": str(folder)}
  config = config_lib.load("baseline", settings)
  sources = data.open_sources(config.data)
  assert set(sources) == {"train", "test"}
  test = sources["test"]
  assert test.class_names == ("cat", "dog")
  assert list(test.labels) == [0, 1, 0, 1, 0, 1]
  assert list(test.ids) == [f"{x}.png" for x in range(100, 106)]
  item = test[3]
  assert (item["label"], item["id"]) == (1, "103.png")
  assert item["image"] == _png(103)
  again = HfDataset("parquet").splits(str(folder))
  assert again["train"].fingerprint() == sources["train"].fingerprint()
  assert again["train"].fingerprint() != again["test"].fingerprint()
  assert set(HfDataset("parquet").splits(str(folder), test=False)) == {"train"}


def _write_images(folder):
  """Writes three files for each class to the folder train of `folder`."""
  for number, name in enumerate(CLASSES):
    for count in range(3):
      path = folder / "train" / name / f"{count}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(_png(100 * number + count))


def test_an_image_folder_is_read_and_squares_are_those_of_its_files(folder):
  _write_images(folder)
  source = HfDataset("imagefolder").splits(str(folder))["train"]
  assert source.class_names == ("cat", "dog")
  found = {source[i]["image"]: int(source.labels[i]) for i in range(6)}
  assert found == {_png(100 * n + x): n for n in range(2) for x in range(3)}
  assert len(set(source.ids)) == 6


def test_an_image_folder_has_the_same_ids_at_another_place(folder, tmp_path):
  _write_images(folder)
  _write_images(tmp_path / "elsewhere")
  (tmp_path / "link").symlink_to(folder)
  for place in (folder, tmp_path / "elsewhere", tmp_path / "link"):
    source = HfDataset("imagefolder").splits(str(place))["train"]
    assert source.ids == [f"train/{c}/{n}.png" for c in CLASSES for n in "012"]


def test_a_split_may_hold_more_bytes_than_one_chunk_of_arrow():
  datasets = pytest.importorskip("datasets")
  import pyarrow as pa

  content = pa.array([bytes(2**24)])  # All chunks share this memory.
  columns = [
    pa.chunked_array(
      pa.StructArray.from_arrays([content, pa.array([x])], ["bytes", "path"])
      for x in (f"{n}.png" for n in range(2**31 // 2**24))
    ),
    pa.chunked_array([pa.array([0, 1] * (2**31 // 2**25))]),
  ]
  kinds = {
    "image": datasets.Image(decode=False),
    "label": datasets.ClassLabel(names=CLASSES),
  }
  dataset = datasets.Dataset(
    pa.table(columns, list(kinds)),
    datasets.DatasetInfo(features=datasets.Features(kinds)),
    fingerprint="large",
  )
  split = HfSplit(dataset, "image", "label")
  assert split.ids == [f"{n}.png" for n in range(128)]
  assert list(split.labels) == [0, 1] * 64


@pytest.mark.parametrize(
  ("columns", "sentence"),
  [
    (("image", "image2"), "has 2 columns of type ClassLabel"),
    (("label", "label2"), None),
  ],
)
def test_several_columns_of_a_type_need_the_usual_name(
  folder, columns, sentence
):
  datasets = pytest.importorskip("datasets")
  from mixaug_jax.data import hf_source

  kind = datasets.ClassLabel(names=CLASSES)
  features = {"photo": datasets.Image(), columns[0]: kind, columns[1]: kind}
  if sentence is None:
    found = hf_source._columns(datasets, features, "x")
    assert found == ("photo", "label")
  else:
    with pytest.raises(UserError, match=sentence):
      hf_source._columns(datasets, features, "x")


def test_data_that_cannot_be_opened_are_one_sentence(folder):
  with pytest.raises(UserError, match=r"^cannot open the data set hf:parquet:"):
    HfDataset("parquet").splits(str(folder))
  with pytest.raises(
    UserError, match=r"reads a folder; name it by config\.data"
  ):
    HfDataset("parquet").splits(None)


def test_a_missing_package_is_named_before_anything_is_downloaded(monkeypatch):
  there = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name, *rest: None if name == "datasets" else there(name, *rest),
  )
  config = config_lib.load("baseline", {"data.name": "hf:ada/digits"})
  for fails in (experiment.check, lambda config: experiment.build(config)):
    with pytest.raises(UserError, match=r"install 'mixaug-jax\[datasets\]'$"):
      fails(config)


def test_a_folder_of_photos_is_scored_as_one(tmp_path):
  assert labelled.source_name("hf:ada/digits", str(tmp_path)) == "folder"
