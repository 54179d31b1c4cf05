"""Command-line flags: the parser, paths, the recipe and its overrides."""

import argparse
import contextlib
import errno
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import names, recipes
from mixaug_jax.command import invocation
from mixaug_jax.errors import UserError

_PREFIX = "--config."


class _Parser(argparse.ArgumentParser):
  """An argument parser that raises UserError."""

  def error(self, message: str):
    raise UserError(f"{message}; see {self.prog} --help")


def parser(command: str, description: str) -> argparse.ArgumentParser:
  """Returns a parser for a command, a key of `invocation.COMMANDS`."""
  return _Parser(
    prog=invocation.called(command),
    description=description,
    allow_abbrev=False,
  )


def path(text: str) -> pathlib.Path:
  """Converts the text of a flag that names a file or folder, as `names.local`.

  Raises:
    argparse.ArgumentTypeError: it is empty, an address or too long.
  """
  try:
    os.lstat(names.local(text))
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from None
  except OSError as error:
    if error.errno == errno.ENAMETOOLONG:
      raise argparse.ArgumentTypeError("its name is too long") from None
  return names.local(text)


def add_config(
  flags: argparse.ArgumentParser,
  load: Callable[[str, dict[str, str]], ConfigDict] = config_lib.load,
) -> None:
  """Adds the recipe, which `parse` gives to `load` with its overrides."""
  flags.set_defaults(load_config=load)
  flags.add_argument(
    "recipe",
    nargs="?",
    metavar="RECIPE[:DATASET]",
    help=f"{', '.join(recipes.NAMES)} or a file of yours, and the data set, "
    "e.g. cutmix:folder; --config.KEY=VALUE sets any of its keys",
  )
  flags.add_argument(
    "--config", metavar="RECIPE[:DATASET]", help="the recipe, as a flag"
  )


def parse(
  flags: argparse.ArgumentParser, argv: Sequence[str]
) -> argparse.Namespace:
  """Parses `argv`.

  Returns:
    The arguments. `config` is the ConfigDict with its overrides, `spec` the
    text of the recipe, and `overrides` the texts of the overrides by key.

  Raises:
    UserError: a wrong flag or value.
  """
  rest, overrides = split_overrides(argv)
  load_config = flags.get_default("load_config")
  if load_config is None:
    if overrides:
      raise UserError(f"{flags.prog} takes no --config.KEY overrides")
    return flags.parse_args(rest)
  # The recipe may stand between the flags.
  arguments = flags.parse_intermixed_args(rest)
  given = [x for x in (arguments.recipe, arguments.config) if x is not None]
  if len(given) != 1:
    flags.error("name one recipe, such as cutmix:folder")
  (arguments.spec,), arguments.overrides = given, overrides
  arguments.config = load_config(arguments.spec, overrides)
  return arguments


def split_overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
  """Takes `--config.KEY=VALUE` and `--config.KEY VALUE` out of `argv`."""
  rest, overrides = [], {}
  words = iter(argv)
  for word in words:
    if not word.startswith(_PREFIX):
      rest.append(word)
      continue
    key, equals, value = word[len(_PREFIX) :].partition("=")
    if not equals:
      following = next(words, None)
      if following is None:
        raise UserError(f"{word} needs a value: {word}=VALUE")
      value = following
    overrides[key] = value
  return rest, overrides


def words(arguments: argparse.Namespace) -> list[str]:
  """Returns the words that `parse` reads as the same config and workdir."""
  changed = (f"{_PREFIX}{k}={text}" for k, text in arguments.overrides.items())
  return [
    *(f"--config={arguments.spec}", *changed),
    f"--workdir={arguments.workdir}",
  ]


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
  """Puts a flag before the sentence of a UserError."""
  try:
    yield
  except UserError as error:
    raise UserError(f"{flag}: {error}") from error
