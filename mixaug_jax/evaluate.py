"""`python -m mixaug_jax.evaluate`: measures a run on any split and views."""

import json
import sys
from collections.abc import Sequence

from mixaug_jax.command import exits, flags, jax_setup

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
    "--data_dir",
    metavar="DIR",
    help="score other labelled images: DIR/<class>/*, or a folder with splits; "
    "default: the data of the run",
  )
  parser.add_argument(
    "--views",
    default="identity",
    help="identity, flip, five_crops, ten_crops, scales, shifts; commas "
    "between several",
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

  from mixaug_jax import runs
  from mixaug_jax.analysis import views

  run = runs.open_run(arguments.workdir)
  network = run.classifier()
  network.predictor(arguments.views)  # Refuses a view that is named twice.
  names = [name.strip() for name in arguments.views.split(",")]
  predictors = {name: network.predictor(name) for name in names}
  name, split, validation, notes = run.labelled(
    arguments.split, arguments.data_dir
  )
  for note in notes:
    print(f"mixaug_jax: {note}", file=sys.stderr)
  measured = views.evaluate(
    predictors,
    split,
    validation,
    batch_size=run.config.evaluate.batch_size,
    average=arguments.average,
    likelihood=run.likelihood,
  )
  report = {
    "split": name,
    "examples": len(split),
    "average": arguments.average,
    "loss": run.likelihood.loss_name,
    "probabilities": run.likelihood.kind,
    "views": measured,
  }
  print(json.dumps(report, indent=2) if arguments.json else views.table(report))


if __name__ == "__main__":
  exits.run(main)
