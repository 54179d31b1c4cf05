"""The command that writes a run's network for other programs."""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mixaug_jax import jax_setup, progress
from mixaug_jax.command import flags
from mixaug_jax.errors import UserError

if TYPE_CHECKING:
  from mixaug_jax.runs import Run


def main(argv: Sequence[str]) -> None:
  arguments = _parse(argv)
  jax_setup.prepare()

  from mixaug_jax import runs
  from mixaug_jax.command import push
  from mixaug_jax.weights import export, stablehlo

  names = {kind: f"weights{x.suffix}" for kind, x in export.FORMATS.items()}
  names["stablehlo"] = f"model{stablehlo.SUFFIX}"
  kind, output = arguments.format, arguments.output
  if kind not in names:
    raise UserError(f"--format must be one of {', '.join(names)}, got {kind}")
  suffix = pathlib.PurePath(names[kind]).suffix
  if output is None and not arguments.push:
    output = arguments.workdir / names[kind]
  if output and (output.suffix != suffix or output.match("*.weights.h5")):
    raise UserError(f"--output={output} must end in {suffix}, as in x{suffix}")
  if output and os.path.lexists(output):
    raise UserError(
      f"--output={output} exists; remove it, or name another --output"
    )
  if arguments.push:
    push.check(arguments.push, kind)
  run = runs.open_run(arguments.workdir)
  push.check_run(run, arguments.push)
  with tempfile.TemporaryDirectory() as folder:
    path = output or pathlib.Path(folder) / names[kind]
    _write(run, kind, path, arguments.push)


def _write(
  run: "Run", kind: str, output: pathlib.Path, name: str | None
) -> None:
  """Writes a file, uploads it if a repository is named, and prints its use."""
  from mixaug_jax.command import push
  from mixaug_jax.models import cpu
  from mixaug_jax.weights import export, stablehlo

  whole = kind == "stablehlo"
  # Of the dtypes that `auto` stands for, every platform has the CPU's.
  with cpu.target("cpu") if whole else contextlib.nullcontext():
    network = run.classifier()
  made_of = network.describe_stored() if whole else network.describe_input()
  try:
    if whole:
      loads = stablehlo.write(
        output, network.probabilities, network.square.size
      )
    else:
      loads = export.export(
        output, kind, run.config.model.name, network.model, network.variables
      )
  except UserError as error:
    raise UserError(f"--format={kind}: {error}") from error
  except OSError as error:
    raise UserError(
      f"cannot write {output}: {error.strerror or error}; name another --output"
    ) from None
  wrote = f"wrote {output}"
  if name:
    wrote = f"pushed {push.push(run, network, name, output)}"
    loads = push.LOADS.format(name=name)
  print(f"{wrote}; load it by\n{textwrap.indent(loads, '  ')}")
  print(progress.folded(made_of, sys.stdout))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = flags.parser(
    "export", "Writes the chosen weights of a finished run for other programs."
  )
  flags.add_workdir(parser, "the directory of a finished run")
  help_text = "torchvision, keras, safetensors or stablehlo"
  parser.add_argument("--format", required=True, help=help_text)
  help_text = "the new file; default: one in the run directory"
  parser.add_argument("--output", type=flags.path, help=help_text)
  help_text = "upload safetensors to this repository of the Hugging Face hub"
  parser.add_argument("--push", metavar="USER/NAME", help=help_text)
  return flags.parse(parser, argv)
