"""TFDS data sets are read without TensorFlow."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.data import tfds_classes, tfds_source
from mixaug_jax.data.tfds_source import TfdsDataset
from mixaug_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))

# Runs in a separate process, with the format, the names of the splits and a
# prefix of the keys as arguments. It exits with 1 if ArrayRecord needs
# TensorFlow.
_PREPARE = """
import io, sys
import numpy as np, tensorflow_datasets as tfds
from PIL import Image

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))
where, format, splits, first = sys.argv[1:]

class Tiny(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict({
        "image": tfds.features.Image(encoding_format="jpeg"),
        "image/filename": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=["red", "green", "blue"]),
      }),
    )

  def _split_generators(self, manager):
    return {name: self._generate_examples(6 if name == "test" else 24)
            for name in splits.split(",")}

  def _generate_examples(self, count):
    for index in range(count):
      file = io.BytesIO()
      Image.new("RGB", (20, 30), COLOURS[index % 3]).save(file, "JPEG")
      file.seek(0)
      label = -1 if first == "unknown" and index == 4 else index % 3
      name = "same.jpg" if first == "same" else f"{index}.jpg"
      yield f"{first}{index}", {"image": file, "label": label,
                                "image/filename": name}

Tiny(data_dir=where, file_format=format).download_and_prepare()
sys.exit(format == "array_record" and "tensorflow" in sys.modules)
"""


def _prepare(root, format="array_record", splits="train,test", first=""):
  arguments = [root, format, splits, first]
  command = [sys.executable, "-c", _PREPARE, *arguments]
  subprocess.run(command, check=True, cwd=root)
  return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  return _prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def tfrecords(tmp_path_factory):
  pytest.importorskip("tensorflow", reason="TensorFlow writes TFRecord")
  return _prepare(tmp_path_factory.mktemp("tfrecord"), "tfrecord")


def _config(prepared, **overrides):
  overrides = {
    "data.name": "tfds:tiny",
    "data.dir": str(prepared),
    "data.image_size": "8",
    "data.cache_size": "8",
    "data.cache_dir": str(prepared / "cache"),
    **overrides,
  }
  return config_lib.load(f"{ROOT}/configs/cutmix.py:folder", overrides)


def test_a_set_prepared_without_tensorflow_is_read_without_it(prepared):
  sets = data.load(_config(prepared).data, 0)
  assert sets.class_names == ("red", "green", "blue")
  assert len(sets.train) + len(sets.validation) == 24
  assert sorted(sets.test.ids) == [f"{i}.jpg" for i in range(6)]
  images = sets.test.images(np.arange(6))
  for image, label in zip(images, sets.test.labels, strict=True):
    np.testing.assert_allclose(image[4, 4], COLOURS[label], atol=12)


def test_images_stay_encoded_until_they_are_decoded(prepared):
  source = TfdsDataset("tiny").splits(str(prepared))["train"]
  assert source[0]["image"][:2] == b"\xff\xd8"  # The start of every JPEG.


def test_training_on_it_imports_no_tensorflow(prepared, tmp_path):
  flags = [
    "--config=configs/cutmix.py:folder",
    "--config.data.name=tfds:tiny",
    f"--config.data.dir={prepared}",
    "--config.data.image_size=8",
    "--config.data.cache_size=8",
    f"--config.data.cache_dir={prepared / 'cache'}",
    "--config.model.name=small_resnet",
    "--config.batch_size=8",
    "--config.evaluate.batch_size=8",
    "--config.steps=3",
    "--config.optimizer.warmup_epochs=0",
    f"--workdir={tmp_path / 'run'}",
  ]
  code = (
    "import sys; from mixaug_jax.command import train; "
    "train.main(sys.argv[1:]); "
    "sys.exit('tensorflow' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code, *flags], check=True, cwd=ROOT)


def test_without_tensorflow_its_package_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(
    tfds_source.importlib.util, "find_spec", lambda name: None
  )
  config = config_lib.load(
    f"{ROOT}/configs/cutmix.py:stanford_dogs",
    {"data.dir": str(tmp_path), "model.pretrained": "none"},
  )
  with pytest.raises(UserError, match=r"pip install .mixaug-jax\[tfds\]"):
    data.load(config.data, 0)


def test_an_unknown_set_names_the_nearest(tmp_path):
  with pytest.raises(UserError, match="did you mean tfds:stanford_dogs"):
    TfdsDataset("stanford_dog").splits(str(tmp_path))


def test_a_set_that_is_not_for_classification_is_refused(tmp_path):
  with pytest.raises(UserError, match="not for image classification"):
    TfdsDataset("glue/cola").splits(str(tmp_path))


def _splits(root):
  return TfdsDataset("tiny").splits(str(root))


def test_a_set_prepared_as_tfrecord_is_the_same(prepared, tfrecords):
  changed = {path: path.stat().st_mtime_ns for path in tfrecords.rglob("*")}
  expected, actual = _splits(prepared), _splits(tfrecords)
  assert list(actual) == list(expected) == ["train", "test"]
  for split, source in expected.items():
    assert actual[split].ids == source.ids
    np.testing.assert_array_equal(actual[split].labels, source.labels)
    for index in range(len(source)):
      assert actual[split][index] == source[index]
  for path in tfrecords.rglob("*"):
    assert path.stat().st_mtime_ns == changed.pop(path)
  assert not changed


def test_tfrecord_is_read_without_tensorflow(tfrecords):
  code = (
    "import sys; from mixaug_jax.data.tfds_source import TfdsDataset; "
    "print(*map(len, TfdsDataset('tiny').splits(sys.argv[1]).values())); "
    "sys.exit('tensorflow' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, tfrecords],
    check=True,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert done.stdout.split() == ["24", "6"]


def test_unknown_labels_are_kept_as_minus_one(tmp_path):
  source = _splits(_prepare(tmp_path, first="unknown"))["train"]
  assert source.labels[source.ids.index("4.jpg")] == -1
  assert (source.labels == -1).sum() == 1


def test_splits_are_found_under_their_usual_names(tmp_path):
  _prepare(tmp_path, splits="training,val")
  assert list(_splits(tmp_path)) == ["train", "validation"]


def test_a_set_without_train_names_its_splits(tmp_path):
  _prepare(tmp_path, splits="test,extra")
  with pytest.raises(UserError, match="has no split train, but extra, test"):
    _splits(tmp_path)


def test_a_set_prepared_again_has_another_fingerprint(tmp_path):
  before = _splits(_prepare(tmp_path, first="a"))
  same = _splits(tmp_path)
  shutil.rmtree(tmp_path / "tiny")
  after = _splits(_prepare(tmp_path, first="b"))
  for split in ("train", "test"):
    # The same files and sizes, in another order.
    assert before[split].ids != after[split].ids
    assert before[split].fingerprint() == same[split].fingerprint()
    assert before[split].fingerprint() != after[split].fingerprint()
  assert after["train"].fingerprint() != after["test"].fingerprint()


def test_ids_that_repeat_are_made_unique(tmp_path):
  ids = _splits(_prepare(tmp_path, first="same"))["train"].ids
  assert len(set(ids)) == 24
  assert ids[3] == "3/same.jpg"


def test_ids_are_printable():
  assert tfds_source._printable("é.jpg".encode()) == "é.jpg"
  for name in (b"a\nb", b"\xff.jpg", "a\0b", "\ud800"):
    assert tfds_source._printable(name).isprintable()


@pytest.mark.parametrize(
  ("features", "reason"),
  [
    ("{'label': tfds.features.Scalar(np.int64)}", "'label' of type Scalar"),
    ("{'label': tfds.features.ClassLabel()}", "without a number of classes"),
    (
      "{'label': tfds.features.Sequence(tfds.features.ClassLabel(names='ab'))}",
      "'label' of type Sequence",
    ),
    (
      "{'image': tfds.features.Video(shape=(None, 8, 8, 3))}",
      "'image' of type Video",
    ),
    (
      "{'image': tfds.features.Image(shape=(8, 8, 1), dtype=np.float32)}",
      "images of floats",
    ),
  ],
)
def test_features_of_another_type_are_refused(features, reason):
  import tensorflow_datasets as tfds

  given = {
    "image": tfds.features.Image(),
    "label": tfds.features.ClassLabel(names=["a", "b"]),
    **eval(features, {"tfds": tfds, "np": np}),
  }
  with pytest.raises(UserError, match=reason) as error:
    tfds_source._check_features("tiny", tfds.features.FeaturesDict(given))
  assert "docs/data.md" in str(error.value)


def test_labels_of_other_names_are_listed():
  import tensorflow_datasets as tfds

  classes = tfds.features.ClassLabel(names=["a", "b"])
  given = {"image": tfds.features.Image(), "coarse": classes, "fine": classes}
  with pytest.raises(UserError, match="no feature 'label', but coarse, fine"):
    tfds_source._check_features("tiny", tfds.features.FeaturesDict(given))


def _records(root):
  return next(root.glob("tiny/1.0.0/tiny-train.*record-*"))


@pytest.mark.parametrize("format", ["prepared", "tfrecords"])
@pytest.mark.parametrize(
  "damage",
  [
    lambda root: _records(root).unlink(),
    lambda root: _records(root).write_bytes(b""),
    lambda root: _records(root).write_bytes(b"garbage" * 20_000),
    lambda root: os.truncate(
      _records(root), _records(root).stat().st_size // 2
    ),
    lambda root: os.truncate(_records(root), _records(root).stat().st_size - 1),
    lambda root: (root / "tiny/1.0.0/dataset_info.json").unlink(),
    lambda root: os.truncate(root / "tiny/1.0.0/dataset_info.json", 50),
    lambda root: (root / "tiny/1.0.0/features.json").unlink(),
    lambda root: os.truncate(root / "tiny/1.0.0/features.json", 50),
    lambda root: shutil.rmtree(root / "tiny/1.0.0"),
  ],
)
def test_a_damaged_folder_is_reported(format, damage, request, tmp_path):
  shutil.copytree(request.getfixturevalue(format), tmp_path / "copy")
  damage(tmp_path / "copy")
  with pytest.raises(UserError) as error:
    _splits(tmp_path / "copy")
  assert "\n" not in str(error.value)
  assert str(tmp_path / "copy") in str(error.value)


def test_empty_records_are_reported(prepared, monkeypatch):
  # ArrayRecord returns them for a file that is cut off at a certain place.
  empty = {"image": None, "label": None}
  monkeypatch.setattr(tfds_source, "_open_records", lambda *_: [empty])
  with pytest.raises(UserError, match="record 0 of train cannot be read"):
    _splits(prepared)


def test_another_format_is_named(prepared, tmp_path):
  shutil.copytree(prepared / "tiny", tmp_path / "tiny")
  info = tmp_path / "tiny/1.0.0/dataset_info.json"
  info.write_text(info.read_text().replace("array_record", "riegeli"))
  with pytest.raises(UserError, match="prepared as riegeli"):
    _splits(tmp_path)


_EVIL = "evil.Feature"


def _info_with_features(text):
  info = json.loads(text)
  info["features"] = {"pythonClassName": _EVIL, "image": {}}
  return json.dumps(info)


def _legacy(text):
  names = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
  content = {"image": {"type": _EVIL, "content": {}}}
  return json.dumps({"type": names, "content": content})


def _text_in_json(text):
  names = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
  inner = json.dumps({"image": {"type": _EVIL, "content": {}}})
  return json.dumps({"pythonClassName": names, "jsonFeature": {"json": inner}})


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_a_pipe_and_deep_json_are_one_sentence(tmp_path, file):
  path = tmp_path / file
  path.write_text("[" * 10**5)
  with pytest.raises(UserError, match="is damaged: it is nested too deeply"):
    tfds_classes.refuse_foreign(tmp_path)
  path.unlink()
  os.mkfifo(path)
  with pytest.raises(UserError, match=f"{file}: not a regular file"):
    tfds_classes.refuse_foreign(tmp_path)


@pytest.mark.parametrize(
  ("file", "change"),
  [
    (
      "features.json",
      lambda text: text.replace(
        "tensorflow_datasets.core.features.image_feature.Image", _EVIL
      ),
    ),
    (
      "features.json",
      lambda text: text.replace(
        "tensorflow_datasets.core.features.features_dict.FeaturesDict", _EVIL
      ),
    ),
    ("features.json", _legacy),
    ("features.json", _text_in_json),
    ("dataset_info.json", _info_with_features),
  ],
)
def test_a_class_outside_of_tfds_is_refused_and_not_imported(
  prepared, tmp_path, monkeypatch, file, change
):
  shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
  path = tmp_path / "tiny" / "1.0.0" / file
  hostile = change(path.read_text())
  assert _EVIL in hostile
  path.write_text(hostile)
  (tmp_path / "evil.py").write_text("open('code_was_run', 'w').close()")
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(UserError, match=f"{file} names the class evil.Feature"):
    _splits(tmp_path)
  assert not (tmp_path / "code_was_run").exists()


def test_the_data_sets_of_the_community_are_refused(tmp_path):
  with pytest.raises(UserError, match="community"):
    TfdsDataset("huggingface:mnist").splits(str(tmp_path))


def test_the_preparation_imports_nothing_of_the_current_folder(
  tmp_path, monkeypatch
):
  pytest.importorskip("tensorflow")
  (tmp_path / "tensorflow_datasets.py").write_text("print('ran'); 1 / 0")
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("PYTHONPATH", raising=False)
  builder = types.SimpleNamespace(
    name="none",
    data_path=tmp_path / "none" / "1.0.0",
    info=types.SimpleNamespace(full_name="none/1.0.0"),
    url_infos={},
  )
  with pytest.raises(UserError, match="DatasetNotFoundError"):
    tfds_source._prepare("no_such_set", str(tmp_path), builder)
