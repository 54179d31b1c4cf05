"""SIGTERM ends what Python itself cannot interrupt."""

import pathlib
import signal
import subprocess
import sys
import time

# Sleeping stands for a compilation: no handler of Python's can end it.
_STUCK = """
import time
from mixaug_jax.training import preemption
preemption._GRACE_SECONDS = 1.0
with preemption.watch():
  print("watching", flush=True)
  time.sleep(60)
"""
_IN_TIME = """
import time
from mixaug_jax.training import preemption
preemption._GRACE_SECONDS = 1.0
with preemption.watch() as stopping:
  print("watching", flush=True)
  while not stopping.now():
    time.sleep(0.01)
time.sleep(2)
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
  process.send_signal(signal.SIGTERM)
  begin = time.monotonic()
  stdout, stderr = process.communicate(timeout=30)
  return process.returncode, stdout, stderr, time.monotonic() - begin


def test_a_step_that_does_not_end_is_left_when_its_time_is_over():
  code, _, stderr, seconds = _terminated(_STUCK)
  assert code == 143
  assert "stopped by SIGTERM in the middle of a step" in stderr
  assert 0.9 < seconds < 10


def test_what_stops_in_time_is_left_alone():
  code, stdout, stderr, _ = _terminated(_IN_TIME)
  assert (code, stdout, stderr) == (0, "saved\n", "")
