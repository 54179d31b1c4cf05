"""TFDS prepares Stanford Dogs from archives laid out like the official ones.

A local proxy serves the archives, so the addresses are the real ones. Only the
checksums that TFDS expects are changed.
"""

import hashlib
import http.server
import importlib.util
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import scipy.io
from PIL import Image, ImageDraw

from mixaug_jax.data.tfds_source import TfdsDataset
from mixaug_jax.errors import UserError

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec("tensorflow") is None,
  reason="TensorFlow prepares the data set",
)

ROOT = pathlib.Path(__file__).parent.parent
SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs"
NOBODY = "http://127.0.0.1:9"  # The discard port: connections are refused.
REAL = (
  "n02085620-Chihuahua",
  "n02086240-Shih-Tzu",
  "n02086910-papillon",
  "n02099601-golden_retriever",
  "n02116738-African_hunting_dog",
)
# TFDS requires 120 breeds.
BREEDS = REAL + tuple(f"n{k:08}-Breed_{k}" for k in range(120 - len(REAL)))
TRAIN, TEST = 2, 1  # Images per breed; a real breed has one more in test.
WIDTH, HEIGHT = 40, 30
BOX = (10, 6, 30, 24)  # xmin, ymin, xmax, ymax of the drawn dog.

# Python runs this at each start, so that TFDS expects the generated archives.
_SITECUSTOMIZE = """
import json, os
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

tfds.builder_cls("stanford_dogs").url_infos = {
  url: checksums.UrlInfo(**info)
  for url, info in json.loads(os.environ["DOGS_ARCHIVES"]).items()
}
"""

_ANNOTATION = """<annotation>
  <folder>{folder}</folder>
  <filename>{name}</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  <object>
    <name>{breed}</name>
    <bndbox>
      <xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
      <xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
    </bndbox>
  </object>
</annotation>
"""


def _names(breed, number):
  return [f"{breed}/{breed.partition('-')[0]}_{k}" for k in number]


def _split_names():
  train, test = [], []
  for breed in BREEDS:
    train += _names(breed, range(TRAIN))
    extra = 1 if breed in REAL else 0
    test += _names(breed, range(TRAIN, TRAIN + TEST + extra))
  return train, test


def _photograph(seed):
  rng = np.random.default_rng(seed)
  picture = Image.new("RGB", (WIDTH, HEIGHT), tuple(rng.integers(0, 256, 3)))
  colour = tuple(rng.integers(0, 256, 3))
  ImageDraw.Draw(picture).ellipse(BOX, fill=colour)
  file = io.BytesIO()
  picture.save(file, "JPEG")
  return file.getvalue()


def _mat(names):
  cells = lambda texts: np.array([[text] for text in texts], object)
  breeds = [name.partition("/")[0] for name in names]
  file = io.BytesIO()
  scipy.io.savemat(
    file,
    {
      "file_list": cells(f"{name}.jpg" for name in names),
      "annotation_list": cells(names),
      "labels": np.array([[1 + BREEDS.index(b)] for b in breeds], np.uint8),
    },
  )
  return file.getvalue()


def _tar(files):
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode="w") as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))
  return out.getvalue()


@pytest.fixture(scope="module")
def archives():
  """The bytes of images.tar, lists.tar and annotation.tar."""
  train, test = _split_names()
  images, annotations = {}, {}
  for seed, name in enumerate(sorted(train + test)):
    breed = name.partition("/")[0]
    images[f"Images/{name}.jpg"] = _photograph(seed)
    annotations[f"Annotation/{name}"] = _ANNOTATION.format(
      folder=breed.partition("-")[0][1:],
      name=name.partition("/")[2],
      breed=breed.partition("-")[2],
      width=WIDTH,
      height=HEIGHT,
      box=BOX,
    ).encode()
  lists = {
    "file_list.mat": _mat(sorted(train + test)),
    "test_list.mat": _mat(test),
    "train_list.mat": _mat(train),
  }
  return {
    "images.tar": _tar(images),
    "lists.tar": _tar(lists),
    "annotation.tar": _tar(annotations),
  }


@pytest.fixture
def environment(archives, tmp_path):
  """Makes the environment of a process with the archives behind a proxy."""
  (tmp_path / "site").mkdir()
  (tmp_path / "site" / "sitecustomize.py").write_text(_SITECUSTOMIZE)
  infos = {
    f"{SITE}/{name}": {
      "size": len(content),
      "checksum": hashlib.sha256(content).hexdigest(),
      "filename": name,
    }
    for name, content in archives.items()
  }

  def make(proxy):
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    return {
      **env,
      "http_proxy": proxy,
      "PYTHONPATH": str(tmp_path / "site"),
      "DOGS_ARCHIVES": json.dumps(infos),
      "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
      "TF_CPP_MIN_LOG_LEVEL": "3",
    }

  return make


@pytest.fixture
def proxy(archives):
  """The address of a proxy with the archives, and the requests it received."""
  asked = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      asked.append(self.path)
      content = archives[self.path.rpartition("/")[2]]
      self.send_response(200)
      self.send_header("Content-Length", str(len(content)))
      self.end_headers()
      self.wfile.write(content)

    def log_message(self, *args):
      pass

  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def _flags(tmp_path):
  return [
    "--config=configs/cutmix.py:stanford_dogs",
    f"--config.data.dir={tmp_path / 'tfds'}",
    f"--config.data.cache_dir={tmp_path / 'cache'}",
    "--config.data.image_size=32",
    "--config.data.cache_size=32",
    "--config.model.name=small_resnet",
    "--config.model.pretrained=none",
    "--config.model.freeze_batch_norm=false",
    "--config.optimizer.freeze=none",
    "--config.steps=3",
    "--config.batch_size=4",
    "--config.evaluate.batch_size=25",
    "--config.optimizer.warmup_epochs=0",
    "--config.optimizer.head_warmup_epochs=0",
    f"--workdir={tmp_path / 'run'}",
  ]


def test_it_is_downloaded_prepared_and_trained_on_without_tensorflow(
  environment, proxy, tmp_path
):
  address, asked = proxy
  code = (
    "import sys; from mixaug_jax.command import train; "
    "train.main(sys.argv[1:]); "
    "sys.exit('tensorflow' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, *_flags(tmp_path)],
    env=environment(address),
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert {
    f"{SITE}/{name}.tar" for name in ("images", "lists", "annotation")
  } <= set(asked)
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  train, test = _split_names()
  assert len(result["class_names"]) == 120
  assert result["test"]["examples"] == len(test)
  assert sum(result["examples"].values()) == len(train)
  with np.load(tmp_path / "run" / "predictions_test.npz") as predictions:
    ids, labels = predictions["ids"], predictions["labels"]
  assert sorted(ids) == sorted(f"Images/{name}.jpg" for name in test)
  for name, label in zip(ids, labels, strict=True):
    assert name.split("/")[1].lower() == result["class_names"][label]
  dogs = TfdsDataset("stanford_dogs").splits(str(tmp_path / "tfds"))
  xmin, ymin, xmax, ymax = BOX
  box = (ymin / HEIGHT, xmin / WIDTH, ymax / HEIGHT, xmax / WIDTH)
  np.testing.assert_allclose(dogs["test"].boxes, [box] * len(test), rtol=1e-6)


def test_without_a_network_files_put_where_the_message_says_are_used(
  environment, archives, tmp_path
):
  env = environment(NOBODY)
  done = subprocess.run(
    [sys.executable, "-m", "mixaug_jax.main", *_flags(tmp_path)],
    env=env,
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2, done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert "vision.stanford.edu cannot be reached" in done.stderr
  manual = tmp_path / "tfds" / "downloads" / "manual"
  for word in (*(f"{SITE}/{name}" for name in archives), manual, ":digits"):
    assert str(word) in done.stderr
  # Then the advice of the message is followed.
  manual.mkdir(parents=True)
  for name, content in archives.items():
    (manual / name).write_bytes(content)
  code = (
    "import sys; from mixaug_jax.data.tfds_source import TfdsDataset; "
    "splits = TfdsDataset('stanford_dogs').splits(sys.argv[1]); "
    "print(*map(len, splits.values()))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, tmp_path / "tfds"],
    env=env,
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == [str(len(names)) for names in _split_names()]


def test_a_wrong_archive_is_reported(tmp_path):
  manual = tmp_path / "downloads" / "manual"
  manual.mkdir(parents=True)
  (manual / "images.tar").write_bytes(b"half of it")
  with pytest.raises(UserError, match=r"images\.tar.* has wrong checksum"):
    TfdsDataset("stanford_dogs").splits(str(tmp_path))
