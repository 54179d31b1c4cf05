"""Recipes by name, in a clone and in an installed package."""

import os
import pathlib

from mixaug_jax import configs, hints
from mixaug_jax.errors import UserError

_FOLDER = pathlib.Path(next(iter(configs.__path__)))
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("[!_]*.py")))
_CHOICE = f"a file, or one of the recipes {', '.join(NAMES)}"


def find(text: str) -> str:
  """Returns the path of a recipe's file.

  `cutmix`, `cutmix.py`, `configs/cutmix` and `configs/cutmix.py` name the same
  recipe. A file of the user's own at this path comes first. Without its `.py`
  it comes first too, except where the text is the name of a recipe: a script
  `cutmix.py` in the current folder need not be a recipe.

  Args:
    text: the name of a recipe of this package, or a path.

  Raises:
    UserError: there is neither; the sentence names a similar recipe.
  """
  path = os.path.expanduser(text)
  name = str(pathlib.PurePath(text)).removeprefix("configs/")
  name = name.removesuffix(".py")
  candidates = [path, f"{path}.py"]
  if name in NAMES:
    candidates.insert(1 if name == text else 2, str(_FOLDER / f"{name}.py"))
  for candidate in candidates:
    if os.path.isfile(candidate):
      return candidate
  near = hints.near(pathlib.PurePath(text).stem, NAMES)
  raise UserError(
    f"there is no file or recipe {text!r}; "
    + (f"did you mean {near}?" if near else f"name {_CHOICE}")
  )
