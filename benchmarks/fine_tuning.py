"""Fine-tuning against random weights and frozen features: docs/results.md.

    python -m benchmarks.fine_tuning --weights=FILE --dogs=DIR \
        [--workdir=runs/fine_tuning] [--config.KEY=VALUE ...]

Trains 20 breeds twice with the same data, resolution, augmentation and number
of steps: a ResNet-50 that ends at stage3, which is conv4, from the weights in
FILE, by the recipe of `:stanford_dogs`, and from random ones. Then it fits a
logistic regression to the same weights' frozen features of that stage. DIR
holds train/<class>/* and test/<class>/*. It prints every command, the
validation accuracy by epoch and the test accuracies, and draws
WORKDIR/curves.png. The same command resumes.
"""

import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from mixaug_jax.command import exits, flags
from mixaug_jax.comparison import figures

DATA = {
  "data.name": "folder",
  "data.classes": 20,
  "data.examples_per_class": 60,
  "data.validation_fraction": 0.2,
  "data.image_size": 64,
  "data.cache_size": 64,
}
NETWORK = {
  "model.last_stage": "stage3",
  "model.version": "v1",
  "model.conv_bias": "true",
}
TRAINING = {
  "augment.random_resized_crop.min_area": 0.5,
  "augment.random_flip_left_right.probability": 0.5,
  "loss.label_smoothing": 0.1,
  "batch_size": 20,
  "epochs": 8,
  "evaluate.batch_size": 79,
}
# The recipe, and what it does not say.
ARMS = {
  "pretrained": ("stanford_dogs", {}),
  "random weights": (
    "folder",
    {"optimizer.learning_rate": 0.03, "optimizer.warmup_epochs": 0.5},
  ),
}
FROZEN = "frozen features"


def main(argv: Sequence[str]) -> None:
  rest, overrides = flags.split_overrides(argv)
  parser = flags.parser("fine_tuning", __doc__.partition("\n")[0])
  parser.prog = "benchmarks.fine_tuning"
  parser.add_argument("--weights", required=True)
  parser.add_argument("--dogs", required=True)
  parser.add_argument(
    "--workdir", type=pathlib.Path, default=pathlib.Path("runs/fine_tuning")
  )
  arguments = parser.parse_args(rest)
  weights = {
    "model.pretrained": arguments.weights,
    "model.allow_partial": "true",
  }
  results, curves = {}, {}
  for arm, (recipe, settings) in ARMS.items():
    settings = {
      **({} if arm == "random weights" else weights),
      **{"data.dir": arguments.dogs, **DATA, **NETWORK, **TRAINING},
      **settings,
      **overrides,
    }
    workdir = arguments.workdir / arm.replace(" ", "_")
    _run(
      "mixaug_jax.main",
      [f"--config=configs/baseline.py:{recipe}", f"--workdir={workdir}"],
      settings,
    )
    results[arm] = json.loads((workdir / "result.json").read_text())
    curves[arm] = _curve(workdir, results[arm])
  kept = {
    key: value
    for key, value in {**DATA, **overrides}.items()
    if key.startswith("data.") or key == "seed"
  }
  printed = _run(
    "benchmarks.frozen_features",
    [f"--weights={arguments.weights}", f"--dogs={arguments.dogs}"],
    kept,
  )
  print(_table(curves))
  for arm, result in results.items():
    test, seconds = result["test"], result["seconds"]
    print(
      f"{arm}: test {test['accuracy']:.1%} of {test['examples']:,.0f}, chosen "
      f"at step {result['chosen_step']}; {seconds / 60:.1f} min of training"
    )
  print(f"{FROZEN}: {printed.strip()}")
  _draw(curves, arguments.workdir / "curves.png")


def _run(module: str, flags: list[str], settings: dict[str, Any]) -> str:
  """Runs a command, printed as it can be typed; returns what it prints."""
  changed = [f"--config.{key}={value}" for key, value in settings.items()]
  words = ["-m", module, *flags, *changed]
  print("$ python", shlex.join(words), flush=True)
  done = subprocess.run(
    [sys.executable, *words], stdout=subprocess.PIPE, text=True
  )
  if done.returncode:
    sys.exit(done.returncode)
  return done.stdout


def _curve(
  workdir: pathlib.Path, result: dict[str, Any]
) -> tuple[list[int], list[float]]:
  """Epochs and the accuracy on validation after each."""
  rows = [json.loads(x) for x in (workdir / "metrics.jsonl").open()]
  rows = [row for row in rows if row["split"] == "validation"]
  epochs = [
    round(row["step"] * result["epochs"] / result["steps"]) for row in rows
  ]
  return epochs, [row["accuracy"] for row in rows]


def _table(curves: dict[str, tuple[list[int], list[float]]]) -> str:
  epochs, _ = next(iter(curves.values()))
  lines = [f"| epoch | {' | '.join(map(str, epochs))} |"]
  lines.append("|---" * (len(epochs) + 1) + "|")
  for arm, (_, values) in curves.items():
    each = " | ".join(f"{100 * value:.1f}" for value in values)
    lines.append(f"| {arm} | {each} |")
  return "\n".join(lines)


def _draw(
  curves: dict[str, tuple[list[int], list[float]]], path: pathlib.Path
) -> None:
  figure = figures.curves(
    {arm: [curve] for arm, curve in curves.items()},
    figures.colours(list(curves), "random weights"),
    "validation accuracy",
    percent=True,
  )
  figure.axes[0].set_xlabel("epoch")
  figures.png(figure, path, dpi=120)


if __name__ == "__main__":
  exits.run(main)
