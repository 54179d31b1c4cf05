"""`python -m mixaug_jax.compare`: every arm, every seed, one page."""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from mixaug_jax import commandline, plan
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> int:
  flags = commandline.parser(
    "compare",
    "Trains all arms of a comparison with all seeds and writes report.html; "
    "the same command resumes.",
  )
  commandline.add_config(flags, plan.load)
  flags.add_argument("--workdir", type=commandline.path, required=True)
  one = flags.add_mutually_exclusive_group()
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
  flags.add_argument(
    "--jobs",
    type=int,
    metavar="N",
    help="runs at the same time; default: one a GPU, or one on a CPU",
  )
  flags.add_argument(
    "--until_stdin_closes", action="store_true", help="stop with the parent"
  )
  arguments = commandline.parse(flags, argv)
  the_plan = plan.make(
    *(arguments.config, arguments.workdir),
    *(arguments.spec, arguments.overrides),
  )
  if arguments.only:
    return _one(the_plan.cell(arguments.only), arguments)

  from mixaug_jax import cells

  if arguments.dry_run:
    cells.dry_run(the_plan, arguments.jobs)
    return 0
  failed = []
  if not arguments.report_only:
    failed = cells.run(the_plan, arguments.jobs)
  if not any(cell.finished for cell in the_plan.cells):
    raise UserError(
      f"no run in {arguments.workdir} is finished, so there is nothing to "
      "compare" + (f"; {cells.log(failed[0])} says why" if failed else "")
    )
  commandline.prepare_jax()

  from mixaug_jax import comparison

  print(comparison.write(the_plan))
  return 1 if failed else 0


def _one(cell: plan.Cell, arguments) -> int:
  """Trains a cell in this process."""
  if arguments.until_stdin_closes:
    threading.Thread(target=_follow_parent, daemon=True).start()
  commandline.prepare_jax(cell.config.deterministic)

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
  commandline.run(main)
