"""Checks that no benchmark has fallen behind its record.

    pip install torch timm     # The peers.
    pip install 'jax[tpu]'     # Or 'jax[cuda12]', for more programs.
    python -m benchmarks.check [--only=augmentation,...] [--record]

Each small benchmark gives one ratio, the peer's time over ours: the median over
rounds, in each of which new processes measure both. Even so it varies by a
quarter from run to run. So `recorded.json` has the lowest of three ratios, and
one is measured up to three times until it is no more than 15 % below that; if
none is, the command names it and exits with 1. Ratios differ from machine to
machine: `--record` writes those of this one.

`programs` compiles small train steps for the CPU and, where the plugin is
installed, for a TPU v5e and an H100, which need not be there. XLA's counts of
FLOPs, bytes accessed, bytes of temporaries and cycles have no noise, so one
that is more than 1 % above its record fails. They depend on the compiler: those
of other versions than the recorded ones are printed and not compared.
`--record` replaces the programs that are compiled and leaves the others.
"""

import json
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import (
  augmentation,
  harness,
  input_pipeline,
  startup,
  step_programs,
)
from benchmarks import train_step as train_step_lib

RECORD = pathlib.Path(__file__).with_name("recorded.json")
TOLERANCE = 0.15
ROUNDS, TRIES = 3, 3
PHOTOGRAPHS = 300
PROGRAMS_TOLERANCE = 0.01
# The packages with the compiler of a topology, beside jaxlib.
TOPOLOGIES = {"cpu": (), "h100": ("jax-cuda12-pjrt",), "v5e:2x2": ("libtpu",)}
PLUGINS = {"h100": "jax_cuda12_plugin", "v5e:2x2": "libtpu"}
PROGRAM = {"model": "resnet18", "size": 64, "share": 32}
FIGURES = ("flops", "bytes_accessed", "temporaries", "cycles")
PACKAGES = ("jax", "flax", "optax", "numpy", "torch", "timm")

Ratios = dict[str, float]
Program = dict[str, Any]  # `FIGURES`, and the versions of the `compiler`.
Measurement = Callable[[int], Ratios]


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
  """Returns the median of the rounds' ratios."""
  return statistics.median(a / b for a, b in zip(over, under, strict=True))


def augmentations(rounds: int) -> Ratios:
  """Crop, flip, mix and normalise, beside timm's Mixup and torch."""
  ratios = {}
  for count, size in augmentation.SIZES:
    job = (count, size, ["ours", "timm"], 5)
    taken = [harness.child(augmentation.pipelines, *job) for _ in range(rounds)]
    ratios[f"augmentation, {count} images of {size} px, timm"] = ratio(
      *([seconds[name] for seconds in taken] for name in ("timm", "ours"))
    )
  return ratios


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
      *([x[epoch] for x in measured] for measured in rates.values())
    )
    for epoch in ("first", "later")
  }


def start(rounds: int) -> Ratios:
  """From the command line to the first step, beside PyTorch's."""
  seconds = startup.measured(["pytorch", "warm"], rounds)
  return {"start-up, warm, PyTorch": ratio(*seconds.values())}


def programs() -> dict[str, Program]:
  """Returns XLA's counts of our steps, compiled for several topologies."""
  found = {}
  for topology in harness.installed(TOPOLOGIES, PLUGINS):
    job = {**PROGRAM, "topology": topology}
    for system in ("ours", "ours-plain"):
      counted = harness.child(step_programs.figures, system, job)
      found[f"{topology}, {step_programs.TITLES[system]}"] = {
        "compiler": harness.versions("jax", "jaxlib", *TOPOLOGIES[topology]),
        **{x: counted[x] for x in FIGURES if counted[x]},
      }
  return found


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


def raised(now: Program, recorded: Program) -> list[str]:
  """Returns what costs more than recorded, if the compiler is the same."""
  if now["compiler"] != recorded["compiler"]:
    return []
  most = 1 + PROGRAMS_TOLERANCE
  return [x for x in FIGURES if now.get(x, 0) > most * recorded.get(x, 0)]


def check_ratios(
  names: Sequence[str], recorded: Mapping[str, float], record: bool
) -> tuple[Ratios, list[str]]:
  """Measures and prints ratios; returns them, and sentences on what fell."""
  keep = min if record else max
  measured, failed = {}, []
  harness.header("the peer's time over ours", "recorded", "now")
  for name in names:
    ratios = MEASUREMENTS[name](ROUNDS)
    for _ in range(TRIES - 1):
      if record or fallen(ratios, recorded):
        more = MEASUREMENTS[name](ROUNDS)
        ratios = {title: keep(x, more[title]) for title, x in ratios.items()}
    for title, value in ratios.items():
      before = f"{recorded[title]:.2f}" if title in recorded else ""
      harness.row(title, before, f"{value:.2f}")
    failed += [
      f"{title}: {ratios[title]:.2f}, more than {TOLERANCE:.0%} below "
      f"{recorded[title]:.2f}"
      for title in fallen(ratios, recorded)
    ]
    measured |= {title: round(x, 3) for title, x in ratios.items()}
  return measured, failed


def check_programs(
  recorded: Mapping[str, Program],
) -> tuple[dict[str, Program], list[str]]:
  """Counts and prints programs; returns them, and sentences on what rose."""
  measured, failed = programs(), []
  harness.header("a compiled step", "figure", "recorded", "now")
  for title, now in measured.items():
    before = recorded.get(title, {})
    for name in (x for x in FIGURES if x in now):
      was = harness.cell(before.get(name), 1, ",.0f")
      harness.row(title, name, was, f"{now[name]:,.0f}")
    if before and before["compiler"] != now["compiler"]:
      print(f"{title}: recorded with {before['compiler']}, so not compared")
    failed += [
      f"{title}: {now[name]:,.0f} {name}, more than "
      f"{PROGRAMS_TOLERANCE:.0%} above {before[name]:,.0f}"
      for name in (raised(now, before) if before else ())
    ]
  return measured, failed


def main(argv: Sequence[str] | None = None) -> int:
  flags = harness.flags(__doc__)
  choices = (*MEASUREMENTS, "programs")
  flags.add_argument(
    "--only", type=harness.some_of(choices), default=",".join(choices)
  )
  flags.add_argument("--record", action="store_true")
  arguments = flags.parse_args(argv)
  if not (RECORD.exists() or arguments.record):
    flags.error(f"there is no {RECORD.name} yet; --record writes it")
  harness.use_cpu()
  machine, failed = harness.machine(*PACKAGES), []
  record: dict[str, Any] = {"machine": machine, "ratios": {}, "programs": {}}
  if RECORD.exists():
    record |= json.loads(RECORD.read_text())
    print(f"recorded on {record['machine']}")
  print(f"measured on {machine}")
  names = [name for name in arguments.only if name != "programs"]
  if names:
    ratios, failed = check_ratios(names, record["ratios"], arguments.record)
    record["ratios"] |= ratios
    record["machine"] = machine
  if "programs" in arguments.only:
    found, raised = check_programs(record["programs"])
    record["programs"] |= found
    failed += raised
  if arguments.record:
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    return 0
  for sentence in failed:
    print(sentence, file=sys.stderr)
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
