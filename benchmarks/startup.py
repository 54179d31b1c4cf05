"""How long until the first training step is done, beside PyTorch and Keras?

    pip install torch keras tensorflow-cpu     # Measured only; may be missing.
    python -m benchmarks.startup [--rounds=5] [--where]

The clock starts when a process is launched and stops when its first step is
computed. Ours is the command of the README, its output read from a
pseudo-terminal until the progress bar counts a step; cold, with an empty
compilation cache, and warm. The peers are scripts that make the same network
and take one step of SGD on 50 random images, no more: no config, no data
set, no augmentation, no run directory. The systems alternate.

`--where` prints where the time of a warm start goes.
"""

import contextlib
import importlib
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness, peers

RECIPE = "cutmix.py"
DONE = r"\] \d+/\d+"  # The progress bar, from the first step on.
TITLES = {
  "warm": "mixaug_jax, warm",
  "cold": "mixaug_jax, cold",
  "pytorch": "PyTorch",
  "keras": "Keras on TensorFlow",
}
PEERS = {"pytorch": peers.torch_digits, "keras": peers.keras_digits}
PACKAGES = {"pytorch": "torch", "keras": "tensorflow"}
MACHINE = "jax flax orbax-checkpoint torch keras tensorflow-cpu"


def seconds(name: str, cache: str) -> float:
  """Returns the seconds from the launch of a process to its first step.

  Raises:
    RuntimeError: it ended without one.
  """
  with tempfile.TemporaryDirectory() as folder:
    if name in PEERS:
      command, done = harness.command(PEERS[name], 1), peers.DONE
    else:
      command = [sys.executable, "-m", "mixaug_jax.main"]
      command += [f"--config=configs/{RECIPE}", f"--workdir={folder}/run"]
      done = DONE
    screen, terminal = pty.openpty()
    begin = time.perf_counter()
    process = subprocess.Popen(
      command,
      cwd=harness.ROOT,
      env={**os.environ, "XDG_CACHE_HOME": cache},
      **dict.fromkeys(("stdin", "stdout", "stderr"), terminal),
    )
    os.close(terminal)
    try:
      seen = b""
      while not re.search(done.encode(), seen):
        seen += os.read(screen, 4096)
      return time.perf_counter() - begin
    except OSError:  # Every writer has closed it.
      raise RuntimeError(seen.decode(errors="replace")) from None
    finally:
      process.kill()
      process.wait()
      os.close(screen)


def measured(names: list[str], rounds: int) -> dict[str, list[float]]:
  """Returns the seconds of every round, the systems in turns.

  A round of `cold` finds an empty compilation cache, one of `warm` what an
  earlier start has left.
  """
  with tempfile.TemporaryDirectory() as warm:

    def one(name: str) -> float:
      with tempfile.TemporaryDirectory() as cold:
        return seconds(name, cold if name == "cold" else warm)

    if "warm" in names:
      one("warm")
    return harness.in_turns(rounds, names, one)


def where() -> dict[str, float]:
  """Returns the seconds of a start by what they go to.

  It needs a process of its own, in which it replaces functions.
  """
  taken: dict[str, float] = {}

  class FirstStepDone(Exception):  # noqa: N818
    pass

  def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args, **kwargs):
      begin = time.perf_counter()
      result = function(*args, **kwargs)
      taken[name] = time.perf_counter() - begin
      return result

    return run

  def first_of(step: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args):
      lowered = timed("tracing the step", step.lower)(*args)
      program = timed("reading its program", lowered.compile)()
      timed("the step itself", lambda: jax.block_until_ready(program(*args)))()
      raise FirstStepDone

    return run

  begin = time.perf_counter()
  timed("importing JAX", importlib.import_module)("jax")
  rest = "mixaug_jax.training.loop"
  timed("importing the rest", importlib.import_module)(rest)
  import jax

  from mixaug_jax import data, jax_setup
  from mixaug_jax.training import experiment, loop, parallel

  built, make = experiment.Experiment, parallel.train_step
  data.load = timed("reading the data", data.load)
  built.initial_state = timed("the first parameters", built.initial_state)
  parallel.train_step = lambda step: first_of(make(step))
  with tempfile.TemporaryDirectory() as folder:
    jax_setup.prepare()
    with contextlib.suppress(FirstStepDone):
      loop.train(harness.config(RECIPE, {}), pathlib.Path(folder, "run"))
  rest = time.perf_counter() - begin - sum(taken.values())
  return {**taken, "all else": rest}


def main() -> None:
  flags = harness.flags(__doc__, rounds=5)
  flags.add_argument("--where", action="store_true")
  arguments = flags.parse_args()
  harness.use_cpu()
  print(harness.machine(*MACHINE.split()))
  names = harness.installed(TITLES, PACKAGES)
  print(
    f"\nSeconds to the first step, median of {arguments.rounds} rounds (lowest "
    "to highest)"
  )
  times = measured(names, arguments.rounds)
  harness.header("", "seconds")
  for name, taken in times.items():
    harness.row(TITLES[name], harness.spread(taken, ".1f"))
  if arguments.where:
    with tempfile.TemporaryDirectory() as cache:
      start = lambda: harness.child(where, XDG_CACHE_HOME=cache)
      start()
      rounds = [start() for _ in range(arguments.rounds)]
    harness.header("a warm start", "seconds")
    for name, median in harness.medians(rounds).items():
      harness.row(name, f"{median:.2f}")


if __name__ == "__main__":
  main()
