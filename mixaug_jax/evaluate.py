"""`python -m mixaug_jax.evaluate`: measures a run on any split and views."""

import json
from collections.abc import Sequence
from typing import Any

from mixaug_jax.command import exits, flags, jax_setup
from mixaug_jax.errors import UserError

SPLITS = ("train", "validation", "test")


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "evaluate",
    "Evaluates the chosen weights of a finished run, on one or several views "
    "of each image.",
  )
  parser.add_argument("--workdir", type=flags.path, required=True)
  parser.add_argument("--split", default="test", choices=SPLITS)
  parser.add_argument(
    "--views",
    default="identity",
    help="identity, flip, five_crops, scales; commas between several",
  )
  parser.add_argument(
    "--average",
    default="logits",
    choices=("logits", "probabilities"),
    help="what is averaged over the views",
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  arguments = flags.parse(parser, argv)
  jax_setup.prepare()

  from mixaug_jax import data, runs
  from mixaug_jax.analysis import views

  run = runs.open_run(arguments.workdir)
  network = run.classifier()
  network.predictor(arguments.views)  # Refuses a view that is named twice.
  names = [name.strip() for name in arguments.views.split(",")]
  predictors = {name: network.predictor(name) for name in names}
  datasets = data.load(run.config.data, run.config.seed)
  split = getattr(datasets, arguments.split)
  if split is None:
    raise UserError(
      f"--split={arguments.split}: the data set of {arguments.workdir} has no "
      "such split"
    )
  measured = views.evaluate(
    predictors,
    split,
    datasets.validation,
    batch_size=run.config.evaluate.batch_size,
    average=arguments.average,
    likelihood=run.likelihood,
  )
  report = {
    "split": arguments.split,
    "examples": len(split),
    "average": arguments.average,
    "loss": run.likelihood.loss_name,
    "probabilities": run.likelihood.kind,
    "views": measured,
  }
  print(json.dumps(report, indent=2) if arguments.json else table(report))


def table(report: dict[str, Any]) -> str:
  """Returns the measures as aligned text."""
  labels = {
    name: f"{name} ({row['views']})" for name, row in report["views"].items()
  }
  width = max(map(len, labels.values()))
  lines = [
    f"{report['split']}, {report['examples']:,} images; views averaged by "
    f"{report['average']}; loss: {report['loss']}; ECE: expected calibration "
    f"error of {report['probabilities']} probabilities, scaled: by a "
    "temperature fitted on validation",
    f"{'views':{width}}{'top-1':>8}{'top-5':>8}{'loss':>8}{'ECE':>8}{'scaled':>8}"
    f"{'ms/image':>10}",
  ]
  for name, row in report["views"].items():
    lines.append(
      f"{labels[name]:{width}}{row['accuracy']:8.2%}{row['top5_accuracy']:8.2%}"
      f"{row['loss']:8.3f}{row['calibration_error']:8.2%}"
      f"{row['calibration_error_scaled']:8.2%}{row['milliseconds']:10.2f}"
    )
    if row["undefined"]:
      lines.append(
        f"{labels[name]}: the logits of {row['undefined']:,} images are not "
        "numbers; they count as wrong"
      )
  return "\n".join(lines)


if __name__ == "__main__":
  exits.run(main)
