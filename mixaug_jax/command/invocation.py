"""The commands, and how the user called one."""

import pathlib
import sys
from typing import NamedTuple


class Command(NamedTuple):
  """A command of the package.

  Attributes:
    module: the module whose function `main` takes the words after the name.
    help: what it does, in a line.
    output_is_optional: see `exits.run`.
  """

  module: str
  help: str
  output_is_optional: bool = False


COMMANDS = {
  "train": Command("main", "train an image classifier, or resume it", True),
  "compare": Command("compare", "train and compare several recipes", True),
  "evaluate": Command("evaluate", "measure a run on any split and views"),
  "predict": Command("predict", "classify image files"),
  "report": Command("report", "write the page of one run", True),
  "preview": Command("preview", "draw what the network is trained on"),
  "export": Command("export", "write the weights for another framework"),
  "data": Command("data.__main__", "list or remove caches of images"),
}


def program() -> str | None:
  """Returns the words before the name of the command, as the user called it.

  Returns:
    None for `python -m mixaug_jax.MODULE`.
  """
  path = pathlib.PurePath(sys.argv[0])
  if path.parts[-2:] == ("mixaug_jax", "__main__.py"):
    return "python -m mixaug_jax"
  return "mixaug" if path.stem == "mixaug" else None


def called(command: str) -> str:
  """Returns the words that start a command, as the user called it.

  Args:
    command: a key of `COMMANDS`.
  """
  if words := program():
    return f"{words} {command}"
  module = COMMANDS[command].module.removesuffix(".__main__")
  return f"python -m mixaug_jax.{module}"
