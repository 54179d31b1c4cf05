"""The training command, which sends itself a signal at a chosen moment.

    python tests/struck.py SIGNAL PHASE COUNT SECONDS --config=... --workdir=...

SIGNAL comes SECONDS after PHASE began for the COUNT-th time: `starting`, a
pause of the progress bar (`compiling`, `evaluating`, `saving`), `training`, or
`writing` (a file that is whole, but not yet in its place: config.json, the
predictions of validation and of test, result.json). With 0 seconds it comes
before anything else happens, and at the latest when the run is over.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import types

from mixaug_jax.command import exits


class _Strike:
  """The signal, and the wait for its moment."""

  def __init__(self, name, phase, count, seconds):
    self._signal = getattr(signal, name)
    self._phase, self._left = phase, int(count)
    self._seconds = float(seconds)
    self._timer = None
    self.now = "starting"

  def begins(self, phase):
    if phase != self._phase:
      return
    self._left -= 1
    if self._left == 0 and self._seconds == 0:
      self._send()
    elif self._left == 0:
      self._timer = threading.Timer(self._seconds, self._send)
      self._timer.daemon = True
      self._timer.start()

  def ends(self):
    if self._timer and self._timer.is_alive():
      self.now = "leaving"
      self._timer.cancel()
      self._send()

  def _send(self):
    os.write(2, f"struck at {time.time()} while {self.now}\n".encode())
    os.kill(os.getpid(), self._signal)


def main():
  # Where a shell runs the tests in the background, Ctrl-C is switched off.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  strike = _Strike(*sys.argv[1:5])
  del sys.argv[1:5]
  strike.begins("starting")

  from mixaug_jax import main as command
  from mixaug_jax import train
  from mixaug_jax.training import records

  pause, begin, replace = train.Progress.pause, train.Progress.begin, os.replace

  @contextlib.contextmanager
  def pausing(self, what):
    before, strike.now = strike.now, what
    strike.begins(what)
    with pause(self, what):
      yield
    strike.now = before

  def beginning(self):
    strike.now = "training"
    strike.begins("training")
    begin(self)

  def replacing(source, target):
    before, strike.now = strike.now, "writing"
    strike.begins("writing")
    replace(source, target)
    strike.now = before

  train.Progress.pause, train.Progress.begin = pausing, beginning
  records.os = types.SimpleNamespace(**{**vars(os), "replace": replacing})
  try:
    exits.run(command.main)
  finally:
    strike.ends()


if __name__ == "__main__":
  main()
