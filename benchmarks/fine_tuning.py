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
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import harness
from mixaug_jax.command import exits, flags
from mixaug_jax.pages import drawing, figures

DATA = {
  "data.name": "folder",
  "data.classes": 20,
  "data.examples_per_class": 60,
  "data.validation_fraction": 0.2,
  "data.image_size": 64,
  "data.cache_size": 64,
}
TRAINING = {
  "model.last_stage": "stage3",
  "model.version": "v1",
  "model.conv_bias": "true",
  "augment.random_resized_crop.min_area": 0.5,
  "augment.random_flip_left_right.probability": 0.5,
  "loss.label_smoothing": 0.1,
  "batch_size": 20,
  "epochs": 8,
  "evaluate.batch_size": 79,
}
PRETRAINED, RANDOM = "pretrained", "random weights"
RECIPES = {PRETRAINED: "stanford_dogs", RANDOM: "folder"}


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
  # What each arm adds to its recipe.
  added = {
    PRETRAINED: {
      "model.pretrained": arguments.weights,
      "model.allow_partial": "true",
    },
    RANDOM: {
      "model.pretrained": "none",
      "optimizer.learning_rate": 0.03,
      "optimizer.warmup_epochs": 0.5,
    },
  }
  results, curves = {}, {}
  for arm, recipe in RECIPES.items():
    workdir = arguments.workdir / arm.replace(" ", "_")
    settings = {"data.dir": arguments.dogs, **DATA, **TRAINING, **added[arm]}
    run(
      *("mixaug_jax.main", f"--config=configs/baseline.py:{recipe}"),
      f"--workdir={workdir}",
      **{**settings, **overrides},
    )
    results[arm] = json.loads((workdir / "result.json").read_text())
    curves[arm] = curve(workdir, results[arm])
  frozen = run(
    *("benchmarks.frozen_features", f"--weights={arguments.weights}"),
    f"--dogs={arguments.dogs}",
    **{
      key: value
      for key, value in {**DATA, **overrides}.items()
      if key.startswith("data.") or key == "seed"
    },
  )
  harness.header("epoch", *curves[PRETRAINED][0])
  for arm, (_, values) in curves.items():
    harness.row(arm, *(f"{100 * value:.1f}" for value in values))
  for arm, result in results.items():
    test, seconds = result["test"], result["seconds"]
    print(
      f"{arm}: test {test['accuracy']:.1%} of {test['examples']:,.0f}, chosen "
      f"at step {result['chosen_step']}; {seconds / 60:.1f} min of training"
    )
  print(f"frozen features: {frozen.strip()}")
  figure = figures.curves(
    {arm: [points] for arm, points in curves.items()},
    drawing.colours(list(curves), RANDOM),
    "validation accuracy",
    percent=True,
  )
  figure.axes[0].set_xlabel("epoch")
  drawing.png(figure, arguments.workdir / "curves.png", dpi=120)


def run(module: str, *flags: str, **settings: Any) -> str:
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


def curve(
  workdir: pathlib.Path, result: Mapping[str, Any]
) -> tuple[list[int], list[float]]:
  """Returns the epochs and the accuracy on validation after each."""
  rows = [json.loads(x) for x in (workdir / "metrics.jsonl").open()]
  rows = [row for row in rows if row["split"] == "validation"]
  per_step = result["epochs"] / result["steps"]
  epochs = [round(row["step"] * per_step) for row in rows]
  return epochs, [row["accuracy"] for row in rows]


if __name__ == "__main__":
  exits.run(main)
