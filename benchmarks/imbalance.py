"""What helps where some classes have few images? The table of docs/results.md.

    python -m benchmarks.imbalance --workdir=runs/imbalance [--seeds=5]

Trains every arm on long-tailed digits: the class `0` has some 75 images, each
next one fewer, and `9` has a twentieth of that. The test images are the usual
1,000. Finished runs are not repeated. Prints the balanced accuracy of each arm,
its gain over no remedy, paired by seed and image, and the accuracy on the three
largest and the three smallest classes; then the gain of Remix over CutMix.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks import harness
from mixaug_jax.analysis import calibration, statistics

LONG_TAIL = {
  "data.examples_per_class": None,
  "data.imbalance_factor": 20,
  "steps": 200,
}
CUTMIX = {"mix.name": "cutmix"}
ARMS: dict[str, dict] = {
  "baseline": {},
  "inverse weights": {"loss.class_weights": "inverse"},
  # The paper's beta of 0.999 suits classes of thousands of images; with fewer
  # than 100, its weights are those of `inverse`.
  "effective weights, beta 0.9": {
    "loss.class_weights": "effective",
    "loss.effective_beta": 0.9,
  },
  "oversample": {"data.oversample": True},
  "cutmix": CUTMIX,
  "cutmix, remix": CUTMIX | {"mix.remix_kappa": 3.0},
}
PAIR = ("cutmix, remix", "cutmix")
ENDS = 3  # Classes at either end of the tail.


def main() -> None:
  flags = harness.flags(__doc__)
  flags.add_argument("--workdir", type=pathlib.Path, required=True)
  flags.add_argument("--seeds", type=int, default=5)
  arguments = flags.parse_args()
  logits, labels, counts = {}, None, None
  for name, settings in ARMS.items():
    found = [
      _run(arguments.workdir, name, settings, seed)
      for seed in range(arguments.seeds)
    ]
    logits[name] = [predictions.logits for predictions, _ in found]
    labels, counts = found[0][0].labels, found[0][1]
  assert labels is not None
  print(f"training images of seed 0, by class: {counts}\n")
  print("\n".join(table(logits, labels)))


def _run(root: pathlib.Path, name: str, settings: dict, seed: int):
  """Trains a run; returns its predictions on test and its class counts."""
  import mixaug_jax

  folder = root / name.replace(",", "").replace(" ", "_") / f"seed_{seed}"
  run = mixaug_jax.train(
    "baseline",
    workdir=folder,
    overrides={**LONG_TAIL, **settings, "seed": seed, "log.writers": "console"},
  )
  return run.predictions("test"), run.result.class_counts


def table(
  logits: dict[str, list[np.ndarray]], labels: np.ndarray
) -> Sequence[str]:
  """Returns the lines of the table; the first arm is the baseline.

  A weight for each image, N / (C n_c), turns an accuracy into the balanced one.
  """
  sizes = np.bincount(labels)
  weights = len(labels) / len(sizes) / sizes[labels]
  right = {
    name: np.stack([calibration.correct(x, labels) for x in each])
    for name, each in logits.items()
  }
  of = lambda correct: statistics.mean_interval((weights * correct).mean(1))
  some = lambda correct, which: correct[:, np.isin(labels, which)].mean()
  base = next(iter(right))
  pairs = [(name, base) for name in right if name != base] + [PAIR]
  gains = {
    pair: statistics.difference(*(weights * right[name] for name in pair))
    for pair in pairs
  }
  levels = statistics.holm_levels([gain.p_value for gain in gains.values()])
  points = {}
  for (pair, gain), level in zip(gains.items(), levels, strict=True):
    mean, low, high = (100 * x for x in gain.interval(level, -1, 1))
    points[pair] = f"{mean:+.1f} ({low:.1f} to {high:.1f})"
  lines = [
    f"| arm | balanced accuracy, % | over `{base}`, points | {ENDS} largest "
    f"classes, % | {ENDS} smallest classes, % |",
    "|---|---|---|---|---|",
  ]
  classes = np.arange(len(sizes))
  for name, correct in right.items():
    mean, low, high = (100 * x for x in of(correct))
    ends = (some(correct, classes[:ENDS]), some(correct, classes[-ENDS:]))
    lines.append(
      f"| `{name}` | {mean:.1f} ({low:.1f} to {high:.1f}) | "
      f"{points.get((name, base), '')} | "
      f"{100 * ends[0]:.1f} | {100 * ends[1]:.1f} |"
    )
  return [*lines, f"\n`{PAIR[0]}` over `{PAIR[1]}`: {points[PAIR]} points"]


if __name__ == "__main__":
  main()
