"""The commands, and how the user called one."""

import pathlib
import sys
from typing import NamedTuple


class Command(NamedTuple):
  """A command; its function is `main` of the module `command.NAME`.

  Attributes:
    help: what it does, in a line.
    output_is_optional: see `exits.run`.
  """

  help: str
  output_is_optional: bool = False


COMMANDS = {
  "train": Command("train an image classifier, or resume it", True),
  "compare": Command("train and compare several recipes", True),
  "evaluate": Command("measure a run on any split and views"),
  "predict": Command("classify image files"),
  "demo": Command("serve a page that classifies photos", True),
  "report": Command("write the page of one run", True),
  "preview": Command("draw what the network is trained on"),
  "lr_range": Command("draw the loss by learning rate and suggest one"),
  "fit": Command("report memory and cost of training on a GPU or TPU"),
  "export": Command("write the weights for other programs"),
  "data": Command("pack images into shards; list or remove caches of images"),
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
  return f"python -m mixaug_jax.{'main' if command == 'train' else command}"
