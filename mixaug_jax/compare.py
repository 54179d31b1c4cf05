"""`python -m mixaug_jax.compare`: trains every arm and reports on one page."""

import argparse
import shlex
from collections.abc import Sequence

from mixaug_jax.command import exits, flags, jax_setup
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> int:
  # It imports JAX, which takes a second in which Ctrl-C may come.
  from mixaug_jax.comparison import plan

  arguments = _parse(argv)
  comparison = plan.make(arguments.config, arguments.workdir)
  if arguments.only:
    with flags.naming("--only"):
      cell = comparison.cell(arguments.only)
    if arguments.until_stdin_closes:
      exits.follow_stdin()
    jax_setup.prepare(cell.config.deterministic)

    from mixaug_jax.command import summary
    from mixaug_jax.comparison import same_data

    result = same_data.train(cell, comparison.cells)
    print(summary.of_run(result, cell.workdir))
    return 0

  from mixaug_jax.comparison import estimate, launch

  command = ["-m", "mixaug_jax.compare", *flags.words(arguments)]
  one = lambda cell: [*command, f"--only={cell.name}"]
  if arguments.dry_run:
    # The last of two equal flags counts.
    trial = lambda cell, workdir, steps: [
      *(*one(cell), f"--workdir={workdir}"),
      *("--config.base.epochs=none", f"--config.base.steps={steps}"),
    ]
    estimate.dry_run(comparison, one, trial, arguments.jobs)
    return 0
  failed = []
  if not arguments.report_only:
    child = lambda cell: [*one(cell), "--until_stdin_closes"]
    failed = launch.run(comparison, child, arguments.jobs)
  if len(comparison.unfinished) == len(comparison.cells):
    raise UserError(
      f"no run in {arguments.workdir} is finished, so there is nothing to "
      "compare" + (f"; see {failed[0].log}" if failed else "")
    )
  jax_setup.prepare()

  from mixaug_jax.comparison import page

  print(page.write(comparison, shlex.join(["python", *command])))
  # A run that diverged is an outcome, and the page counts it.
  return 1 if any(cell.diverged is None for cell in failed) else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  from mixaug_jax.comparison import plan

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
    help="runs at the same time; default: one for each GPU, or one on a CPU",
  )
  parser.add_argument(
    "--until_stdin_closes", action="store_true", help="end with the parent"
  )
  return flags.parse(parser, argv)


if __name__ == "__main__":
  exits.run(main, output_is_optional=True)
