"""Images are decoded once, also after an interruption or damage."""

import errno
import os
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from mixaug_jax.command import data as command
from mixaug_jax.data import cache
from mixaug_jax.data.decode import Settings
from mixaug_jax.data.folder import Folder
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
  """Counts decoded images; interrupts when `fail_after` are decoded."""
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
  rows = cache.open_or_build(source, Settings(6), str(tmp_path / "cache"))
  return rows.images, rows.bad


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


def test_an_interrupted_build_continues_where_it_stopped(
  source, tmp_path, decoded
):
  decoded["fail_after"] = cache.BLOCK
  with pytest.raises(KeyboardInterrupt):
    _open(source, tmp_path)
  decoded.update(count=0, fail_after=None)
  images, _ = _open(source, tmp_path)
  assert decoded["count"] == COUNT - cache.BLOCK
  expected = np.asarray(Image.open(tmp_path / "train" / "a" / "000.png"))
  np.testing.assert_array_equal(images[0], expected)


def test_a_build_interrupted_within_a_line_of_its_journal_continues(
  source, tmp_path, decoded
):
  def interrupted(after):
    decoded.update(count=0, fail_after=after)
    with pytest.raises(KeyboardInterrupt):
      _open(source, tmp_path)

  interrupted(2 * cache.BLOCK)
  (journal,) = (tmp_path / "cache").glob("*/journal")
  os.truncate(journal, journal.stat().st_size - 100)
  interrupted(cache.BLOCK)
  decoded.update(count=0, fail_after=None)
  _open(source, tmp_path)
  assert decoded["count"] == COUNT - 2 * cache.BLOCK


def test_a_changed_file_makes_another_cache(source, tmp_path, decoded):
  _open(source, tmp_path)
  path = tmp_path / "train" / "a" / "000.png"
  Image.new("RGB", (6, 6), "red").save(path)
  images, _ = _open(Folder(tmp_path / "train"), tmp_path)
  assert decoded["count"] == 2 * COUNT
  assert images[0, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["images.bin", "header.json"])
def test_a_damaged_cache_is_noticed_and_built_again(
  source, tmp_path, decoded, capsys, name
):
  expected = np.array(_open(source, tmp_path)[0])
  (path,) = (tmp_path / "cache").glob(f"*/{name}")
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 255
  path.write_bytes(content)
  np.testing.assert_array_equal(_open(source, tmp_path)[0], expected)
  assert decoded["count"] == 2 * COUNT
  assert "cannot be used" in capsys.readouterr().err


def test_the_command_imports_jax_only_when_it_handles_ctrl_c():
  code = (
    "import sys; from mixaug_jax.data import __main__; "
    "assert 'jax' not in sys.modules; assert 'numpy' not in sys.modules; "
    "from mixaug_jax import data; from mixaug_jax.data import *; "
    "assert data.__all__ and not set(data.__all__) - set(dir())"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_processes_that_start_together_decode_once(source, tmp_path):
  code = (
    "import pathlib, sys\n"
    "from mixaug_jax.data import cache\n"
    "from mixaug_jax.data.decode import Settings\n"
    "from mixaug_jax.data.folder import Folder\n"
    "root = pathlib.Path(sys.argv[1])\n"
    "rows = cache.open_or_build(\n"
    "  Folder(root / 'train'), Settings(6), str(root / 'cache'))\n"
    "print(int(rows.images.sum()))"
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
  outputs = [process.communicate(timeout=1200) for process in processes]
  assert len({stdout for stdout, _ in outputs}) == 1
  assert sum("decoding" in stderr for _, stderr in outputs) == 1


def test_a_build_is_not_cleared_and_a_killed_one_frees_its_lock(
  source, tmp_path
):
  code = (
    "import pathlib, sys, time\n"
    "from mixaug_jax.data import cache\n"
    "from mixaug_jax.data.decode import Settings\n"
    "from mixaug_jax.data.folder import Folder\n"
    "def decode_rows(*_):\n"
    "  print('building', flush=True)\n"
    "  time.sleep(600)\n"
    "cache.decode_rows = decode_rows\n"
    "root = pathlib.Path(sys.argv[1])\n"
    "cache.open_or_build(\n"
    "  Folder(root / 'train'), Settings(6), str(root / 'cache'))"
  )
  with subprocess.Popen(
    [sys.executable, "-c", code, tmp_path],
    stdout=subprocess.PIPE,
    text=True,
    cwd=pathlib.Path(__file__).parent.parent,
  ) as process:
    try:
      assert process.stdout.readline() == "building\n"
      assert cache.clear(str(tmp_path / "cache")) == 0
      ((path, _, state),) = cache.info(str(tmp_path / "cache"))
      assert (path.suffix, state) == (".part", "unfinished")
    finally:
      process.kill()
  images, _ = _open(source, tmp_path)
  assert images.reshape(COUNT, -1).any(1).all()
  assert cache.clear(str(tmp_path / "cache")) > 0
  assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_reported_before_anything_is_written(
  source, tmp_path, monkeypatch
):
  class Usage:
    free = 1000

  monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: Usage)
  with pytest.raises(UserError, match="GiB are free; free some space"):
    _open(source, tmp_path)
  assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


@pytest.fixture
def small_disk(tmp_path):
  """A separate file system of 4 MiB."""
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
  if os.geteuid() or not shutil.which("mount"):
    pytest.skip("mounting a tmpfs needs root")
  if subprocess.run(mount, check=False).returncode:
    pytest.skip("cannot mount a tmpfs here")
  yield disk
  subprocess.run(["umount", str(disk)], check=True)


def test_a_small_disk_is_reported_before_anything_is_written(
  source, small_disk
):
  with pytest.raises(UserError, match=r"0\.0 GiB are free; free some space"):
    cache.open_or_build(source, Settings(6), str(small_disk))
  assert not [path for path in small_disk.iterdir() if path.is_dir()]


def test_a_disk_that_fills_up_is_reported_and_the_build_continues(
  source, small_disk, monkeypatch, decoded
):
  monkeypatch.setattr(cache, "_MARGIN_BYTES", 0)
  taken = 4 * 2**20 - 3 * 4096 - cache.BLOCK * 6 * 6 * 3
  (small_disk / "ballast").write_bytes(bytes(taken))
  monkeypatch.setattr(
    cache.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**30)
  )
  with pytest.raises(UserError, match="No space left on device"):
    cache.open_or_build(source, Settings(6), str(small_disk))
  (small_disk / "ballast").unlink()
  rows = cache.open_or_build(source, Settings(6), str(small_disk))
  images, bad = rows.images, rows.bad
  assert images.shape == (COUNT, 6, 6, 3)
  assert images.reshape(COUNT, -1).any(1).all()
  assert bad == {}


def test_a_directory_that_cannot_be_written_is_named(source, tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="set config"):
    cache.open_or_build(source, Settings(6), str(tmp_path / "file" / "cache"))


def test_the_command_lists_and_clears(source, tmp_path, capsys):
  _open(source, tmp_path)
  capsys.readouterr()
  flag = f"--cache_dir={tmp_path / 'cache'}"
  command.main(["--info", flag])
  assert f"{COUNT} images of 6x6" in capsys.readouterr().out
  # The user's other files in the directory stay.
  (tmp_path / "cache" / "photos").mkdir()
  command.main(["--clear", flag])
  assert "freed" in capsys.readouterr().out
  assert [x.name for x in (tmp_path / "cache").iterdir()] == ["photos"]


def test_the_command_reports_a_damaged_cache_and_a_wrong_directory(
  source, tmp_path, capsys
):
  _open(source, tmp_path)
  (header,) = (tmp_path / "cache").glob("*/header.json")
  header.write_text('{"shape": [1')
  command.main(["--info", f"--cache_dir={tmp_path / 'cache'}"])
  assert "damaged" in capsys.readouterr().out
  with pytest.raises(UserError, match="is not a directory"):
    command.main(["--clear", f"--cache_dir={tmp_path / 'gone'}"])


class Renewed:
  """A source whose fingerprint stays, whatever its images are."""

  class_names = ("a", "b")

  def __init__(self, seed, ids=None):
    rng = np.random.default_rng(seed)
    self.images = rng.integers(0, 256, (9, 6, 6, 3), np.uint8)
    self.labels = np.arange(9, dtype=np.int32) % 2
    self.ids = ids or [str(i) for i in range(9)]

  def __len__(self):
    return 9

  def __getitem__(self, index):
    return {"image": self.images[index]}

  def fingerprint(self):
    return "constant"


def test_a_cache_of_other_pixels_is_built_again(tmp_path, capsys):
  """A fingerprint may miss that a data set was prepared again in place."""
  _open(Renewed(0), tmp_path)
  images, _ = _open(Renewed(1), tmp_path)
  np.testing.assert_array_equal(images, Renewed(1).images)
  assert "has other pixels now" in capsys.readouterr().err


def test_other_ids_have_another_cache(tmp_path):
  _open(Renewed(0), tmp_path)
  _open(Renewed(0, ids=list("ihgfedcba")), tmp_path)
  caches = [path for path, _, _ in cache.info(str(tmp_path / "cache"))]
  assert len(caches) == 2
  shutil.rmtree(caches[0])
  shutil.copytree(caches[1], caches[0])  # A header of other ids.
  for ids in (None, list("ihgfedcba")):
    _open(Renewed(0, ids=ids), tmp_path)
  headers = {(path / "header.json").read_text() for path in caches}
  assert len(headers) == 2


def test_checksums_are_stored_without_images(source, tmp_path):
  directory = str(tmp_path / "cache")
  kept = cache.open_or_build(source, Settings(6), directory)
  bare = cache.open_or_build(source, Settings(6), directory, keep_images=False)
  assert bare.images.size == 0
  np.testing.assert_array_equal(bare.hashes, kept.hashes)
  assert len(set(kept.hashes.tolist())) == COUNT
  states = {state for _, _, state in cache.info(directory)}
  assert f"{COUNT} checksums of images of 6x6" in states


class Failing(Renewed):
  """A source that raises an error of the system for one image."""

  def __init__(self, name, row=4):
    super().__init__(0)
    self.code, self.row = getattr(errno, name), row

  def __getitem__(self, index):
    if index == self.row:
      raise OSError(self.code, os.strerror(self.code))
    return super().__getitem__(index)


OUTAGES = ("EIO", "ESTALE", "ETIMEDOUT", "EMFILE")
OF_ONE_FILE = ("ENOENT", "EISDIR", "ENOTDIR", "ELOOP", "EACCES", "ENAMETOOLONG")


def _files(tmp_path):
  paths = sorted((tmp_path / "cache").rglob("*"))
  return {x: x.stat().st_mtime_ns for x in paths if x.suffix != ".lock"}


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_leaves_no_image_out_and_removes_no_cache(tmp_path, name):
  why = os.strerror(getattr(errno, name))
  sentence = f"{why}; repeat the command, and it continues"
  with pytest.raises(UserError, match=f"cannot read 4: {sentence}"):
    _open(Failing(name), tmp_path)
  images, bad = _open(Renewed(0), tmp_path)
  assert bad == {}
  np.testing.assert_array_equal(images, Renewed(0).images)
  before = _files(tmp_path)
  # The first image is one of those that an opening compares.
  with pytest.raises(UserError, match=f"cannot read 0: {sentence}"):
    _open(Failing(name, row=0), tmp_path)
  assert _files(tmp_path) == before


@pytest.mark.parametrize("place", ["pathlib.Path.read_text", "numpy.load"])
@pytest.mark.parametrize("name", ["EIO", "EACCES"])
def test_a_cache_that_cannot_be_read_now_stays(
  tmp_path, monkeypatch, place, name
):
  _open(Renewed(0), tmp_path)
  before = _files(tmp_path)

  def fails(*_, **__):
    code = getattr(errno, name)
    raise OSError(code, os.strerror(code))

  why = os.strerror(getattr(errno, name))
  with monkeypatch.context() as patch:
    patch.setattr(place, fails)
    with pytest.raises(UserError, match=rf"cannot read the cache .*: {why}; "):
      _open(Renewed(0), tmp_path)
  assert _files(tmp_path) == before
  _open(Renewed(0), tmp_path)


def test_a_journal_that_cannot_be_read_now_stays(
  source, tmp_path, monkeypatch, decoded
):
  decoded["fail_after"] = cache.BLOCK
  with pytest.raises(KeyboardInterrupt):
    _open(source, tmp_path)
  before = _files(tmp_path)

  def fails(_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, "read_text", fails)
    with pytest.raises(UserError, match=r"cannot read the cache .*\.part: Inp"):
      _open(source, tmp_path)
  assert _files(tmp_path) == before


@pytest.mark.parametrize("name", ["header.json", "rows.npy", "images.bin"])
@pytest.mark.parametrize("emptied", [False, True])
def test_a_cache_without_a_file_or_its_content_is_built_again(
  tmp_path, capsys, name, emptied
):
  _open(Renewed(0), tmp_path)
  (path,) = (tmp_path / "cache").glob(f"*/{name}")
  path.write_bytes(b"") if emptied else path.unlink()
  images, _ = _open(Renewed(0), tmp_path)
  np.testing.assert_array_equal(images, Renewed(0).images)
  assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("name", OF_ONE_FILE)
def test_an_image_that_can_be_read_again_is_decoded_again(
  tmp_path, capsys, name
):
  _, bad = _open(Failing(name), tmp_path)
  assert bad == {4: os.strerror(getattr(errno, name))}
  images, bad = _open(Renewed(0), tmp_path)
  assert bad == {}
  np.testing.assert_array_equal(images, Renewed(0).images)
  assert "4 can be read now" in capsys.readouterr().err


def test_files_of_equal_size_and_time_that_are_exchanged(source, tmp_path):
  """Their change times differ, whatever their sizes and times are."""
  files = sorted((tmp_path / "train").rglob("*.png"))
  before = Folder(tmp_path / "train").fingerprint()
  one, other = files[:2]
  for file in files:
    os.utime(file, (0, 0))
  same = Folder(tmp_path / "train").fingerprint()
  assert same != before
  one.rename(tmp_path / "kept")
  other.rename(one)
  (tmp_path / "kept").rename(other)
  assert Folder(tmp_path / "train").fingerprint() != same
