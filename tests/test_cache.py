"""Images are decoded once, whatever happens in between."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mixaug_jax.data import __main__ as command
from mixaug_jax.data import cache
from mixaug_jax.data.sources import Folder
from mixaug_jax.errors import UserError

COUNT = cache.BLOCK * 2 + 5


@pytest.fixture
def source(tmp_path):
  rng = np.random.default_rng(0)
  for index in range(COUNT):
    folder = tmp_path / "train" / "ab"[index % 2]
    folder.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{index:03}.png")
  return Folder(tmp_path / "train")


@pytest.fixture
def decoded(monkeypatch):
  """Counts what is decoded; `fail_after` makes it end there."""
  counter = {"count": 0, "fail_after": None}
  original = cache.decode_rows

  def counting(source, rows, *rest):
    if counter["count"] == counter["fail_after"]:
      raise KeyboardInterrupt
    counter["count"] += len(rows)
    return original(source, rows, *rest)

  monkeypatch.setattr(cache, "decode_rows", counting)
  return counter


def _open(source, tmp_path):
  return cache.open_or_build(source, 6, "crop", str(tmp_path / "cache"))


def test_the_second_opening_decodes_nothing(source, tmp_path, decoded):
  first, bad = _open(source, tmp_path)
  assert first.shape == (COUNT, 6, 6, 3)
  assert bad == {}
  assert decoded["count"] == COUNT
  again, _ = _open(source, tmp_path)
  assert decoded["count"] == COUNT
  np.testing.assert_array_equal(first, again)
  with pytest.raises(ValueError, match="read-only"):
    again[0] = 0


def test_an_interrupted_build_goes_on_where_it_was(source, tmp_path, decoded):
  decoded["fail_after"] = cache.BLOCK
  with pytest.raises(KeyboardInterrupt):
    _open(source, tmp_path)
  decoded.update(count=0, fail_after=None)
  images, _ = _open(source, tmp_path)
  assert decoded["count"] == COUNT - cache.BLOCK
  expected = np.asarray(Image.open(tmp_path / "train" / "a" / "000.png"))
  np.testing.assert_array_equal(images[0], expected)


def test_a_changed_file_makes_another_cache(source, tmp_path, decoded):
  _open(source, tmp_path)
  path = tmp_path / "train" / "a" / "000.png"
  Image.new("RGB", (6, 6), "red").save(path)
  images, _ = _open(Folder(tmp_path / "train"), tmp_path)
  assert decoded["count"] == 2 * COUNT
  assert images[0, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["images.bin", "header.json"])
def test_a_damaged_cache_is_noticed_and_built_anew(
  source, tmp_path, decoded, capsys, name
):
  expected = np.array(_open(source, tmp_path)[0])
  (path,) = (tmp_path / "cache").glob(f"*/{name}")
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 255
  path.write_bytes(content)
  np.testing.assert_array_equal(_open(source, tmp_path)[0], expected)
  assert decoded["count"] == 2 * COUNT
  assert "is damaged" in capsys.readouterr().err


def test_processes_that_start_together_decode_once(source, tmp_path):
  code = (
    "import pathlib, sys\n"
    "from mixaug_jax.data import cache\n"
    "from mixaug_jax.data.sources import Folder\n"
    "root = pathlib.Path(sys.argv[1])\n"
    "images, _ = cache.open_or_build(\n"
    "  Folder(root / 'train'), 6, 'crop', str(root / 'cache'))\n"
    "print(int(images.sum()))"
  )
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", code, tmp_path],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=pathlib.Path(__file__).parent.parent,
    )
    for _ in range(3)
  ]
  outputs = [process.communicate(timeout=120) for process in processes]
  assert len({stdout for stdout, _ in outputs}) == 1
  assert sum("decoding" in stderr for _, stderr in outputs) == 1


def test_a_disk_without_room_is_told_before_anything_is_written(
  source, tmp_path, monkeypatch
):
  class Usage:
    free = 1000

  monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: Usage)
  with pytest.raises(UserError, match="GiB are free; make room"):
    _open(source, tmp_path)
  assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_a_directory_that_cannot_be_written_is_named(source, tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="set config"):
    cache.open_or_build(source, 6, "crop", str(tmp_path / "file" / "cache"))


def test_the_command_lists_and_clears(source, tmp_path, capsys):
  _open(source, tmp_path)
  capsys.readouterr()
  flag = f"--cache_dir={tmp_path / 'cache'}"
  command.main(["--info", flag])
  assert f"{COUNT} images of 6x6" in capsys.readouterr().out
  command.main(["--clear", flag])
  assert "freed" in capsys.readouterr().out
  assert list((tmp_path / "cache").iterdir()) == []
