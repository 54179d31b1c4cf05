"""The command that reports what a train step costs on an accelerator."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from mixaug_jax import jax_setup, progress
from mixaug_jax.command import flags
from mixaug_jax.costs import topologies
from mixaug_jax.errors import UserError


def _sizes(text: str) -> list[int]:
  try:
    sizes = [int(size) for size in text.split(",")]
  except ValueError:
    sizes = [0]
  if min(sizes) < 1:
    raise argparse.ArgumentTypeError(
      f"{text!r} is not a size, or several, such as 128,256"
    )
  return sizes


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "fit",
    "Compiles the train step of a recipe for an accelerator that need not be "
    "there: does it fit, what does it cost, what bounds it? It needs JAX's "
    "compiler, pip install 'jax[cuda12]' or 'jax[tpu]'. The figures are the "
    "compiler's. If this machine has such devices, they are measured as well.",
  )
  flags.add_config(
    parser,
    examples=[
      "cutmix:folder --topology=h100 --batch_size=128,256",
      "cutmix:stanford_dogs --topology=v5e:2x4 --batch_size=1024",
    ],
  )
  parser.add_argument(
    "--topology",
    type=topologies.parse,
    required=True,
    metavar="NAME",
    help=f"{topologies.NAMES}, and other slices of a TPU; required",
  )
  parser.add_argument(
    "--batch_size",
    type=_sizes,
    default=[],
    metavar="N,N,...",
    help="over all devices; default: config.batch_size",
  )
  parser.add_argument(
    "--classes",
    type=int,
    help="the number of classes, instead of reading it from the data",
  )
  parser.add_argument(
    "--largest",
    action="store_true",
    help="verify the largest batch that fits, by up to 3 more compilations",
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  arguments = flags.parse(parser, argv)
  if arguments.classes is not None and arguments.classes < 2:
    raise UserError("--classes must be at least 2")
  topology = topologies.prepare(arguments.topology)
  jax_setup.prepare(arguments.config.deterministic)

  import jax

  from mixaug_jax.costs import fitting, table

  # A program from the cache takes no time to compile, and some of them cannot
  # be loaded without the device.
  jax.config.update("jax_enable_compilation_cache", False)
  report = fitting.report(
    *(arguments.spec, arguments.overrides, arguments.batch_size, topology),
    classes=arguments.classes,
    verify=arguments.largest,
  )
  if arguments.json:
    print(json.dumps(dataclasses.asdict(report), indent=2))
    return
  print(progress.folded(table.heading(report, topology), sys.stdout))
  print("", *table.lines(report, topology), sep="\n")
