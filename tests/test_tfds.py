"""TFDS data sets are read without TensorFlow."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.data import tfds_source
from mixaug_jax.data.tfds_source import TfdsDataset
from mixaug_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))

# Runs in a separate process, which exits with 1 if TensorFlow was imported.
_PREPARE = """
import io, sys
import numpy as np, tensorflow_datasets as tfds
from PIL import Image

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))

class Tiny(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    features = tfds.features.FeaturesDict({
      "image": tfds.features.Image(encoding_format="jpeg"),
      "image/filename": tfds.features.Text(),
      "label": tfds.features.ClassLabel(names=["red", "green", "blue"]),
    })
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, manager):
    return {"train": self._generate_examples(24),
            "test": self._generate_examples(6)}

  def _generate_examples(self, count):
    for index in range(count):
      file = io.BytesIO()
      Image.new("RGB", (20, 30), COLOURS[index % 3]).save(file, "JPEG")
      file.seek(0)
      yield index, {"image": file, "label": index % 3,
                    "image/filename": f"{index}.jpg"}

Tiny(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
sys.exit("tensorflow" in sys.modules)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  root = tmp_path_factory.mktemp("tfds")
  subprocess.run([sys.executable, "-c", _PREPARE, root], check=True, cwd=root)
  return root


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
    "import sys; from mixaug_jax import main; main.main(sys.argv[1:]); "
    "sys.exit('tensorflow' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code, *flags], check=True, cwd=ROOT)


def test_without_tensorflow_the_extra_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(
    tfds_source.importlib.util, "find_spec", lambda name: None
  )
  config = config_lib.load(
    f"{ROOT}/configs/cutmix.py:stanford_dogs",
    {"data.dir": str(tmp_path), "model.pretrained": "none"},
  )
  with pytest.raises(UserError, match=r"pip install 'mixaug-jax\[tfds\]'"):
    data.load(config.data, 0)


def test_an_unknown_set_names_the_nearest(tmp_path):
  with pytest.raises(UserError, match="did you mean tfds:stanford_dogs"):
    TfdsDataset("stanford_dog").splits(str(tmp_path))


def test_a_set_that_is_not_for_classification_is_refused(tmp_path):
  with pytest.raises(UserError, match="not for image classification"):
    TfdsDataset("glue/cola").splits(str(tmp_path))
