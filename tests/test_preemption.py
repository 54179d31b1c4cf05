"""Signals end what Python itself cannot interrupt."""

import concurrent.futures
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from mixaug_jax import signals
from mixaug_jax.errors import Interrupted
from mixaug_jax.training import preemption

# Sleeping stands for a compilation, which no Python signal handler can end.
_STUCK = """
import time
from mixaug_jax.training import preemption
preemption._GRACE_SECONDS = 1.0
with preemption.watch():
  print("watching", flush=True)
  time.sleep(600)
  print("slept", flush=True)
"""
_IN_TIME = """
import threading
import time
from mixaug_jax.training import preemption
preemption._GRACE_SECONDS = 600.0
before = threading.active_count()
with preemption.watch() as stopping:
  print("watching", flush=True)
  while not stopping.at(1):
    time.sleep(0.01)
# The thread that ends the process is gone.
assert threading.active_count() == before
print("saved", flush=True)
"""


# Hashing stands for a call that no signal interrupts; it takes many minutes.
_COMMAND = """
import hashlib
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from mixaug_jax.command import exits
from mixaug_jax.training import preemption

def hash():
  print("watching", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def train(argv):
  with preemption.watch() as stopping:
    stopping.unsaved = True
    hash()

exits.run({command})
"""


def _started(program):
  process = subprocess.Popen(
    [sys.executable, "-c", program],
    cwd=pathlib.Path(__file__).parent.parent,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "watching\n"
  return process


def _terminated(program):
  process = _started(program)
  begin = time.monotonic()
  process.send_signal(signal.SIGTERM)
  stdout, stderr = process.communicate(timeout=1200)
  return process.returncode, stdout, stderr, time.monotonic() - begin


def test_a_step_that_does_not_end_is_ended_after_the_grace_period():
  code, stdout, stderr, seconds = _terminated(_STUCK)
  assert code == 143
  assert "stopped by SIGTERM in the middle of a step" in stderr
  assert "slept" not in stdout
  assert seconds > 0.9


def test_a_run_that_stops_in_time_is_not_ended():
  code, stdout, stderr, _ = _terminated(_IN_TIME)
  assert (code, stdout, stderr) == (0, "saved\n", "")


def test_ctrl_c_twice_leaves_a_long_call_at_once():
  process = _started(_COMMAND.format(command="train"))
  process.send_signal(signal.SIGINT)
  first = process.stderr.readline()
  assert "the run saves and ends; another Ctrl-C leaves at once" in first
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  _, stderr = process.communicate(timeout=1200)
  assert (process.returncode, stderr) == (130, "")


def test_ctrl_c_ends_a_command_in_a_long_call():
  process = _started(_COMMAND.format(command="lambda argv: hash()"))
  process.send_signal(signal.SIGINT)
  _, stderr = process.communicate(timeout=1200)
  assert (process.returncode, stderr) == (130, "")


def test_ctrl_c_waits_for_what_must_be_done_first():
  program = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from mixaug_jax import signals
signals._SECONDS = 0.1
signals.take_ctrl_c()
try:
  with signals.ctrl_c_waits():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
    print("done")
except KeyboardInterrupt:
  signals.exiting()
  time.sleep(1)
  print("raised")
"""
  done = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    timeout=300,
    cwd=pathlib.Path(__file__).parent.parent,
  )
  assert (done.returncode, done.stdout) == (0, "done\nraised\n"), done.stderr


# The garbage collector drops the exceptions of its callbacks, of which JAX has
# one. A C extension whose import is interrupted raises ImportError.
_LOST = """
import gc
import pathlib
import signal
import sys
import time
signal.signal(signal.SIGINT, signal.default_int_handler)
from mixaug_jax import config
from mixaug_jax.command import exits
from mixaug_jax.training import preemption

press = "__import__('signal').raise_signal(2)"

def lose():
  gc.callbacks.append(lambda *_: (gc.callbacks.clear(), eval(press)))
  gc.collect()

def sleep(argv):
  lose()
  time.sleep(600)

def watch(argv):
  lose()
  with preemption.watch():
    print("trains")

def end(argv):
  lose()

def become_another(argv):
  try:
    eval(press)
  except KeyboardInterrupt:
    raise ImportError("initializing the extension")

def import_module(argv):
  path = pathlib.Path(argv[0])
  path.write_text(f"try:\\n  {press}\\nfinally:\\n  print('goes on')")
  sys.path.insert(0, str(path.parent))
  import recipe

def read_config(argv):
  path = pathlib.Path(argv[0])
  path.write_text(
    f"try:\\n  {press}\\nexcept KeyboardInterrupt:\\n  raise ImportError"
  )
  config.read(str(path))

exits.run(COMMAND)
"""


@pytest.mark.parametrize(
  "command",
  ["sleep", "watch", "end", "become_another", "import_module", "read_config"],
)
def test_ctrl_c_ends_a_command_whatever_becomes_of_its_exception(
  command, tmp_path
):
  done = subprocess.run(
    [
      *(sys.executable, "-c", _LOST.replace("COMMAND", command)),
      str(tmp_path / "recipe.py"),
    ],
    capture_output=True,
    text=True,
    timeout=300,
    cwd=pathlib.Path(__file__).parent.parent,
  )
  assert (done.returncode, done.stdout) == (130, "")
  assert "mixaug_jax: " not in done.stderr
  dropped = "Exception ignored" in done.stderr
  assert dropped == (command in ("sleep", "watch", "end"))


def test_ctrl_c_raises_where_there_is_nothing_to_save():
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with pytest.raises(KeyboardInterrupt), preemption.watch():
      signal.raise_signal(signal.SIGINT)
  finally:
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_a_notebook_saves_and_the_next_one_raises():
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with preemption.watch() as stopping:
      stopping.unsaved = True
      signal.raise_signal(signal.SIGINT)
      assert stopping.at(1)
      with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
      with pytest.raises(Interrupted, match="stopped by Ctrl-C"):
        stopping.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  finally:
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_stays_switched_off_in_background_jobs():
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    signals.take_ctrl_c()
    with preemption.watch() as stopping:
      signal.raise_signal(signal.SIGINT)
      stopping.check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGINT, before)


def test_sighup_stops_a_run_and_is_ignored_under_nohup():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with preemption.watch() as stopping:
      signal.raise_signal(signal.SIGHUP)
      stopping.check()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with preemption.watch() as stopping:
      signal.raise_signal(signal.SIGHUP)
      with pytest.raises(Interrupted, match="stopped by SIGHUP") as raised:
        stopping.check()
    assert raised.value.code == 129
  finally:
    signal.signal(signal.SIGHUP, before)


def test_nothing_is_watched_outside_the_main_thread():
  def watch():
    with preemption.watch() as stopping:
      return stopping.at(1)

  handler = signal.getsignal(signal.SIGTERM)
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    assert not pool.submit(watch).result()
  assert signal.getsignal(signal.SIGTERM) is handler
