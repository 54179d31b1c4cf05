"""Command-line flags: the parser, paths, the recipe and its overrides."""

import argparse
import contextlib
import errno
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import hints, names, recipes
from mixaug_jax.command import config_help, invocation
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
    conflict_handler="resolve",  # `add_config` has a --help of its own.
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


def add_workdir(flags: argparse.ArgumentParser, text: str) -> None:
  """Adds `--workdir`, which must be given; `text` explains it."""
  flags.add_argument(
    "--workdir",
    type=path,
    required=True,
    metavar="DIR",
    help=f"{text}; required",
  )


def add_config(
  flags: argparse.ArgumentParser,
  load: Callable[[str, dict[str, str]], ConfigDict] = config_lib.load,
  keys_of: str = "default",
  examples: Sequence[str] = (),
) -> None:
  """Adds the recipe, which `parse` gives to `load` with its overrides.

  Args:
    flags: the parser.
    load: returns the config of a recipe and the texts of its overrides by key.
    keys_of: the recipe whose keys are those of the command.
    examples: words after the command, for `--help`.
  """
  flags.set_defaults(load_config=load, keys_of=keys_of)
  for words, full, text in (
    (("-h", "--help"), False, "list the flags and the config keys used most"),
    (("--helpfull",), True, "list all config keys"),
  ):
    flags.add_argument(
      *words,
      action=config_help.Help,
      full=full,
      examples=examples,
      help=text,
    )
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
  # Before argparse, which first reports the flags that are missing.
  _check_flags(flags, rest)
  load_config = flags.get_default("load_config")
  if load_config is None:
    if overrides:
      raise UserError(f"{flags.prog} takes no --config.KEY overrides")
    return flags.parse_args(rest)
  # The recipe may stand between the flags.
  arguments, extra = flags.parse_known_intermixed_args(rest)
  given = [x for x in (arguments.recipe, arguments.config) if x is not None]
  for text in (*extra, *given):
    if "=" in text and not os.path.exists(text.partition(":")[0]):
      raise UserError(_unknown(flags, text))
  if extra:
    if len(extra) == 1 and os.path.isdir(extra[0]):
      key = hints.key("data.dir", _keys(flags))
      raise UserError(
        f"unrecognized argument {extra[0]}; did you mean "
        f"{_PREFIX}{key}={extra[0]}?"
      )
    flags.error(f"unrecognized arguments: {' '.join(extra)}")
  if len(given) != 1:
    flags.error("name one recipe, such as cutmix:folder")
  (arguments.spec,), arguments.overrides = given, overrides
  _check_keys(arguments.spec, overrides)
  arguments.config = load_config(arguments.spec, overrides)
  return arguments


def _check_keys(spec: str, overrides: Mapping[str, str]) -> None:
  """Raises UserError, with a flag to paste, at the first unknown key."""
  if not overrides:
    return
  known = config_lib.leaves(config_lib.read(spec))
  for key, value in overrides.items():
    # The keys of arms and ranges are those of base, see `comparison.arms`.
    if key not in known and not key.startswith(("arms.", "tune.space.")):
      raise UserError(config_lib.unknown_key(key, known, _PREFIX, value))


def _check_flags(flags: argparse.ArgumentParser, words: Sequence[str]) -> None:
  """Raises UserError at the first flag that the parser does not have."""
  for word, following in itertools.zip_longest(words, words[1:], fillvalue="-"):
    if word == "--":
      return
    if word.startswith("--") and word.partition("=")[0] not in _own(flags):
      raise UserError(_unknown(flags, word, following))


def _own(flags: argparse.ArgumentParser) -> list[str]:
  """Returns the flags of a parser."""
  return [x for action in flags._actions for x in action.option_strings]


def _keys(flags: argparse.ArgumentParser) -> list[str]:
  """Returns the config keys of a parser, which may have none."""
  recipe = flags.get_default("keys_of")
  return list(config_lib.leaves(config_lib.read(recipe))) if recipe else []


def _unknown(
  flags: argparse.ArgumentParser, word: str, following: str = "-"
) -> str:
  """Returns the sentence about an unknown flag, perhaps without its dashes.

  Args:
    flags: the parser.
    word: the flag, perhaps with its value.
    following: the next word, which is its value unless it is a flag.
  """
  flag, equals, value = word.partition("=")
  name = flag.lstrip("-").removeprefix("config.")
  near = hints.near(name, _own(flags), 0.75)
  if near is None and (key := hints.key(name, _keys(flags))):
    near = f"{_PREFIX}{key}"
    if not equals and not following.startswith("-"):
      equals, value = "=", following
    value = config_lib.nearest_value(key.removeprefix("base."), value)
  near = near or hints.near(name, _own(flags))
  hint = f"did you mean {near}{equals}{value}?" if near else ""
  return f"there is no flag {flag}; {hint or f'see {flags.prog} --help'}"


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
