"""JAX's settings, exit codes and paths on the command line."""

import argparse
import errno
import os
import re
import subprocess
import sys

import jaxlib.version
import pytest

from mixaug_jax import jax_setup
from mixaug_jax.command import exits, flags, streams
from mixaug_jax.errors import Diverged, Interrupted, UserError

# Prints the program of a convolution, and the errors of its output and its
# gradients relative to the largest value, against float64 sums over windows.
_PROGRAM = """
import numpy as np
from mixaug_jax import jax_setup
from mixaug_jax.command import exits, flags
jax_setup.prepare()
import jax
from mixaug_jax.models.cpu import convolve

rng = np.random.default_rng(0)
images, gradient = rng.standard_normal((2, 2, 16, 16, 64))
kernel = rng.standard_normal((3, 3, 64, 64))

def windows(x):
  x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))

expected = (
  np.einsum("bhwiyx,yxio->bhwo", windows(images), kernel),
  np.einsum("bhwoyx,yxio->bhwi", windows(gradient), kernel[::-1, ::-1]),
  np.einsum("bhwiyx,bhwo->yxio", windows(images), gradient),
)

@jax.jit
def run(x, kernel, gradient):
  y, pull = jax.vjp(lambda *a: convolve(*a, 1), x, kernel)
  return y, *pull(gradient)

operands = [x.astype(np.float32) for x in (images, kernel, gradient)]
print(run.lower(*operands).compile().as_text())
for ours, theirs in zip(run(*operands), expected, strict=True):
  print("error", np.abs(ours - theirs).max() / np.abs(theirs).max())
"""


@pytest.mark.skipif(
  jaxlib.version.__version_info__[:2] not in jax_setup._WITH_YNNPACK,
  reason="this jaxlib keeps its defaults",
)
@pytest.mark.parametrize("chosen", [True, False])
def test_convolutions_use_eigen_unless_the_user_chose(chosen, tmp_path):
  env = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
    "XLA_FLAGS": f"{jax_setup._YNNPACK_FLAG}=+{jax_setup._CONVOLUTIONS}"
    if chosen
    else "",
  }
  done = subprocess.run(
    [sys.executable, "-c", _PROGRAM],
    env=env,
    capture_output=True,
    text=True,
    check=True,
  )
  assert "convolution" in done.stdout
  assert ("ynn_fusion" in done.stdout) == chosen
  errors = re.findall(r"^error (.*)$", done.stdout, re.MULTILINE)
  assert len(errors) == 3
  assert max(map(float, errors)) < 1e-5


def _chained():
  try:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  except OSError as error:
    raise RuntimeError("the writer failed") from error


def _raise(error):
  raise error


@pytest.mark.parametrize(
  ("fails", "code", "sentence"),
  [
    (lambda: None, 0, ""),
    (lambda: _raise(UserError("no such file")), 2, "no such file"),
    (lambda: _raise(UserError("two\nlines")), 2, "two�lines"),
    (lambda: _raise(Diverged("the loss is nan", 3)), 1, "the loss is nan"),
    (lambda: _raise(Interrupted("stopped")), 143, "stopped"),
    (lambda: _raise(MemoryError()), 2, "not enough memory"),
    (
      lambda: _raise(RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore")),
      2,
      "lower config.batch_size or config.data.image_size (RESOURCE_EXHAUSTED: "
      "Out of memory)",
    ),
    (_chained, 2, "no space left on the disk"),
    (
      lambda: _raise(
        RuntimeError("RESOURCE_EXHAUSTED: No space left on device")
      ),
      2,
      "no space left on the disk",
    ),
    (lambda: _raise(KeyboardInterrupt()), 130, ""),
  ],
)
def test_an_exception_becomes_a_code_and_a_sentence(
  monkeypatch, capsys, fails, code, sentence
):
  monkeypatch.setattr(sys, "argv", ["command"])
  with pytest.raises(SystemExit) as left:
    exits.run(lambda _: fails())
  assert left.value.code == code
  stderr = capsys.readouterr().err
  assert sentence in stderr
  assert len(stderr.splitlines()) == bool(sentence)


def test_the_sentence_of_a_mistake_fits_a_terminal(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["command"])
  monkeypatch.setattr(streams, "protect", lambda: None)
  monkeypatch.setenv("COLUMNS", "40")
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  with pytest.raises(SystemExit):
    exits.run(lambda _: _raise(UserError("a word and " * 9)))
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) > 2
  assert max(map(len, lines)) <= 40


def test_an_unexpected_exception_is_raised(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["command"])
  with pytest.raises(ZeroDivisionError):
    exits.run(lambda _: 1 // 0)


def test_a_path_that_is_not_utf8_is_printed():
  code = (
    "import os; from mixaug_jax.command import exits; "
    "exits.run(lambda _: print(os.fsdecode(b'caf\\xe9')))"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True)
  assert (done.returncode, done.stdout) == (0, b"caf\\udce9\n")


def test_an_impossible_path_is_refused(tmp_path):
  assert flags.path(str(tmp_path)) == tmp_path
  for text, reason in (("", "is empty"), ("a" * 300, "too long")):
    with pytest.raises(argparse.ArgumentTypeError, match=reason):
      flags.path(text)


def test_compiled_programs_are_cached_below_the_users_cache(tmp_path):
  code = (
    "from mixaug_jax import jax_setup; jax_setup.prepare(); "
    "import jax; print(jax.config.jax_compilation_cache_dir)"
  )
  env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
  del env["JAX_COMPILATION_CACHE_DIR"]
  done = subprocess.run(
    [sys.executable, "-c", code], env=env, capture_output=True, text=True
  )
  assert done.stdout.strip().startswith(str(tmp_path)), done.stderr
