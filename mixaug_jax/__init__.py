"""Train and compare image classifiers with mixing augmentations in JAX.

    import mixaug_jax as mx

    run = mx.train("cutmix:folder", data_dir="photos", workdir="runs/a")
    run.accuracy, run.predict("new_photos"), run.report()

`mixaug_jax.augment` needs JAX and NumPy only, so the names below are imported
when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mixaug_jax import augment
  from mixaug_jax.api import Comparison, Run, compare, open_run, train
  from mixaug_jax.errors import Diverged, Interrupted, UserError
  from mixaug_jax.jax_setup import prepare

__version__ = "0.2.0"
__all__ = [
  "Comparison",
  "Diverged",
  "Interrupted",
  "Run",
  "UserError",
  "augment",
  "compare",
  "open_run",
  "prepare",
  "train",
]
_HOMES = {"prepare": "jax_setup"} | dict.fromkeys(
  ("Diverged", "Interrupted", "UserError"), "errors"
)


if not TYPE_CHECKING:  # With it, a checker would accept any name.

  def __getattr__(name: str) -> Any:
    if name not in __all__:
      raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "augment":
      return importlib.import_module(f"{__name__}.augment")
    from mixaug_jax import root_logger

    with root_logger.kept():
      home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'api')}")
    return getattr(home, name)


def __dir__() -> list[str]:
  return [*__all__, "__version__"]
