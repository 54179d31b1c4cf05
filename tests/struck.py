"""The training command, which sends itself a signal at a chosen moment.

    python tests/struck.py SIGNAL PHASE COUNT SECONDS --config=... --workdir=...

SIGNAL comes SECONDS after PHASE began for the COUNT-th time, and at the latest
when the run is over. With 0 seconds it comes before anything else happens. The
phases are `starting`, those that the progress bar names (`compiling`,
`evaluating`, `saving`), `training`, which follows `compiling`, and `writing`:
a file of the run directory is whole, but not in its place yet. These files are
config.json, the predictions of validation and of test, and result.json.
"""

import contextlib
import os
import signal
import sys
import threading

from mixaug_jax import files
from mixaug_jax.command import exits


class _Strike:
  """The signal, and the wait for its moment."""

  def __init__(self, name, phase, count, seconds):
    self._signal = getattr(signal, name)
    self._phase, self._left = phase, int(count)
    self._seconds = float(seconds)
    self._timer = None
    self._now = "starting"

  def begins(self, phase):
    self._now = phase
    if phase != self._phase:
      return
    self._left -= 1
    if self._left == 0 and self._seconds == 0:
      self._send()
    elif self._left == 0:
      self._timer = threading.Timer(self._seconds, self._send)
      self._timer.daemon = True
      self._timer.start()

  @contextlib.contextmanager
  def during(self, phase):
    before = self._now
    self.begins(phase)
    yield
    self._now = before

  def ends(self):
    if self._timer and self._timer.is_alive():
      self._now = "leaving"
      self._timer.cancel()
      self._send()

  def _send(self):
    os.write(2, f"struck while {self._now}\n".encode())
    os.kill(os.getpid(), self._signal)


def main():
  # Where a shell runs the tests in the background, Ctrl-C is switched off.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Or nohup runs them.
  strike = _Strike(*sys.argv[1:5])
  del sys.argv[1:5]
  try:
    exits.run(lambda argv: _train(strike, argv), output_is_optional=True)
  finally:
    strike.ends()


def _train(strike, argv):
  strike.begins("starting")

  from mixaug_jax.command import train as command
  from mixaug_jax.training import preemption
  from mixaug_jax.training.bar import TrainingBar

  phase, replacing = TrainingBar.phase, files.replacing

  @contextlib.contextmanager
  def struck_phase(self, name):
    with strike.during(name), phase(self, name):
      yield
    if name == "compiling":
      strike.begins("training")

  @contextlib.contextmanager
  def struck_replacing(path):
    with replacing(path) as part:
      yield part
      if "checkpoints" not in path.parts:
        with strike.during("writing"):
          pass

  TrainingBar.phase, files.replacing = struck_phase, struck_replacing
  # A slow machine does not turn an orderly end into a forced one.
  preemption._GRACE_SECONDS = 3600.0
  return command.main(argv)


if __name__ == "__main__":
  main()
