"""The source in docs/data.md is loaded and trained on as it stands there."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def flags(tmp_path):
  """Settings that name the source, which lies in `tmp_path` with its arrays."""
  page = (ROOT / "docs" / "data.md").read_text("utf-8")
  (code,) = (
    part.split("```")[0]
    for part in page.split("```python\n")
    if "def splits(" in part
  )
  (tmp_path / "my_sources.py").write_text(code, "utf-8")
  rng = np.random.default_rng(0)
  for split, count in {"train": 16, "test": 5}.items():
    np.savez(
      tmp_path / f"{split}.npz",
      images=rng.integers(0, 256, (count, 8, 8, 3), np.uint8),
      labels=np.arange(count) % 2,
      class_names=np.array(["a", "b"]),
    )
  return {
    "data.name": "my_sources:Arrays",
    "data.dir": str(tmp_path),
    "data.cache_dir": str(tmp_path / "cache"),
    "data.image_size": "8",
    "data.cache_size": "8",
  }


def _config(flags):
  return config_lib.load(f"{ROOT}/configs/baseline.py:folder", flags).data


def test_the_source_of_the_documentation_is_loaded(
  flags, tmp_path, monkeypatch
):
  monkeypatch.syspath_prepend(tmp_path)
  sets = data.load(_config(flags), 0)
  assert sets.class_names == ("a", "b")
  assert len(sets.train) + len(sets.validation) == 16
  with np.load(tmp_path / "test.npz") as expected:
    images = sets.test.images(np.arange(5))
    np.testing.assert_array_equal(images, expected["images"])
    np.testing.assert_array_equal(sets.test.labels, expected["labels"])
  del flags["data.dir"]
  with pytest.raises(UserError, match=r"data\.dir must name the folder of"):
    data.load(_config(flags), 0)


def test_the_source_of_the_documentation_is_trained_on(flags, tmp_path):
  flags |= {
    "model.name": "small_resnet",
    "batch_size": 4,
    "steps": 2,
    "optimizer.warmup_epochs": 0,
  }
  subprocess.run(
    [
      *(sys.executable, "-m", "mixaug_jax.main"),
      f"--config={ROOT}/configs/baseline.py:folder",
      f"--workdir={tmp_path / 'run'}",
      *(f"--config.{key}={value}" for key, value in flags.items()),
    ],
    check=True,
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  assert result["class_names"] == ["a", "b"]
  assert result["test"]["examples"] == 5
