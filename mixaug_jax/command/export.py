"""The command that writes a run's network for other programs."""

import contextlib
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
    "Writes the chosen weights of a finished run for another framework, or the "
    "whole network for any program with JAX.",
  )
  flags.add_workdir(parser, "the directory of a finished run")
  parser.add_argument(
    "--format",
    required=True,
    help="torchvision, keras, safetensors or stablehlo; required",
  )
  parser.add_argument(
    "--output",
    type=flags.path,
    help="the new file; default: weights.SUFFIX or model.stablehlo in the run "
    "directory",
  )
  arguments = flags.parse(parser, argv)
  jax_setup.prepare()

  from mixaug_jax import runs
  from mixaug_jax.models import cpu
  from mixaug_jax.weights import export as weight_export
  from mixaug_jax.weights import stablehlo

  names = {
    kind: f"weights{x.suffix}" for kind, x in weight_export.FORMATS.items()
  }
  names["stablehlo"] = f"model{stablehlo.SUFFIX}"
  kind = arguments.format
  if kind not in names:
    raise UserError(f"--format must be one of {', '.join(names)}, got {kind}")
  output = arguments.output or arguments.workdir / names[kind]
  suffix = os.path.splitext(names[kind])[1]
  if output.suffix != suffix or output.name.endswith(".weights.h5"):
    raise UserError(f"--output={output} must end in {suffix}, as in x{suffix}")
  if os.path.lexists(output):
    raise UserError(
      f"--output={output} exists; remove it, or name another --output"
    )
  run = runs.open_run(arguments.workdir)
  whole = kind == "stablehlo"
  # Of the dtypes that `auto` stands for, every platform has the CPU's.
  with cpu.target("cpu") if whole else contextlib.nullcontext():
    network = run.classifier()
  try:
    if whole:
      loads = stablehlo.write(
        output, network.probabilities, network.square.size
      )
    else:
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
  made_of = network.describe_stored() if whole else network.describe_input()
  print(progress.folded(made_of, sys.stdout))
