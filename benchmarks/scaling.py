"""How do time and memory grow with the work, beside PyTorch?

    pip install torch     # Measured only; may be missing.
    python -m benchmarks.scaling [--only=devices,batches,savers] [--rounds=3]

`devices`: one batch split over more and more CPU devices that XLA simulates.
They share the cores, so a perfect split would change nothing; the peer is
DistributedDataParallel with as many processes. `batches`: more images a step.
`savers`: what is saved, and at what cost, by computing a batch in parts, one
after the other, and by computing blocks twice.

A step is all of it, of random images: crop, CutMix, forward, backward, update;
PyTorch's leaves crop and CutMix out. Each is measured in a process of its own;
the systems alternate. Peak memory is the most that is resident during the
steps, libraries and compiled program included; "in the step" is the part of it
that does not stay from one step to the next: activations above all.
"""

import ctypes
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness, peers

BATCHES = {"small_resnet": (8, 32, 128, 512), "resnet18": (8, 32, 128)}
DEVICES, DEVICES_BATCH, SAVERS_BATCH = (1, 2, 4, 8), 64, 128
SAVERS = {
  "ours": {
    "as it is": {},
    "`model.remat=true`": {"model.remat": True},
    "`optimizer.accumulate=2`": {"optimizer.accumulate": 2},
    "`optimizer.accumulate=4`": {"optimizer.accumulate": 4},
    "both, 2 parts": {"model.remat": True, "optimizer.accumulate": 2},
  },
  "pytorch": {
    "as it is": {},
    "`torch.utils.checkpoint`": {"checkpoint": True},
    "2 parts": {"parts": 2},
    "4 parts": {"parts": 4},
  },
}
SIZES = {"small_resnet": 16, "resnet18": 64}  # Pixels a side.
CLASSES = 10
SECONDS, STEPS = 2.0, 5  # At least.
GROWN = "in the step"
TITLES = {"ours": "mixaug_jax", "pytorch": "PyTorch"}

# By system: model, batch, devices, settings.
Jobs = dict[str, tuple[str, int, int, dict[str, Any]]]


def measure(
  system: str, model: str, batch: int, devices: int, settings: dict[str, Any]
) -> dict[str, float]:
  """Returns the figures of `timed` for one system, in this process."""
  images = (batch, SIZES[model], CLASSES)
  if system == "pytorch":
    if devices > 1:
      return distributed(model, batch, devices)
    run = peers.torch_steps(model, *images, **settings)
  else:
    overrides = {
      "augment.random_crop.padding": 2,
      "batch_size": batch,
      "data.image_size": SIZES[model],
      "evaluate.batch_size": 256,
      "model.name": model,
    }
    run = harness.our_steps("cutmix.py", {**overrides, **settings}, images)
  return timed(lambda: run(1))


def distributed(model: str, batch: int, count: int) -> dict[str, float]:
  """Returns the figures of DistributedDataParallel over all its processes."""
  import torch.multiprocessing

  with tempfile.TemporaryDirectory() as folder:
    arguments = (folder, model, batch // count, count)
    torch.multiprocessing.spawn(_one_of_several, arguments, count)
    texts = [x.read_text() for x in pathlib.Path(folder).glob("*.json")]
  figures = [json.loads(text) for text in texts]
  totals = {name: sum(x[name] for x in figures) for name in ("peak", GROWN)}
  return {**totals, "seconds": max(x["seconds"] for x in figures)}


def _one_of_several(
  rank: int, folder: str, model: str, batch: int, count: int
) -> None:
  import torch

  torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // count))
  torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count
  )
  wrap = torch.nn.parallel.DistributedDataParallel
  run = peers.torch_steps(model, batch, SIZES[model], CLASSES, wrap=wrap)
  # The same number of steps everywhere, or the last ones wait forever.
  figures = timed(lambda: run(1), steps=100)
  pathlib.Path(folder, f"{rank}.json").write_text(json.dumps(figures))


def timed(
  step: Callable[[], None], steps: int | None = None
) -> dict[str, float]:
  """Returns seconds a step, and the peak of memory and its growth, in bytes.

  Args:
    step: to time.
    steps: how many; None: as many as take `SECONDS`, at least `STEPS`.
  """
  harness.seconds(step, 3)
  ctypes.CDLL(None).malloc_trim(0)  # Free memory returns to the system.
  before = harness.memory("VmRSS")
  harness.reset_peak_memory()
  seconds, begin = [], time.perf_counter()
  while len(seconds) < (steps or STEPS) or (
    steps is None and time.perf_counter() - begin < SECONDS
  ):
    seconds.append(harness.seconds(step))
  median, peak = statistics.median(seconds), harness.memory("VmHWM")
  return {"seconds": median, "peak": peak, GROWN: peak - before}


def table(
  first: str, rows: dict[Any, Jobs], rounds: int, memory: str = GROWN
) -> None:
  """Measures and prints the rows, the systems side by side."""
  jobs = {(row, name): job for row in rows for name, job in rows[row].items()}
  names = list(dict.fromkeys(name for _, name in jobs))
  with tempfile.TemporaryDirectory() as cache:

    def one(key: tuple[Any, str]) -> dict[str, float]:
      model, batch, devices, settings = jobs[key]
      return harness.child(
        *(measure, key[1], model, batch, devices, settings),
        JAX_COMPILATION_CACHE_DIR=cache,
        XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
      )

    taken = harness.in_turns(rounds, jobs, one)
  both = ["PyTorch over ours"] if len(names) > 1 else []
  harness.header(
    first,
    *(f"{TITLES[name]}, ms a step" for name in names),
    *both,
    *(f"{TITLES[name]}, {memory} MB" for name in names),
  )
  for row in rows:
    figures = [harness.medians(taken[row, name]) for name in names]
    seconds = [x["seconds"] for x in figures]
    harness.row(
      row,
      *(f"{1e3 * x:,.1f}" for x in seconds),
      *(f"{seconds[1] / seconds[0]:.2f}" for _ in both),
      *(harness.cell(x[memory], 1e6, ",.0f") for x in figures),
    )


def devices(systems: list[str], rounds: int) -> None:
  print(f"\nsmall_resnet, {DEVICES_BATCH} images a step, over all devices")
  job = lambda count: ("small_resnet", DEVICES_BATCH, count, {})
  rows = {n: dict.fromkeys(systems, job(n)) for n in DEVICES}
  table("devices", rows, rounds, "peak")


def batches(systems: list[str], rounds: int) -> None:
  for model, sizes in BATCHES.items():
    print(f"\n{model}, {SIZES[model]} px")
    rows = {n: dict.fromkeys(systems, (model, n, 1, {})) for n in sizes}
    table("batch", rows, rounds)


def savers(systems: list[str], rounds: int) -> None:
  for name in systems:
    print(f"\nresnet18, {SIZES['resnet18']} px, batch {SAVERS_BATCH}")
    rows = {
      title: {name: ("resnet18", SAVERS_BATCH, 1, settings)}
      for title, settings in SAVERS[name].items()
    }
    table("", rows, rounds)


def main() -> None:
  parts = {"devices": devices, "batches": batches, "savers": savers}
  flags = harness.flags(__doc__, rounds=3)
  flags.add_argument(
    "--only", type=harness.some_of(parts), default=",".join(parts)
  )
  arguments = flags.parse_args()
  harness.use_cpu()
  systems = harness.installed(TITLES, {"pytorch": "torch"})
  print(harness.machine("jax", "numpy", "torch"))
  for name in arguments.only:
    parts[name](systems, arguments.rounds)


if __name__ == "__main__":
  main()
