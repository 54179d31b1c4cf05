"""`python -m mixaug_jax.compare`: every arm, every seed, one page."""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from mixaug_jax.command import exits, flags, jax_setup
from mixaug_jax.comparison import plan
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> int:
  parser = flags.parser(
    "compare",
    "Trains all arms of a comparison with all seeds and writes report.html; "
    "the same command resumes.",
  )
  flags.add_config(parser, plan.load)
  parser.add_argument("--workdir", type=flags.path, required=True)
  one = parser.add_mutually_exclusive_group()
  one.add_argument(
    "--only", metavar="ARM/SEED", help="train this run only; no report"
  )
  one.add_argument(
    "--report_only",
    action="store_true",
    help="write the report of the runs that are finished",
  )
  one.add_argument(
    "--dry_run",
    action="store_true",
    help="print the runs, their commands and an estimate of the time",
  )
  parser.add_argument(
    "--jobs",
    type=int,
    metavar="N",
    help="runs at the same time; default: one a GPU, or one on a CPU",
  )
  parser.add_argument(
    "--until_stdin_closes", action="store_true", help="stop with the parent"
  )
  arguments = flags.parse(parser, argv)
  the_plan = plan.make(
    *(arguments.config, arguments.workdir),
    *(arguments.spec, arguments.overrides),
  )
  if arguments.only:
    return _one(the_plan.cell(arguments.only), arguments)

  from mixaug_jax.comparison import launch

  if arguments.dry_run:
    launch.dry_run(the_plan, arguments.jobs)
    return 0
  failed = []
  if not arguments.report_only:
    failed = launch.run(the_plan, arguments.jobs)
  if not any(cell.finished for cell in the_plan.cells):
    raise UserError(
      f"no run in {arguments.workdir} is finished, so there is nothing to "
      "compare" + (f"; {launch.log(failed[0])} says why" if failed else "")
    )
  jax_setup.prepare()

  from mixaug_jax.comparison import page

  print(page.write(the_plan))
  return 1 if failed else 0


def _one(cell: plan.Cell, arguments) -> int:
  """Trains a cell in this process."""
  if arguments.until_stdin_closes:
    threading.Thread(target=_follow_parent, daemon=True).start()
  jax_setup.prepare(cell.config.deterministic)

  from mixaug_jax import main as main_lib
  from mixaug_jax import train

  result = train.train(cell.config, cell.workdir)
  print(main_lib.summary(result, cell.workdir))
  return 0


def _follow_parent() -> None:
  """SIGTERM, so that the run is saved, once the parent is no more."""
  # Not sys.stdin.read, whose lock would be held when this process ends.
  while os.read(sys.stdin.fileno(), 1):
    pass
  os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
  exits.run(main)
