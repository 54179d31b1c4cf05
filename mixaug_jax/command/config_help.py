"""The config keys in `--help`: defaults, and comments of the recipe's file."""

import argparse
import ast
import io
import pathlib
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any

from mixaug_jax import config as config_lib
from mixaug_jax import recipes

# The keys of `--help`; `--helpfull` lists all of them.
_MOST_USED = (
  *("data.dir", "data.name", "data.image_size", "data.validation_fraction"),
  *("epochs", "steps", "batch_size", "seed"),
  *("model.name", "model.pretrained"),
  *("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay"),
  *("mix.name", "mix.alpha", "mix.probability"),
  "augment.random_resized_crop.min_area",
  "augment.random_flip_left_right.probability",
  "augment.trivial_augment.enabled",
  *("loss.label_smoothing", "ema.decay", "evaluate.every_epochs"),
  "early_stopping.patience",
)
_SPACE = "tune.space."
_KEY_COLUMNS = 34  # At most, left of the explanations.


class Help(argparse.Action):
  """Prints the flags and the config keys of a command, and ends it."""

  def __init__(
    self, *args: Any, full: bool, examples: Sequence[str], **kwargs: Any
  ):
    super().__init__(*args, **{**kwargs, "nargs": 0})
    self._full = full
    self._examples = examples

  def __call__(
    self,
    parser: argparse.ArgumentParser,
    namespace: argparse.Namespace,
    values: Any,
    option_string: str | None = None,
  ) -> None:
    parser.print_help()
    print()
    print(describe(parser.get_default("keys_of"), self._full))
    print("examples:")
    for example in self._examples:
      print(f"  {parser.prog} {example}")
    parser.exit()


def describe(recipe: str, full: bool = False) -> str:
  """Returns the config keys with their defaults and explanations.

  Args:
    recipe: `default` or `compare`.
    full: whether to list all keys by group, or those that are used most.
  """
  values = config_lib.leaves(config_lib.read(recipe))
  comments = explanations(recipe)
  keys, prefix = list(_MOST_USED), ""
  if recipe == "compare":
    prefix = "base."
    of_base = explanations("default")
    comments |= {f"{prefix}{key}": text for key, text in of_base.items()}
    own = [x for x in values if not x.startswith((prefix, "arms.", _SPACE))]
    keys = [*own, *(f"{prefix}{key}" for key in _MOST_USED)]
  if full:
    keys = sorted((x for x in values if not x.startswith("arms.")), key=_place)
  formatter = argparse.HelpFormatter("", max_help_position=_KEY_COLUMNS)
  which = "all config keys" if full else "the config keys used most"
  formatter.add_text(
    f"{which}, set by --config.KEY=VALUE, with the defaults of the data set "
    "digits:"
  )
  section = None
  for key in keys:
    if full and (group := key.rpartition(".")[0]) != section:
      if section is not None:
        formatter.end_section()
      top, last = group.partition(".")[0], (section or "").partition(".")[0]
      section = group
      formatter.start_section(group or "run")
      if group != top != last:
        formatter.add_text(comments.get(top))
      formatter.add_text(comments.get(group))
    words = comments.get(key, "").replace("%", "%%")
    shown = [f"{key}={_text(values[key])}"]
    formatter.add_argument(argparse.Action(shown, "", 0, help=words or None))
  if section is not None:
    formatter.end_section()
  return formatter.format_help()


def _place(key: str) -> tuple[bool, str]:
  """Sorts keys outside of groups first."""
  return "." in key, key.rpartition(".")[0]


def explanations(recipe: str) -> dict[str, str]:
  """Returns the comments of a recipe's file, by key and group.

  A comment stands behind the line that sets a key, or above it.
  """
  source = pathlib.Path(recipes.find(recipe)).read_text("utf-8")
  comments, alone = {}, set()
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      comments[token.start[0]] = token.string.lstrip("# ")
      if not token.line[: token.start[1]].strip():
        alone.add(token.start[0])
  (function,) = [
    node
    for node in ast.parse(source).body
    if isinstance(node, ast.FunctionDef) and node.name == "get_config"
  ]
  found: dict[str, str] = {}
  names = {"config": ""}  # The dotted key of each variable.
  for node in ast.walk(function):
    if not isinstance(node, ast.Assign):
      continue
    keys = [key for target in node.targets if (key := _key(target, names))]
    for target in node.targets:
      if isinstance(target, ast.Name) and keys:
        names[target.id] = keys[0]
    above = node.lineno
    while above - 1 in alone:
      above -= 1
    before, behind = (
      [comments[line] for line in lines if line in comments]
      for lines in (
        range(above, node.lineno),
        range(node.lineno, (node.end_lineno or node.lineno) + 1),
      )
    )
    # A comment above a group is of the group, and one behind it of its key.
    inner = [*_inner(node.value, keys)]
    of_keys = before if inner else [*before, *behind]
    for key, lines in [(k, of_keys) for k in keys] + [
      (k, behind) for k in inner
    ]:
      if lines:
        found.setdefault(key, " ".join(lines))
  return found


def _key(target: ast.expr, names: dict[str, str]) -> str | None:
  """Returns the dotted key that an assignment sets, or None."""
  if not isinstance(target, ast.Attribute):
    return None
  if not isinstance(target.value, ast.Name) or target.value.id not in names:
    return None
  return f"{names[target.value.id]}.{target.attr}".lstrip(".")


def _inner(value: ast.expr, keys: Sequence[str]) -> Iterator[str]:
  """Yields the keys in `ConfigDict({"enabled": False})`."""
  for node in ast.walk(value):
    if isinstance(node, ast.Dict):
      for name in node.keys:
        if isinstance(name, ast.Constant):
          yield from (f"{key}.{name.value!s}" for key in keys)


def _text(value: Any) -> str:
  """Returns a value as the command line has it."""
  if isinstance(value, float):
    return f"{value:.4g}"
  return str(value).lower() if value in (None, True, False) else str(value)
