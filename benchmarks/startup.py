"""How long until the first training step is done, beside PyTorch and Keras?

    pip install torch keras tensorflow-cpu     # Measured only; may be missing.
    python -m benchmarks.startup [--rounds=5] [--where]

The clock starts when a process is launched and stops when its first step is
computed. Ours is the command of the README, its output read from a
pseudo-terminal until the progress bar counts a step; cold, with an empty
compilation cache, and warm. The peers are scripts that make the same network
and take one step of SGD on 50 random images, no more: no config, no data
set, no augmentation, no run directory. The systems take turns.

`--where` tells what a warm start is spent on.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import itertools
import json
import os
import pathlib
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from benchmarks import input_pipeline

SPEC = "configs/cutmix.py"
BATCH, SIZE, CLASSES = 50, 16, 10
PEER_DONE = "a step is done"
DONE = r"\] \d+/\d+"  # The progress bar, from the first step on.
TITLES = {
  "warm": "mixaug_jax, warm",
  "cold": "mixaug_jax, cold",
  "pytorch": "PyTorch",
  "keras": "Keras on TensorFlow",
}
VERSIONS = (
  "jax",
  "flax",
  "orbax-checkpoint",
  "torch",
  "keras",
  "tensorflow-cpu",
)
PACKAGES = {"pytorch": "torch", "keras": "tensorflow"}


def pytorch(steps: int) -> None:
  import torch

  from tests import pytorch_resnet

  net = pytorch_resnet.make((1, 1, 1), False, CLASSES, 16, small_images=True)
  net = net.train().to(memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(
    net.parameters(), 0.1, momentum=0.9, nesterov=True
  )
  images = torch.rand(BATCH, 3, SIZE, SIZE)
  classes = torch.randint(CLASSES, (BATCH,))
  for _ in range(steps):
    torch.nn.functional.cross_entropy(net(images)[-1], classes).backward()
    optimizer.step()
    optimizer.zero_grad()


def keras(steps: int) -> None:
  import keras as k
  import numpy as np

  def conv_bn(x, width, size, stride=1):
    x = k.layers.Conv2D(width, size, stride, "same", use_bias=False)(x)
    return k.layers.BatchNormalization()(x)

  inputs = k.Input((SIZE, SIZE, 3))
  x = k.layers.ReLU()(conv_bn(inputs, 16, 3))
  for width, stride in ((16, 1), (32, 2), (64, 2)):
    shortcut = x if stride == 1 else conv_bn(x, width, 1, stride)
    x = k.layers.ReLU()(conv_bn(x, width, 3, stride))
    x = k.layers.ReLU()(conv_bn(x, width, 3) + shortcut)
  x = k.layers.GlobalAveragePooling2D()(x)
  net = k.Model(inputs, k.layers.Dense(CLASSES)(x))
  net.compile(
    k.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    k.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  images = np.random.rand(BATCH, SIZE, SIZE, 3).astype(np.float32)
  for _ in range(steps):
    net.train_on_batch(images, np.arange(BATCH) % CLASSES)


def seconds(name: str, cache: str) -> float:
  """From the launch of a process to its first step.

  Raises:
    RuntimeError: it ended without one.
  """
  with tempfile.TemporaryDirectory() as folder:
    if name in PACKAGES:
      command, done = ["benchmarks.startup", f"--work={name}"], PEER_DONE
    else:
      command = ["mixaug_jax.main", f"--config={SPEC}"]
      command, done = [*command, f"--workdir={folder}/run"], DONE
    screen, terminal = pty.openpty()
    begin = time.perf_counter()
    process = subprocess.Popen(
      [sys.executable, "-m", *command],
      cwd=input_pipeline.ROOT,
      env={**os.environ, "XDG_CACHE_HOME": cache, "TF_CPP_MIN_LOG_LEVEL": "3"},
      **dict.fromkeys(("stdin", "stdout", "stderr"), terminal),
    )
    os.close(terminal)
    try:
      seen = b""
      while not re.search(done.encode(), seen):
        seen += os.read(screen, 4096)
      return time.perf_counter() - begin
    except OSError:  # Nobody writes any more.
      raise RuntimeError(seen.decode(errors="replace")) from None
    finally:
      process.kill()
      process.wait()
      os.close(screen)


def measured(names: list[str], rounds: int) -> dict[str, list[float]]:
  """Seconds of every round, the systems in turns.

  A round of `cold` finds an empty compilation cache, one of `warm` what a
  start before it has left.
  """
  times = {name: [] for name in names}
  with tempfile.TemporaryDirectory() as warm:
    if "warm" in names:
      seconds("warm", warm)
    for _, name in itertools.product(range(rounds), names):
      with tempfile.TemporaryDirectory() as cold:
        taken = seconds(name, cold if name == "cold" else warm)
      times[name].append(taken)
  return times


def where() -> dict[str, float]:
  """Seconds of a start by what they go to, in this process."""
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
  timed("importing the rest", importlib.import_module)("mixaug_jax.train")
  import jax

  from mixaug_jax import config as config_lib
  from mixaug_jax import data, train
  from mixaug_jax.command import jax_setup
  from mixaug_jax.training import experiment, parallel

  make = parallel.train_step
  patches = (
    mock.patch.object(data, "load", timed("reading the data", data.load)),
    mock.patch.object(
      experiment.Experiment,
      "initial_state",
      timed("the first parameters", experiment.Experiment.initial_state),
    ),
    mock.patch.object(parallel, "train_step", lambda f: first_of(make(f))),
  )
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    for patch in patches:
      stack.enter_context(patch)
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.suppress(FirstStepDone))
    jax_setup.prepare()
    config = config_lib.load(str(input_pipeline.ROOT / SPEC))
    train.train(config, pathlib.Path(folder, "run"))
  rest = time.perf_counter() - begin - sum(taken.values())
  return {**taken, "all else": rest}


def elsewhere(cache: str) -> dict[str, float]:
  """`where` in a process of its own."""
  done = subprocess.run(
    [sys.executable, "-m", "benchmarks.startup", "--work=where"],
    cwd=input_pipeline.ROOT,
    env={**os.environ, "XDG_CACHE_HOME": cache},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--rounds", type=int, default=5)
  flags.add_argument("--where", action="store_true")
  # Of the processes that this one starts.
  flags.add_argument("--work", help=argparse.SUPPRESS)
  flags.add_argument("--steps", type=int, default=1, help=argparse.SUPPRESS)
  arguments = flags.parse_args()
  if arguments.work == "where":
    print(json.dumps(where()))
    return
  if arguments.work:
    {"pytorch": pytorch, "keras": keras}[arguments.work](arguments.steps)
    print(PEER_DONE, flush=True)
    return
  print(input_pipeline.machine(VERSIONS))
  names = ["warm", "cold"]
  for name, package in PACKAGES.items():
    if importlib.util.find_spec(package):
      names.append(name)
    else:
      print(f"{name}: left out, {package} is missing", file=sys.stderr)
  times = measured(names, arguments.rounds)
  print(
    f"\nSeconds to the first step, median of {arguments.rounds} rounds (lowest "
    "to highest)\n\n| | seconds |\n|---|---|"
  )
  for name, of in times.items():
    print(
      f"| {TITLES[name]} | {statistics.median(of):.1f} ({min(of):.1f} to "
      f"{max(of):.1f}) |"
    )
  if arguments.where:
    with tempfile.TemporaryDirectory() as cache:
      elsewhere(cache)
      rounds = [elsewhere(cache) for _ in range(arguments.rounds)]
    print("\n| a warm start | seconds |\n|---|---|")
    for name in rounds[0]:
      print(f"| {name} | {statistics.median(x[name] for x in rounds):.2f} |")


if __name__ == "__main__":
  main()
