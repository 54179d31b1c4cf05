"""A file is whole or as it was; a lock ends with its process."""

import pathlib
import subprocess
import sys

import pytest

from mixaug_jax import files

_HOLD = (
  "import pathlib, sys\n"
  "from mixaug_jax import files\n"
  "with files.locked(pathlib.Path(sys.argv[1])):\n"
  "  print('held', flush=True); sys.stdin.read()"
)


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
  path = tmp_path / "a.json"
  path.write_text("old")
  with files.replacing(path) as part:
    part.write_text("new")
    assert part.suffix == ".json"
    assert path.read_text() == "old"
  assert path.read_text() == "new"
  assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_writes_another_file_does_not_change_who_may_read_it(
  tmp_path,
):
  path, other = tmp_path / "a.json", tmp_path / "b"
  usual = other.touch() or other.stat().st_mode
  with files.replacing(path) as part:
    other.chmod(0o600)  # Such as a file of mkstemp.
    other.replace(part)
  assert path.stat().st_mode == usual


def test_a_file_with_the_longest_name_is_replaced(tmp_path):
  path = tmp_path / f"{'x' * 250}.json"
  with files.replacing(path) as part:
    part.write_text("new")
  assert [x.read_text() for x in tmp_path.iterdir()] == ["new"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / "a.json"
  path.write_text("old")
  with pytest.raises(ZeroDivisionError), files.replacing(path) as part:
    part.write_text(str(1 // 0))
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_exclusive_and_ends_with_its_process(tmp_path):
  path = tmp_path / ".lock"
  holder = subprocess.Popen(
    [sys.executable, "-c", _HOLD, path],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  assert holder.stdout.readline() == b"held\n"
  path.write_text("holder")
  with pytest.raises(BlockingIOError), files.locked(path, wait=False):
    pass
  assert path.read_text() == "holder"
  holder.kill()
  holder.communicate()
  with files.locked(path, wait=False):
    pass


def test_a_file_whose_size_is_unknown_is_read_up_to_the_limit():
  path = pathlib.Path("/proc/self/limits")
  if not path.exists():
    pytest.skip("there is no /proc")
  assert not path.stat().st_size
  assert files.read_bytes(path, 2**20) == path.read_bytes()
  assert files.read_bytes(path, 50) == path.read_bytes()[:50]
