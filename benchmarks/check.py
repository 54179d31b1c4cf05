"""Checks that no benchmark has fallen behind its record.

    pip install torch timm     # The peers.
    python -m benchmarks.check [--only=augmentation,...] [--record]

Each small benchmark gives one ratio, the peer's time over ours: the median over
rounds, in each of which new processes measure both. Even so it varies by a
quarter from run to run. So `recorded.json` has the lowest of three ratios, and
one is measured up to three times until it is no more than 15 % below that; if
none is, the command names it and exits with 1. Ratios differ from machine to
machine: `--record` writes those of this one.
"""

import json
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

from benchmarks import augmentation, harness, input_pipeline, startup
from benchmarks import train_step as train_step_lib

RECORD = pathlib.Path(__file__).with_name("recorded.json")
TOLERANCE = 0.15
ROUNDS, TRIES = 3, 3
PHOTOGRAPHS = 300
PACKAGES = ("jax", "flax", "optax", "numpy", "torch", "timm")

Ratios = dict[str, float]
Measurement = Callable[[int], Ratios]


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
  """Returns the median of the rounds' ratios."""
  return statistics.median(a / b for a, b in zip(over, under, strict=True))


def augmentations(rounds: int) -> Ratios:
  """Crop, flip, mix and normalise, beside timm's Mixup and torch."""
  taken = harness.in_turns(
    rounds,
    augmentation.SIZES,
    lambda size: harness.child(
      augmentation.pipelines, *size, ["ours", "timm"], 5
    ),
  )
  return {
    f"augmentation, {count} images of {size} px, timm": statistics.median(
      seconds["timm"] / seconds["ours"] for seconds in of
    )
    for (count, size), of in taken.items()
  }


def train_step(rounds: int) -> Ratios:
  """A whole step on digits, beside PyTorch's."""
  with tempfile.TemporaryDirectory() as cache_dir:
    folder = harness.photographs(pathlib.Path(cache_dir), 20)
    job = {"model": "small_resnet", "size": 16, "batch": 50, "steps": 100}
    job |= {"folder": str(folder), "cache_dir": cache_dir}
    step = lambda name: train_step_lib.elsewhere(name, job)["step"]
    seconds = harness.in_turns(rounds, ("pytorch", "ours"), step)
  return {"train step, digits, PyTorch": ratio(*seconds.values())}


def photographs(rounds: int) -> Ratios:
  """JPEG files to batches, beside PyTorch's DataLoader."""
  with tempfile.TemporaryDirectory() as root:
    folder = str(harness.photographs(pathlib.Path(root), PHOTOGRAPHS))
    speed = lambda name: harness.child(input_pipeline.speed, name, folder, 224)
    rates = harness.in_turns(rounds, ("host", "DataLoader"), speed)
  return {
    f"photographs, {epoch} epoch, DataLoader": ratio(
      *([rate[epoch] for rate in of] for of in rates.values())
    )
    for epoch in ("first", "later")
  }


def start(rounds: int) -> Ratios:
  """From the command line to the first step, beside PyTorch's."""
  seconds = startup.measured(["pytorch", "warm"], rounds)
  return {"start-up, warm, PyTorch": ratio(*seconds.values())}


MEASUREMENTS: dict[str, Measurement] = {
  "augmentation": augmentations,
  "train_step": train_step,
  "photographs": photographs,
  "start": start,
}


def fallen(ratios: Ratios, recorded: Mapping[str, float]) -> list[str]:
  """Returns the names whose ratio is too far below the recorded one."""
  return [
    name
    for name, value in ratios.items()
    if value < (1 - TOLERANCE) * recorded.get(name, 0)
  ]


def main(argv: Sequence[str] | None = None) -> int:
  flags = harness.flags(__doc__)
  some, every = harness.some_of(MEASUREMENTS), ",".join(MEASUREMENTS)
  flags.add_argument("--only", type=some, default=every)
  flags.add_argument("--record", action="store_true")
  arguments = flags.parse_args(argv)
  if not (RECORD.exists() or arguments.record):
    flags.error(f"there is no {RECORD.name} yet; --record writes it")
  harness.use_cpu()
  recorded, machine = {}, harness.machine(*PACKAGES)
  if RECORD.exists():
    record = json.loads(RECORD.read_text())
    recorded = record["ratios"]
    print(f"recorded on {record['machine']}")
  print(f"measured on {machine}")
  keep = min if arguments.record else max
  measured, failed = {}, []
  harness.header("the peer's time over ours", "recorded", "now")
  for name in arguments.only:
    ratios = MEASUREMENTS[name](ROUNDS)
    for _ in range(TRIES - 1):
      if arguments.record or fallen(ratios, recorded):
        more = MEASUREMENTS[name](ROUNDS)
        ratios = {of: keep(value, more[of]) for of, value in ratios.items()}
    for of, value in ratios.items():
      before = f"{recorded[of]:.2f}" if of in recorded else ""
      harness.row(of, before, f"{value:.2f}")
    failed += [] if arguments.record else fallen(ratios, recorded)
    measured |= {of: round(value, 3) for of, value in ratios.items()}
  if arguments.record:
    record = {"machine": machine, "ratios": {**recorded, **measured}}
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
