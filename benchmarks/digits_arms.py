"""The four arms on digits, several seeds: the table of the README.

python -m benchmarks.digits_arms [--seeds 3] [--workdir runs/arms]
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

ARMS = ("baseline", "basic", "mixup", "cutmix")


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument("--seeds", type=int, default=3)
  flags.add_argument("--workdir", type=pathlib.Path, default="runs/arms")
  arguments = flags.parse_args()
  sys.stdout.reconfigure(line_buffering=True)
  print("| arm | test accuracy, % | mean | spread | over baseline |")
  print("|---|---|---|---|---|")
  baseline = None
  for arm in ARMS:
    accuracies = [
      100 * _accuracy(arm, seed, arguments.workdir)
      for seed in range(arguments.seeds)
    ]
    mean = statistics.mean(accuracies)
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0
    baseline = mean if baseline is None else baseline
    each = ", ".join(f"{x:.1f}" for x in accuracies)
    gain = f"{mean - baseline:+.1f}"
    print(f"| `{arm}` | {each} | {mean:.1f} | {spread:.1f} | {gain} |")


def _accuracy(arm: str, seed: int, root: pathlib.Path) -> float:
  """Test accuracy of a run, which is trained unless it is there."""
  workdir = root / arm / f"seed_{seed}"
  subprocess.run(
    [
      *(sys.executable, "-m", "mixaug_jax.main"),
      f"--config=configs/{arm}.py",
      f"--config.seed={seed}",
      f"--workdir={workdir}",
    ],
    check=True,
    capture_output=True,
  )
  result = json.loads((workdir / "result.json").read_text())
  return result["test"]["accuracy"]


if __name__ == "__main__":
  main()
