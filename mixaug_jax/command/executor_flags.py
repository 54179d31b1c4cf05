"""The flags of a comparison that choose where its runs are trained."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from mixaug_jax import registry
from mixaug_jax.errors import UserError

if TYPE_CHECKING:
  from mixaug_jax.comparison.executors import Executor

_FLAGS = ("jobs", "gpus", "time_limit", "partition", "sbatch", "ray_address")


def add(parser: argparse.ArgumentParser) -> None:
  """Adds `--executor` and the flags of all executors."""
  parser.add_argument(
    "--executor",
    default="local",
    metavar="NAME",
    help="where runs are trained: local, slurm or ray; default: local",
  )
  for flag, kind, text in (
    (
      "--jobs",
      _at_least(1),
      "runs at a time; default: one for each GPU, or one on a CPU; all with "
      "slurm, and as many as fit with ray",
    ),
    ("--gpus", _at_least(0), "GPUs of a run, with slurm and ray; default: 1"),
    ("--time_limit", _at_least(5), "minutes of a job of slurm; default: 240"),
  ):
    parser.add_argument(flag, type=kind, metavar="N", help=text)
  parser.add_argument(
    "--partition", metavar="NAME", help="the partition of slurm"
  )
  parser.add_argument(
    "--sbatch",
    action="append",
    metavar="KEY=VALUE",
    help="a further option of sbatch, such as cpus-per-task=8; may be repeated",
  )
  parser.add_argument(
    "--ray_address",
    metavar="HOST:PORT",
    help="the Ray cluster; default: that of this machine",
  )


def executor(arguments: argparse.Namespace) -> "Executor":
  """Returns the executor that the flags name.

  Raises:
    UserError: there is no such executor, or it does not have a flag.
  """
  from mixaug_jax.comparison.executors import EXECUTORS

  name = arguments.executor
  try:
    kind = registry.find("--executor", name, EXECUTORS)
  except ValueError as error:
    raise UserError(str(error)) from error
  fields = {field.name for field in dataclasses.fields(kind)}
  given = {
    x: vars(arguments)[x] for x in _FLAGS if vars(arguments)[x] is not None
  }
  if other := given.keys() - fields:
    raise UserError(
      f"--{min(other)} has no meaning with --executor={name}; leave it out"
    )
  return kind(**given)


def _at_least(least: int) -> Callable[[str], int]:
  def convert(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(f"it must be at least {least}")
    return int(text)

  return convert
