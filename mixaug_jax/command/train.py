"""The command that trains one run, or resumes it."""

from collections.abc import Sequence

from mixaug_jax import config as config_lib
from mixaug_jax import jax_setup, workdirs
from mixaug_jax.command import distributed, flags, summary


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "train", "Trains an image classifier; the same command resumes."
  )
  flags.add_config(parser)
  parser.add_argument(
    "--workdir",
    type=flags.path,
    help="the run directory; default: runs/CONFIG-DATASET",
  )
  distributed.add_flags(parser)
  arguments = flags.parse(parser, argv)
  config = arguments.config
  jax_setup.prepare(config.deterministic)
  distributed.join(arguments)

  import jax

  from mixaug_jax.training import loop, records

  workdir = arguments.workdir or workdirs.default(arguments.spec)
  finished = (workdir / records.RESULT_FILE).exists()
  result = loop.train(config, workdir)
  if jax.process_index() == 0:
    if finished:
      print(f"{workdir} is finished; its result:")
      stored = config_lib.completed(records.read_config(workdir) or {})
      for text in config_lib.differences(config, stored, harmless=True):
        print(f"this command has another {text}, which plays no part in it")
    print(summary.of_run(result, workdir))
