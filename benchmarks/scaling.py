"""What do time and memory do as the work grows, beside PyTorch?

    pip install torch     # Measured only; may be missing.
    python -m benchmarks.scaling [--only=devices,batches,savers] [--rounds=3]

`devices`: one batch spread over more and more CPU devices that XLA pretends to
have. They share the cores, so that a perfect division would change nothing; the
peer is DistributedDataParallel with as many processes. `batches`: more images a
step. `savers`: what parts of a batch, one after the other, and blocks that are
computed twice, save and cost.

A step is all of it, of random images: crop, CutMix, forward, backward, update;
PyTorch's leaves crop and CutMix out. Each is measured in a process of its own,
the systems in turns. Peak memory is what is resident at most during the steps,
libraries and compiled program included; "in the step" is the part of it that
does not stay from one step to the next: activations above all.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import input_pipeline

DEVICES, DEVICES_BATCH = (1, 2, 4, 8), 64
BATCHES = {
  "small_resnet": (8, 32, 128, 512),
  "resnet18": (8, 32, 128),
}
SAVERS_BATCH = 128
SAVERS = {
  "ours": {
    "as it is": {},
    "`model.remat=true`": {"model.remat": "true"},
    "`optimizer.accumulate=2`": {"optimizer.accumulate": "2"},
    "`optimizer.accumulate=4`": {"optimizer.accumulate": "4"},
    "both, 2 parts": {"model.remat": "true", "optimizer.accumulate": "2"},
  },
  "pytorch": {
    "as it is": {},
    "`torch.utils.checkpoint`": {"checkpoint": True},
    "2 parts": {"parts": 2},
    "4 parts": {"parts": 4},
  },
}
# Pixels a side; blocks of each stage; channels of the stem.
MODELS = {"small_resnet": (16, (1, 1, 1), 16), "resnet18": (64, (2,) * 4, 64)}
CLASSES = 10
SECONDS = 2.0  # Of steps, at least.
TITLES = {"ours": "mixaug_jax", "pytorch": "PyTorch"}

Step = Callable[[], Any]
Job = dict[str, Any]


def synthetic(model: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
  size = MODELS[model][0]
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (batch, size, size, 3), np.uint8)
  return images, (np.arange(batch) % CLASSES).astype(np.int32)


def ours(model: str, batch: int, settings: dict[str, str]) -> Step:
  """The step that train.py runs, on all devices."""
  from mixaug_jax import config as config_lib
  from mixaug_jax.command import jax_setup

  jax_setup.prepare()

  import jax

  from mixaug_jax.training import experiment, parallel
  from mixaug_jax.training.step import make_train_step

  config = config_lib.load(
    str(input_pipeline.ROOT / "configs" / "cutmix.py"),
    {
      "augment.random_crop.padding": "2",
      "batch_size": str(batch),
      "data.image_size": str(MODELS[model][0]),
      "evaluate.batch_size": "256",
      "model.name": model,
      **settings,
    },
  )
  exp = experiment.build(config)
  state, _ = exp.initial_state()
  run = parallel.train_step(make_train_step(exp.recipe, parallel.devices()))
  images, classes = synthetic(model, batch)
  seed = parallel.replicate(np.uint32(0))
  placed = parallel.shard({"image": images, "label": classes})

  def step() -> None:
    nonlocal state
    state, measured = run(state, seed, {}, placed)
    jax.block_until_ready((state, measured))

  return step


def pytorch(
  model: str,
  batch: int,
  *,
  checkpoint: bool = False,
  parts: int = 1,
  wrap: Callable[[Any], Any] = lambda net: net,
) -> Step:
  import torch

  from tests import pytorch_resnet

  _, blocks, width = MODELS[model]
  small = model == "small_resnet"
  net = pytorch_resnet.make(blocks, False, CLASSES, width, small_images=small)
  net = net.train().to(memory_format=torch.channels_last)
  if checkpoint:
    for module in list(net.modules()):
      if type(module).__name__ == "Block":
        module.forward = recomputed(module.forward)
  net = wrap(net)
  optimizer = torch.optim.SGD(
    net.parameters(), 0.1, momentum=0.9, nesterov=True
  )
  images, classes = map(torch.from_numpy, synthetic(model, batch))
  pairs = list(
    zip(images.chunk(parts), classes.long().chunk(parts), strict=True)
  )

  def step() -> None:
    for some, labels in pairs:
      logits = net(some.permute(0, 3, 1, 2).float().div_(255))[-1]
      loss = torch.nn.functional.cross_entropy(logits, labels)
      (loss / parts).backward()
    optimizer.step()
    optimizer.zero_grad()

  return step


def recomputed(forward: Callable[[Any], Any]) -> Callable[[Any], Any]:
  from torch.utils import checkpoint

  return lambda x: checkpoint.checkpoint(forward, x, use_reentrant=False)


def process(rank: int, folder: str, job: Job) -> None:
  """One of several processes of DistributedDataParallel."""
  import torch

  count = job["devices"]
  torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // count))
  torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count
  )
  step = pytorch(
    job["model"],
    job["batch"] // count,
    wrap=torch.nn.parallel.DistributedDataParallel,
  )
  # The same number of steps everywhere, or the last ones wait for ever.
  figures = measure(step, steps=100)
  pathlib.Path(folder, f"{rank}.json").write_text(json.dumps(figures))


def processes(job: Job) -> dict[str, float]:
  import torch.multiprocessing

  with tempfile.TemporaryDirectory() as folder:
    torch.multiprocessing.spawn(process, (folder, job), job["devices"])
    texts = [x.read_text() for x in pathlib.Path(folder).glob("*.json")]
  figures = [json.loads(text) for text in texts]
  return {
    "seconds": max(x["seconds"] for x in figures),
    "peak": sum(x["peak"] for x in figures),
    "grown": sum(x["grown"] for x in figures),
  }


def measure(step: Step, steps: int | None = None) -> dict[str, float]:
  """Seconds a step, the peak of resident memory, and what it grew by; in MB."""
  for _ in range(3):
    step()
  ctypes.CDLL(None).malloc_trim(0)  # What is free goes back to the system.
  before = memory("VmRSS")
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
  seconds, begin = [], time.perf_counter()
  while len(seconds) < (steps or 5) or (
    steps is None and time.perf_counter() - begin < SECONDS
  ):
    start = time.perf_counter()
    step()
    seconds.append(time.perf_counter() - start)
  peak = memory("VmHWM")
  return {
    "seconds": statistics.median(seconds),
    "peak": peak,
    "grown": peak - before,
  }


def memory(kind: str) -> float:
  """Of this process, in MB."""
  status = pathlib.Path("/proc/self/status").read_text()
  return int(status.partition(f"{kind}:")[2].split()[0]) * 1024 / 1e6


def work(job: Job) -> dict[str, float]:
  """What a process of its own measures."""
  model, batch = job["model"], job["batch"]
  if job["system"] == "ours":
    return measure(ours(model, batch, job["settings"]))
  if job["devices"] > 1:
    return processes(job)
  return measure(pytorch(model, batch, **job["settings"]))


def elsewhere(job: Job, cache: str) -> dict[str, float]:
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": cache,
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={job['devices']}",
  }
  done = subprocess.run(
    [
      *(sys.executable, "-m", "benchmarks.scaling"),
      f"--work={json.dumps(job)}",
    ],
    cwd=input_pipeline.ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def measured(jobs: list[Job], rounds: int) -> list[dict[str, float]]:
  """The medians of each job's figures, the jobs in turns."""
  with tempfile.TemporaryDirectory() as cache:
    all_rounds = [[elsewhere(j, cache) for j in jobs] for _ in range(rounds)]
  return [
    {key: statistics.median(x[key] for x in of_job) for key in of_job[0]}
    for of_job in zip(*all_rounds, strict=True)
  ]


def a_job(system: str, model: str, batch: int, **others: Any) -> Job:
  job = {"system": system, "model": model, "batch": batch}
  return {**job, "devices": 1, "settings": {}, **others}


def table(
  first: str, rows: dict[str, dict[str, Job]], rounds: int, memory: str
) -> None:
  """A row a key of `rows`, the systems side by side."""
  jobs = [job for systems in rows.values() for job in systems.values()]
  figures = iter(measured(jobs, rounds))
  names = list(next(iter(rows.values())))
  print(
    "\n| "
    + " | ".join(
      [first]
      + [f"{TITLES[name]}, ms a step" for name in names]
      + (["PyTorch over ours"] if len(names) > 1 else [])
      + [f"{TITLES[name]}, {memory} MB" for name in names]
    )
    + " |\n|"
    + "---|" * (1 + 2 * len(names) + (len(names) > 1))
  )
  key = {"peak": "peak", "in the step": "grown"}[memory]
  for row, systems in rows.items():
    of = {name: next(figures) for name in systems}
    cells = [f"{1e3 * of[name]['seconds']:,.1f}" for name in names]
    if len(names) > 1:
      cells.append(f"{of['pytorch']['seconds'] / of['ours']['seconds']:.2f}")
    cells += [f"{of[name][key]:,.0f}" for name in names]
    print(f"| {row} | {' | '.join(cells)} |", flush=True)


def devices(systems: list[str], rounds: int) -> None:
  rows = {
    str(n): {
      name: a_job(name, "small_resnet", DEVICES_BATCH, devices=n)
      for name in systems
    }
    for n in DEVICES
  }
  print(f"\nsmall_resnet, {DEVICES_BATCH} images a step, over all devices")
  table("devices", rows, rounds, "peak")


def batches(systems: list[str], rounds: int) -> None:
  for model, sizes in BATCHES.items():
    rows = {
      str(n): {name: a_job(name, model, n) for name in systems} for n in sizes
    }
    print(f"\n{model}, {MODELS[model][0]} px")
    table("batch", rows, rounds, "in the step")


def savers(systems: list[str], rounds: int) -> None:
  for name in systems:
    rows = {
      title: {name: a_job(name, "resnet18", SAVERS_BATCH, settings=settings)}
      for title, settings in SAVERS[name].items()
    }
    print(f"\nresnet18, {MODELS['resnet18'][0]} px, batch {SAVERS_BATCH}")
    table("", rows, rounds, "in the step")


def main() -> None:
  parts = {"devices": devices, "batches": batches, "savers": savers}
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--only", default=",".join(parts))
  flags.add_argument("--rounds", type=int, default=3)
  # Of the processes that this one starts.
  flags.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
  arguments = flags.parse_args()
  if arguments.work:
    print(json.dumps(work(arguments.work)))
    return
  systems = ["ours"]
  if importlib.util.find_spec("torch"):
    systems.append("pytorch")
  else:
    print("pytorch: left out, torch is missing", file=sys.stderr)
  print(input_pipeline.machine())
  for name in arguments.only.split(","):
    parts[name](systems, arguments.rounds)


if __name__ == "__main__":
  main()
