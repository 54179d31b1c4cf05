"""The command that trains one run, or resumes it."""

import pathlib
import sys
from collections.abc import Sequence

from mixaug_jax import config as config_lib
from mixaug_jax import jax_setup, progress, workdirs
from mixaug_jax.command import distributed, flags, summary


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "train", "Trains an image classifier; the same command resumes."
  )
  flags.add_config(
    parser,
    examples=[
      "cutmix:folder --config.data.dir=photos",
      "cutmix --config.epochs=100 --config.optimizer.learning_rate=0.05",
    ],
  )
  parser.add_argument(
    "--workdir",
    type=flags.path,
    help="the run directory; default: runs/RECIPE-DATASET, or the next of "
    "RECIPE-DATASET-2, -3, ... that holds no other run",
  )
  distributed.add_flags(parser)
  arguments = flags.parse(parser, argv)
  config = arguments.config
  jax_setup.prepare(config.deterministic)
  distributed.join(arguments)

  import jax

  from mixaug_jax.training import loop, records
  from mixaug_jax.training.result import Result

  first, finished = jax.process_index() == 0, False

  def announce(line: str) -> None:
    if first:
      print(progress.folded(line, sys.stdout), flush=True)

  def train(workdir: pathlib.Path) -> Result:
    nonlocal finished
    finished = (workdir / records.RESULT_FILE).exists()
    return loop.train(config, workdir)

  if (workdir := arguments.workdir) is not None:
    result = train(workdir)
  else:
    result, workdir = workdirs.train_in(
      *(config, arguments.spec, arguments.overrides, announce, train)
    )
  if not first:
    return
  lines = []
  if finished:
    chosen = arguments.workdir is None
    start = "its" if chosen else f"{workdir} is finished; its"
    lines.append(f"{start} result:")
    stored = config_lib.completed(records.read_config(workdir) or {})
    lines += [
      f"this command has another {text}, which plays no part in it"
      for text in config_lib.differences(config, stored, harmless=True)
    ]
  lines.append(summary.of_run(result, workdir))
  print(progress.folded("\n".join(lines), sys.stdout))
