"""The command that measures a run on any split and views."""

import json
import sys
from collections.abc import Sequence

from mixaug_jax import progress
from mixaug_jax.api import AVERAGES, SPLITS
from mixaug_jax.command import flags


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "evaluate",
    "Evaluates the chosen weights of a finished run, on one or several views "
    "of each image.",
  )
  flags.add_workdir(parser, "the directory of a finished run")
  parser.add_argument(
    "--split", default="test", choices=SPLITS, help="default: test"
  )
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
    choices=AVERAGES,
    help="what is averaged over the views",
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  arguments = flags.parse(parser, argv)

  from mixaug_jax.analysis import set_views, views
  from mixaug_jax.api import open_run

  report = open_run(arguments.workdir).measure(
    *(arguments.split, arguments.views),
    *(arguments.average, arguments.data_dir),
  )
  for note in report.pop("notes"):
    print(f"mixaug_jax: {note}", file=sys.stderr)
  if arguments.json:
    print(json.dumps(report, indent=2))
    return
  sets = "mean_average_precision" in next(iter(report["views"].values()))
  table = set_views.table if sets else views.table
  header, _, rows = table(report).partition("\n")
  print(f"{progress.folded(header, sys.stdout)}\n{rows}")
