"""The command that writes the page of one finished run."""

from collections.abc import Sequence

from mixaug_jax import jax_setup
from mixaug_jax.command import flags


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "report", "Writes report.html into the directory of a finished run."
  )
  flags.add_workdir(parser, "the directory of a finished run")
  arguments = flags.parse(parser, argv)
  jax_setup.prepare()

  from mixaug_jax import runs
  from mixaug_jax.run_page import page

  print(page.write(runs.open_run(arguments.workdir)))
