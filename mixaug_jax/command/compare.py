"""The command that trains every arm and reports on one page."""

import argparse
import functools
import shlex
from collections.abc import Sequence

from mixaug_jax import jax_setup
from mixaug_jax.command import executor_flags, exits, flags


def main(argv: Sequence[str]) -> int:
  # It imports JAX, which takes a second in which Ctrl-C may come.
  from mixaug_jax.comparison import estimate, launch, plan, tuning

  arguments = _parse(argv)
  make = functools.partial(
    plan.make,
    *(arguments.config, arguments.workdir, arguments.arms),
    check=not arguments.only,
  )
  choose = functools.partial(tuning.choose, config=arguments.config)
  executor = executor_flags.executor(arguments)
  comparison = make()
  if arguments.only or arguments.report_only:
    comparison = launch.settled(comparison, make, choose)
  if arguments.only:
    with flags.naming("--only"):
      cell = comparison.cell(arguments.only)
    if arguments.until_stdin_closes:
      exits.follow_stdin()
    jax_setup.prepare(cell.config.deterministic)

    from mixaug_jax.command import summary
    from mixaug_jax.comparison import same_data

    print(summary.of_run(same_data.train(cell, comparison), cell.workdir))
    return 0
  command = ["-m", "mixaug_jax.compare", *flags.words(arguments)]
  command += [f"--arms={','.join(x)}" for x in [arguments.arms] if x]
  if arguments.dry_run:
    estimate.dry_run(comparison, command, executor)
    return 0
  failed: list[plan.Cell] = []
  if not arguments.report_only:
    comparison, failed = launch.run_all(
      comparison, make, choose, command, executor
    )
    if any(cell.trial for cell in failed):
      return 1
  launch.check_finished(comparison, failed)
  jax_setup.prepare()

  from mixaug_jax.comparison import page

  print(page.write(comparison, shlex.join(["python", *command])))
  # A run that diverged is an outcome, and the page counts it.
  return 1 if any(cell.diverged is None for cell in failed) else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  from mixaug_jax.comparison import arms

  parser = flags.parser(
    "compare",
    "Trains all arms of a comparison with all seeds and writes report.html; "
    "the same command resumes.",
  )
  example = "compare:folder --config.base.data.dir=photos --workdir=runs/b"
  flags.add_config(parser, arms.load, "compare", [example])
  flags.add_workdir(parser, "the directory of the comparison and its runs")
  parser.add_argument(
    "--arms",
    type=lambda text: [name.strip() for name in text.split(",")],
    metavar="ARM,ARM",
    help="compare only these arms with the baseline",
  )
  one = parser.add_mutually_exclusive_group()
  one.add_argument(
    "--only", metavar="ARM/SEED", help="train this run or trial; no report"
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
  executor_flags.add(parser)
  parser.add_argument(
    "--until_stdin_closes", action="store_true", help="end with the parent"
  )
  return flags.parse(parser, argv)
