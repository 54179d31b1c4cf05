"""SIGTERM ends what Python itself cannot interrupt."""

import pathlib
import signal
import subprocess
import sys
import time

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
  while not stopping.now():
    time.sleep(0.01)
# The thread that ends the process is gone.
assert threading.active_count() == before
print("saved", flush=True)
"""


def _terminated(program):
  process = subprocess.Popen(
    [sys.executable, "-c", program],
    cwd=pathlib.Path(__file__).parent.parent,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "watching\n"
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
