"""Checks that broken input ends only in one sentence or in correct work.

The inputs come from fixed seeds. `FUZZ=400 python -m pytest -n 0 -s tests/fuzz`
prints the number of inputs of each kind.
"""

import io
import json
import os
import pathlib
import random
import time

import numpy as np
from PIL import ExifTags, Image

from mixaug_jax import config as config_lib
from mixaug_jax import data, runs
from mixaug_jax.data.decode import (
  BadImage,
  Settings,
  decode_square,
  picture_size,
)
from mixaug_jax.errors import UserError
from mixaug_jax.training import records
from mixaug_jax.training.checkpoint import Checkpoints
from mixaug_jax.training.loop_state import LoopState

ROOT = pathlib.Path(__file__).parent.parent.parent
COUNT = int(os.environ.get("FUZZ", "200"))  # Inputs of each cheap kind.
SECONDS = 60.0  # Processor time for one input, on a busy machine too.


def _one_sentence(error: Exception) -> None:
  assert str(error)
  assert "\n" not in str(error).strip()


def _mutated(content: bytes, rng: random.Random) -> bytes:
  """Returns a copy with parts cut off, changed, repeated or removed."""
  content = bytearray(content)
  for _ in range(rng.randint(1, 4)):
    place = rng.randrange(len(content) + 1)
    end = min(len(content), place + rng.randint(1, 64))
    kind = rng.randrange(5)
    if kind == 0:
      del content[place:]
    elif kind == 1 and content:
      content[min(place, len(content) - 1)] ^= 1 << rng.randrange(8)
    elif kind == 2:
      content[place:place] = content[place:end]
    elif kind == 3:
      del content[place:end]
    else:
      content[place:end] = rng.randbytes(end - place)
  return bytes(content)


def _report(kind: str, tried: int, refused: int, capsys) -> None:
  with capsys.disabled():
    print(f"\nfuzz: {kind}: {tried} tried, {refused} refused")


def test_config_overrides(capsys):
  rng = random.Random(0)
  keys = list(config_lib.leaves(config_lib.load(f"{ROOT}/configs/mixup.py")))
  values = ["", "none", "-1", "0", "1e309", "nan", "inf", "-inf", "0x1", "1e3"]
  values += ["true", "cutmix", "cutmix,cutmix", "∞", "a" * 5000, "[1]", "\0"]
  values += ["../..", "{}", "1_000", "٣", "0.5", "7", "--", "=", "torchvision"]
  refused = 0
  for _ in range(COUNT):
    overrides = {}
    for _ in range(rng.randint(1, 3)):
      key = rng.choice(keys)
      if rng.random() < 0.2:
        key = _mutated(key.encode(), rng).decode("utf-8", "replace")
      overrides[key] = rng.choice(values)
    try:
      config = config_lib.load(f"{ROOT}/configs/mixup.py", overrides)
    except UserError as error:
      refused += 1
      _one_sentence(error)
    else:  # An accepted config is well-formed.
      config_lib.check(config)
      assert (
        config_lib.differences(config, json.loads(config_lib.to_json(config)))
        == []
      )
  _report("config overrides", COUNT, refused, capsys)


def _images():
  rng = np.random.default_rng(0)
  for mode, format in (
    ("RGB", "JPEG"),
    ("L", "JPEG"),
    ("CMYK", "JPEG"),
    ("RGBA", "PNG"),
    ("P", "PNG"),
    ("I;16", "PNG"),
    ("RGB", "WEBP"),
    ("RGB", "AVIF"),
    ("RGB", "GIF"),
    ("RGB", "BMP"),
    ("RGB", "TIFF"),
    ("I;16", "TIFF"),
    ("RGB", "PPM"),
  ):
    array = rng.integers(0, 256, (24, 31, 3), np.uint8)
    if mode == "I;16":
      picture = Image.fromarray(array[..., 0].astype(np.uint16) * 200)
    else:
      picture = Image.fromarray(array).convert(mode)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture.save(file, format, exif=exif)
    yield file.getvalue()


def test_image_files(capsys):
  rng = random.Random(1)
  images = list(_images())
  refused = 0
  for index in range(COUNT):
    broken = _mutated(images[index % len(images)], rng)
    begin = time.process_time()
    try:
      resize = rng.choice(["crop", "squash", "pad"])
      decoded = decode_square(broken, Settings(16, resize))
      assert decoded.pixels.shape == (16, 16, 3)
      assert decoded.pixels.dtype == np.uint8
      assert (decoded.height, decoded.width) == picture_size(broken)
    except BadImage as error:
      refused += 1
      _one_sentence(error)
    assert time.process_time() - begin < SECONDS
  _report("image files", COUNT, refused, capsys)


def test_folders(tmp_path, capsys):
  rng = random.Random(2)
  good = next(iter(_images()))
  refused = 0
  tried = max(1, COUNT // 4)
  for number in range(tried):
    root = tmp_path / str(number)
    labels = rng.sample(["a", "b", "c d", "é", ".x", "<b>"], 3)
    splits = ["train", "test"] if rng.random() < 0.9 else ["test", "other"]
    for split in splits:
      if rng.random() < 0.1:
        labels = [*labels[1:], f"z{len(labels)}{split}"]
      for label in labels:
        folder = root / split / label
        if rng.random() < 0.03:
          folder.parent.mkdir(parents=True, exist_ok=True)
          folder.write_bytes(b"a file where a folder should be")
          continue
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(rng.randint(0, 9)):
          name = rng.choice(["x.jpg", "y.PNG", "z.webp", "n.txt", "-.jpeg"])
          content = good if rng.random() < 0.9 else _mutated(good, rng)
          (folder / f"{index}{name}").write_bytes(content)
        if rng.random() < 0.03:
          (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    overrides = {
      "data.dir": str(root),
      "data.image_size": "8",
      "data.cache_size": "8",
      "data.cache_dir": str(tmp_path / "cache"),
      "data.on_error": rng.choice(["raise", "skip"]),
      "data.placement": rng.choice(["auto", "host", "stream", "device"]),
    }
    config = config_lib.load(f"{ROOT}/configs/mixup.py:folder", overrides)
    try:
      sets = data.load(config.data, seed=number)
      assert len(sets.train)
      assert len(sets.validation)
    except UserError as error:
      refused += 1
      _one_sentence(error)
  _report("folders", tried, refused, capsys)


def _run_files(config):
  """Returns the files of a finished run with two test images, by name."""
  measured = {"accuracy": 0.5, "top5_accuracy": 1.0, "loss": 0.7}
  measured |= {"step": 2, "examples": 2}
  result = {
    "test": measured,
    "validation": {"last": measured, "best": measured, "ema": None},
    **{"chosen": "best", "chosen_step": 2, "steps": 2, "epochs": 1.0},
    **{"seconds": 1.5, "compile_seconds": 2.5, "images_per_second": 9.0},
    **{"devices": 1, "device_kind": "cpu", "processes": 1},
    **{"class_names": ["a", "b"], "versions": {}},
    **{"examples": {"train": 8, "validation": 2}, "xla_flags": ""},
    **{"commit": None, "config_crc32": records.checksum(config.to_dict())},
  }
  rows = [{"step": 2, "split": "train", "loss": 0.7, "accuracy": 0.5}] * 3
  file = io.BytesIO()
  np.savez_compressed(
    file,
    logits=np.zeros((2, 2), np.float32),
    labels=np.arange(2, dtype=np.int32),
    ids=np.array(["x", "y"]),
  )
  return {
    "config.json": config_lib.to_json(config).encode(),
    "result.json": json.dumps(result, indent=2).encode(),
    "metrics.jsonl": "\n".join(map(json.dumps, rows)).encode(),
    "predictions_test.npz": file.getvalue(),
  }


def test_run_directories(tmp_path, capsys):
  rng = random.Random(4)
  config = config_lib.load(f"{ROOT}/configs/mixup.py", {})
  whole = _run_files(config)
  refused, tried = 0, COUNT
  for number in range(tried):
    workdir = tmp_path / str(number)
    workdir.mkdir()
    broken = rng.choice([*sorted(whole), None])
    for name, content in whole.items():
      content = _mutated(content, rng) if name == broken else content
      (workdir / name).write_bytes(content)
    try:
      records.finished_result(config, workdir)
      run = runs.open_run(workdir)
      assert all("step" in row for row in run.rows)
      assert run.predictions("test").logits.shape == (2, 2)
    except UserError as error:
      refused += 1
      _one_sentence(error)
      assert broken
  _report("run directories", tried, refused, capsys)


def test_checkpoint_directories(tmp_path, capsys):
  import jax.numpy as jnp

  rng = random.Random(5)
  state = {"w": jnp.arange(300.0), "step": jnp.int32(1)}
  refused, tried = 0, max(1, COUNT // 10)
  for number in range(tried):
    checkpoints = Checkpoints(tmp_path / str(number))
    checkpoints.save(1, state, LoopState())
    checkpoints.close()
    files = [
      path
      for path in (tmp_path / str(number) / "checkpoints" / "1").rglob("*")
      if path.is_file()
    ]
    victim = rng.choice(sorted(files))
    victim.write_bytes(_mutated(victim.read_bytes(), rng))
    try:
      restored = Checkpoints(tmp_path / str(number)).restore(state)
      if restored is not None:
        np.testing.assert_array_equal(restored[0]["w"], state["w"])
    except UserError as error:
      refused += 1
      _one_sentence(error)
  _report("checkpoints", tried, refused, capsys)
