"""`python -m mixaug_jax.main --config=configs/cutmix.py` trains one run."""

import pathlib
from collections.abc import Sequence

from mixaug_jax import config as config_lib
from mixaug_jax.command import distributed, exits, flags, jax_setup, summary


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
  jax_setup.prepare(config.deterministic, arguments)

  import jax

  from mixaug_jax import train
  from mixaug_jax.training import records

  workdir = arguments.workdir or default_workdir(arguments.spec)
  finished = (workdir / records.RESULT_FILE).exists()
  result = train.train(config, workdir)
  if jax.process_index() == 0:
    if finished:
      print(f"{workdir} is finished; its result:")
      stored = config_lib.completed(records.read_config(workdir))
      for text in config_lib.differences(config, stored, harmless=True):
        print(f"this command has another {text}, which plays no part in it")
    print(summary.of_run(result, workdir))


def default_workdir(spec: str) -> pathlib.Path:
  """Returns runs/cutmix-digits for `cutmix` and `configs/cutmix.py:digits`."""
  path, _, dataset = spec.partition(":")
  name = f"{pathlib.Path(path).stem}-{dataset or 'digits'}"
  return pathlib.Path("runs", name)


if __name__ == "__main__":
  exits.run(main, output_is_optional=True)
