"""Lookup of the objects that a config names."""

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from mixaug_jax import hints

T = TypeVar("T")


def find(key: str, name: str, registry: Mapping[str, T]) -> T:
  """Returns the object of a registry, or imports one from any module.

      find("mix.name", "cutmix", MIXERS)
      find("mix.name", "my_package.mixers:MyMixer", MIXERS)

  Args:
    key: the config key that holds `name`; error messages start with it.
    name: a name in `registry`, or `package.module:Name` for the attribute
      `Name` of a module that can be imported.
    registry: the objects that have a short name.

  Returns:
    The object. The caller checks the type of an imported one.

  Raises:
    ValueError: the name is unknown, or its module is missing, raises an
      exception on import or lacks the attribute. The message is one sentence.
  """
  if name in registry:
    return registry[name]
  if not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
    raise ValueError(
      f"{key} must be one of {', '.join(registry)} or package.module:Name, got "
      f"{name!r}{hint(name, registry)}"
    )
  path, _, attribute = name.partition(":")
  try:
    module = importlib.import_module(path)
  except (Exception, SystemExit) as error:  # A module may raise anything.
    if isinstance(error, ModuleNotFoundError) and _contains(error.name, path):
      reason = (
        f"there is no module {error.name!r}; install it or add its directory "
        "to PYTHONPATH"
      )
    else:
      reason = f"importing {path!r} raises {type(error).__name__}: {error}"
    raise ValueError(f"{key}={name}: {reason}".partition("\n")[0]) from error
  if not hasattr(module, attribute):
    raise ValueError(
      f"{key}={name}: module {path!r} has no attribute {attribute!r}"
      f"{_meant(hints.near(attribute, vars(module)))}"
    )
  return getattr(module, attribute)


def _contains(package: str | None, path: str) -> bool:
  """Returns true if `package` is the module `path` or a package around it."""
  return f"{path}.".startswith(f"{package}.")


def hint(word: str, known: Iterable[Any]) -> str:
  """Returns a suggestion that ends a sentence, or an empty string."""
  return _meant(hints.value(word, map(str, known)))


def _meant(name: str | None) -> str:
  return f"; did you mean {name!r}?" if name else ""
