"""Two processes do not train in one run directory."""

import subprocess
import sys

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import lock

_HOLD = (
  "import pathlib, sys\n"
  "from mixaug_jax.training import lock\n"
  "with lock.hold(pathlib.Path(sys.argv[1])):\n"
  "  print('held', flush=True); sys.stdin.read()"
)


def test_a_run_directory_that_is_a_link_to_a_missing_one_is_named(tmp_path):
  (tmp_path / "run").symlink_to(tmp_path / "gone")
  with (
    pytest.raises(UserError, match=r"it is a link to .*gone, which is missing"),
    lock.claim(tmp_path / "run", config_lib.load("cutmix")),
  ):
    pass
  (tmp_path / "gone").write_text("a file")
  with (
    pytest.raises(UserError, match="run: File exists; name another"),
    lock.claim(tmp_path / "run", config_lib.load("cutmix")),
  ):
    pass


def test_the_second_is_refused_by_name_and_a_dead_one_is_not(tmp_path):
  holder = subprocess.Popen(
    [sys.executable, "-c", _HOLD, tmp_path],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  assert holder.stdout.readline() == b"held\n"
  with (
    pytest.raises(UserError, match=f"in use by process {holder.pid} on"),
    lock.hold(tmp_path),
  ):
    pass
  holder.kill()
  holder.communicate()
  with lock.hold(tmp_path):
    pass
