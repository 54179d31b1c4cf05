"""The command that draws the loss by learning rate and suggests one."""

import math
import pathlib
import sys
from collections.abc import Sequence

from mixaug_jax import config as config_lib
from mixaug_jax import jax_setup, progress
from mixaug_jax.command import flags
from mixaug_jax.errors import UserError, reason

_LEAST_STEPS, _MOST_STEPS = 10, 10_000


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "lr_range",
    "Trains for a few steps while the learning rate rises (Smith, 2015, "
    "arXiv:1506.01186), draws the loss and suggests a rate. It keeps no "
    "weights and touches no run directory.",
  )
  flags.add_config(
    parser, examples=["cutmix", "cutmix:folder --config.data.dir=photos"]
  )
  for name, kind, default, text in (
    ("min", float, 1e-5, "the learning rate of the first step"),
    ("max", float, 1.0, "that of the last step"),
    ("steps", int, 100, "their number"),
  ):
    parser.add_argument(
      f"--{name}",
      type=kind,
      default=default,
      help=f"{text}; default: {default}",
    )
  parser.add_argument(
    "--output",
    type=flags.path,
    default=pathlib.Path("lr_range.png"),
    help="the picture; the numbers go to a .csv file beside it; default: "
    "lr_range.png",
  )
  arguments = flags.parse(parser, argv)
  low, high, output = arguments.min, arguments.max, arguments.output
  if not 0 < low < high < math.inf:
    raise UserError(
      f"--min must be above 0 and below --max, got {low:g} and {high:g}"
    )
  if not _LEAST_STEPS <= arguments.steps <= _MOST_STEPS:
    raise UserError(
      f"--steps must be at least {_LEAST_STEPS} and at most {_MOST_STEPS:,}, "
      f"got {arguments.steps}"
    )
  if output.suffix.lower() != ".png":
    raise UserError("--output must end in .png")
  if not output.parent.is_dir():
    raise UserError(f"--output={output}: there is no folder {output.parent}")
  config = arguments.config
  jax_setup.prepare(config.deterministic)

  from mixaug_jax.analysis import marked_png
  from mixaug_jax.pages import lr_range as drawn
  from mixaug_jax.training import lr_curve, lr_range

  marked_png.refuse_another(output, "lr_range")
  table = output.with_suffix(".csv")
  drawn.refuse_another_csv(table)
  for text in config_lib.without_effect(config):
    print(f"warning: {text}")
  curve = lr_range.run(config, low, high, arguments.steps)
  found = lr_curve.suggest(curve)
  try:
    picture = drawn.picture(drawn.figure(curve, found))
    marked_png.save(picture, output, "lr_range")
    drawn.write_csv(table, curve)
  except OSError as error:
    raise UserError(
      f"cannot write --output={output}: {reason(error)}; name a file such as "
      "lr_range.png in a folder that exists"
    ) from None
  lines = [*lr_curve.describe(curve, found), f"{output} and {table} show it"]
  print(progress.folded("\n".join(lines), sys.stdout))
