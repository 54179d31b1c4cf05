"""The command that classifies image files."""

import argparse
import json
import sys
from collections.abc import Sequence

from mixaug_jax.command import flags
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
  arguments = _parse(argv)

  from mixaug_jax import api
  from mixaug_jax.analysis import predictions, set_predictions

  run = api.open_run(arguments.workdir)
  rows, errors, count = run.classify(
    arguments.images,
    views=arguments.views,
    output=arguments.output,
    stage=arguments.stage,
  )
  if errors and count == 1:
    raise errors[0]
  for error in errors:
    print(f"mixaug_jax: {error}", file=sys.stderr)
  note = run.likelihood.note
  if run.result.thresholds:
    table = set_predictions.table(rows, note, run.result.thresholds)
  else:
    table = predictions.table(rows, note)
  print(json.dumps(rows, indent=2) if arguments.json else table)
  if errors:
    raise UserError(
      f"{len(errors)} of {count} images could not be read or predicted; the "
      "others are predicted"
      if rows
      else "none of the images could be read or predicted; name JPEG or PNG "
      "files"
    )


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = flags.parser(
    "predict", "Classifies images by the chosen weights of a finished run."
  )
  flags.add_workdir(parser, "the directory of a finished run")
  help_text = (
    "a folder for class activation overlays, one PNG for each image; with "
    "several labels an image, predictions.csv as well"
  )
  parser.add_argument("--output", type=flags.path, help=help_text)
  parser.add_argument(
    "--stage",
    help="Grad-CAM of this stage, e.g. stage2; default: CAM of the last one",
  )
  parser.add_argument(
    "--views",
    default="identity",
    help="views whose logits are averaged: identity, flip, five_crops, "
    "ten_crops, scales, shifts; commas between several",
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  parser.add_argument(
    "images", nargs="+", type=flags.path, help="image files, or folders"
  )
  return flags.parse(parser, argv)
