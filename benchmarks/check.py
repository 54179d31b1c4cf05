"""Is what was measured still so?

    pip install torch timm     # The peers.
    python -m benchmarks.check [--only=augmentation,...] [--record]

Each small benchmark gives one ratio, the peer's time over ours, measured in
turns with the peer on this machine, now. Even so it moves by a quarter from run
to run, so `recorded.json` has the lowest of three, and one is measured up to
three times until it is no more than 15 % below that; if none is, the command
names it and ends with 1. It moves from machine to machine too: `--record`
writes those of this one.
"""

import argparse
import itertools
import json
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks import input_pipeline, startup

RECORD = pathlib.Path(__file__).with_name("recorded.json")
TOLERANCE = 0.15
ROUNDS, TRIES = 2, 3
PHOTOGRAPHS = 300
PACKAGES = ("jax", "flax", "optax", "grain", "numpy", "torch", "timm")

Ratios = dict[str, float]
Measurement = Callable[[int], Ratios]


def augmentation(rounds: int) -> Ratios:
  """Crop, flip, mix and normalise, beside timm's Mixup and torch."""
  from benchmarks import augmentation as of

  ratios = {}
  for count, size in of.SIZES:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, size, size, 3), np.uint8)
    classes = generator.integers(0, of.CLASSES, count).astype(np.int32)
    runs = {f.__name__: f(images, classes) for f in (of.ours, of.timm)}
    seconds = of.timed(runs, 5 * rounds)
    name = f"augmentation, {count} images of {size} px, timm"
    ratios[name] = seconds["timm"] / seconds["ours"]
  return ratios


def train_step(rounds: int) -> Ratios:
  """A whole step on digits, beside PyTorch's."""
  from benchmarks import train_step as of

  seconds = {"ours": [], "pytorch": []}
  with tempfile.TemporaryDirectory() as folder:
    job = {"model": "small_resnet", "size": 16, "batch": 50, "steps": 100}
    job = {**job, "folder": folder, "cache_dir": folder}
    for _, name in itertools.product(range(rounds), seconds):
      seconds[name].append(of.elsewhere(name, job)["step"])
  median = {name: statistics.median(x) for name, x in seconds.items()}
  return {"train step, digits, PyTorch": median["pytorch"] / median["ours"]}


def photographs(rounds: int) -> Ratios:
  """JPEG files to batches, beside PyTorch's DataLoader."""
  rates = {"host": [], "DataLoader": []}
  with tempfile.TemporaryDirectory() as root:
    folder = input_pipeline.make_folder(pathlib.Path(root), PHOTOGRAPHS)
    for _ in range(rounds):
      for name, of in rates.items():
        of.append(input_pipeline.elsewhere("speed", name, folder, 224))
  return {
    f"photographs, {epoch} epoch, DataLoader": (
      statistics.median(x[epoch] for x in rates["host"])
      / statistics.median(x[epoch] for x in rates["DataLoader"])
    )
    for epoch in ("first", "later")
  }


def start(rounds: int) -> Ratios:
  """From the command line to the first step, beside PyTorch's."""
  seconds = startup.measured(["warm", "pytorch"], rounds)
  median = {name: statistics.median(x) for name, x in seconds.items()}
  return {"start-up, warm, PyTorch": median["pytorch"] / median["warm"]}


MEASUREMENTS: dict[str, Measurement] = {
  f.__name__: f for f in (augmentation, train_step, photographs, start)
}


def fallen(ratios: Ratios, recorded: Mapping[str, float]) -> list[str]:
  """The names whose ratio is too far below the recorded one."""
  return [
    name
    for name, ratio in ratios.items()
    if name in recorded and ratio < (1 - TOLERANCE) * recorded[name]
  ]


def main(argv: Sequence[str] | None = None) -> int:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--only", default=",".join(MEASUREMENTS))
  flags.add_argument("--record", action="store_true")
  arguments = flags.parse_args(argv)
  names = arguments.only.split(",")
  if unknown := set(names) - set(MEASUREMENTS):
    flags.error(
      f"--only: {min(unknown)!r} is none of {', '.join(MEASUREMENTS)}"
    )
  machine = input_pipeline.machine(PACKAGES)
  if not (RECORD.exists() or arguments.record):
    flags.error(f"there is no {RECORD.name} yet; --record writes it")
  record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
  recorded = {} if arguments.record else record["ratios"]
  keep = min if arguments.record else max
  if not arguments.record:
    print(f"recorded on {record['machine']}\nmeasured on {machine}")
  measured, failed = {}, []
  print("\n| the peer's time over ours | recorded | now |\n|---|---|---|")
  for name in names:
    ratios = MEASUREMENTS[name](ROUNDS)
    for _ in range(TRIES - 1):
      if arguments.record or fallen(ratios, recorded):
        again = MEASUREMENTS[name](ROUNDS)
        ratios = {of: keep(x, again[of]) for of, x in ratios.items()}
    for of, ratio in ratios.items():
      print(f"| {of} | {recorded.get(of, float('nan')):.2f} | {ratio:.2f} |")
    sys.stdout.flush()
    failed += fallen(ratios, recorded)
    measured |= ratios
  if arguments.record:
    measured = {k: round(x, 3) for k, x in measured.items()}
    record = {
      "machine": machine,
      "ratios": {**record.get("ratios", {}), **measured},
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
  for name in failed:
    print(
      f"{name}: {measured[name]:.2f}, more than {TOLERANCE:.0%} below "
      f"{recorded[name]:.2f}",
      file=sys.stderr,
    )
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
