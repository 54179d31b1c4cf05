"""The start of a command: its module is imported, then its words are read."""

import importlib
from collections.abc import Sequence

from mixaug_jax.command import exits
from mixaug_jax.command.invocation import COMMANDS
from mixaug_jax.errors import UserError


def run(name: str) -> None:
  """Runs a command, a key of `COMMANDS`, and exits with its code."""
  exits.run(lambda argv: call(name, argv), COMMANDS[name].output_is_optional)


def call(name: str, argv: Sequence[str]) -> int | None:
  """Calls a command, a key of `COMMANDS`, with the words after its name.

  Raises:
    UserError: a package is not installed, or as the command raises it.
  """
  try:
    module = importlib.import_module(f"mixaug_jax.command.{name}")
  except ModuleNotFoundError as error:
    raise UserError(
      f"the package {error.name} is not installed; install mixaug_jax without "
      "--no-deps, which brings what the commands need"
    ) from error
  return module.main(argv)
