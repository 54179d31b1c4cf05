"""The command that writes a run's weights for another framework."""

import os
import sys
import textwrap
from collections.abc import Sequence

from mixaug_jax import jax_setup, progress
from mixaug_jax.command import flags
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "export",
    "Writes the chosen weights of a finished run for another framework.",
  )
  flags.add_workdir(parser, "the directory of a finished run")
  parser.add_argument(
    "--format",
    required=True,
    help="torchvision, keras or safetensors; required",
  )
  parser.add_argument(
    "--output",
    type=flags.path,
    help="the new file; default: weights.SUFFIX in the run directory",
  )
  arguments = flags.parse(parser, argv)
  jax_setup.prepare()

  from mixaug_jax import runs
  from mixaug_jax.weights import export as weight_export

  kind = arguments.format
  if kind not in weight_export.FORMATS:
    raise UserError(
      f"--format must be one of {', '.join(weight_export.FORMATS)}, got {kind}"
    )
  suffix = weight_export.FORMATS[kind].suffix
  output = arguments.output or arguments.workdir / f"weights{suffix}"
  if output.suffix != suffix or output.name.endswith(".weights.h5"):
    raise UserError(f"--output={output} must end in {suffix}, as in x{suffix}")
  if os.path.lexists(output):
    raise UserError(
      f"--output={output} exists; remove it, or name another --output"
    )
  run = runs.open_run(arguments.workdir)
  network = run.classifier()
  try:
    loads = weight_export.export(
      output, kind, run.config.model.name, network.model, network.variables
    )
  except UserError as error:
    raise UserError(f"--format={kind}: {error}") from error
  except OSError as error:
    raise UserError(
      f"cannot write {output}: {error.strerror or error}; name another --output"
    ) from None
  print(f"wrote {output}; load it by\n{textwrap.indent(loads, '  ')}")
  print(progress.folded(network.describe_input(), sys.stdout))
