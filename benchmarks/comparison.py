"""How long does a comparison on digits take, and where does the time go?

    pip install torch     # Measured only; may be missing.
    python -m benchmarks.comparison [--arms=baseline,cutmix] [--seeds=3]

Runs `python -m mixaug_jax.compare` with some of its arms: with every run
compiling for itself; with a shared compilation cache that is empty at first, as
by default; and with two runs side by side, `--jobs=2`. The peer is a PyTorch
script that trains the same network for as many steps of SGD on random images:
no augmentation, evaluation, checkpoints or report.
"""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import harness, peers

STEPS = 400  # Of a run on digits.
COLUMNS = (
  *("whole", "report", "a run", "of it steps", "the first step"),
  "start, evaluation, checkpoints",
)
CONFIG = """
from configs import compare

def get_config(dataset="digits"):
  config = compare.get_config(dataset)
  for name in set(config.arms) - set({arms!r}):
    del config.arms[name]
  return config
"""


def compared(
  arms: list[str], seeds: int, cache: bool, *extra: str
) -> list[float]:
  """Runs a comparison; returns its seconds in the order of `COLUMNS`."""
  with tempfile.TemporaryDirectory() as folder:
    config = pathlib.Path(folder, "some_arms.py")
    config.write_text(CONFIG.format(arms=arms))
    command = [sys.executable, "-m", "mixaug_jax.compare", *extra]
    command += [f"--config={config}", f"--workdir={folder}/runs"]
    environment = {
      "XDG_CACHE_HOME": f"{folder}/cache",
      "JAX_ENABLE_COMPILATION_CACHE": str(cache),
      "PYTHONPATH": str(harness.ROOT),
    }
    begin = time.perf_counter()
    process = subprocess.Popen(
      [*command, f"--config.seeds={seeds}"],
      cwd=harness.ROOT,
      env={**os.environ, **environment},
      stdout=subprocess.PIPE,
      text=True,
    )
    runs, last = [], begin
    for line in process.stdout:  # [1/6] baseline/0: test 70.20%; 13 s
      if match := re.match(r"\[\S+ (\S+): test \S+ (\d+) s", line):
        last, wall = time.perf_counter(), int(match[2])
        path = f"{match[1].replace('/', '/seed_')}/result.json"
        result = json.loads(pathlib.Path(folder, "runs", path).read_text())
        steps, first = result["seconds"], result["compile_seconds"]
        runs.append((wall, steps, first, wall - steps - first))
    if process.wait():
      raise RuntimeError("the comparison failed, see above")
    end = time.perf_counter()
  means = (statistics.mean(x) for x in zip(*runs, strict=True))
  return [end - begin, end - last, *means]


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--arms", default="baseline,cutmix")
  flags.add_argument("--seeds", type=int, default=3)
  arguments = flags.parse_args()
  harness.use_cpu()
  arms, seeds = arguments.arms.split(","), arguments.seeds
  print(harness.machine("jax", "flax", "orbax-checkpoint", "torch"))
  print(f"\nSeconds; {len(arms)} arms, {seeds} seeds")
  harness.header("", *COLUMNS)
  for title, cache, extra in (
    ("each run compiles for itself", False, ()),
    ("a shared cache, empty at first", True, ()),
    ("the same, `--jobs=2`", True, ("--jobs=2",)),
  ):
    seconds = compared(arms, seeds, cache, *extra)
    harness.row(title, *(f"{x:.1f}" for x in seconds))
  if harness.installed(["PyTorch"], {"PyTorch": "torch"}):
    train = lambda: harness.child(peers.torch_digits, STEPS)
    run = statistics.median(harness.seconds(train) for _ in range(seeds))
    whole = f"{run * len(arms) * seeds:.1f}"
    harness.row("PyTorch, steps alone", whole, "", f"{run:.1f}", "", "", "")


if __name__ == "__main__":
  main()
