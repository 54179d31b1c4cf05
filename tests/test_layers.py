"""The order of imports inside the package."""

import ast
import pathlib

import pytest

from mixaug_jax.command.invocation import COMMANDS

ROOT = pathlib.Path(__file__).parent.parent / "mixaug_jax"
# A part imports from itself, from the parts beside it and from those above.
LAYERS = (
  (
    *("errors", "files", "durations", "hints", "names", "progress"),
    *("registry", "root_logger", "signals"),
  ),
  ("jax_setup",),
  ("augment",),
  ("models",),
  ("weights",),
  ("data",),
  ("config", "configs", "recipes", "training", "workdirs"),
  ("analysis",),
  ("classifier",),
  ("runs",),
  ("pages",),
  ("comparison", "costs", "run_page"),
  ("api", "command"),
)
# Modules that start a command for `python -m`.
STARTS = {"main", "train", "compare", "evaluate", "predict", "preview"}
STARTS |= {
  "demo",
  "export",
  "fit",
  "lr_range",
  "report",
  "data.__main__",
  "__main__",
}
LEVEL = {part: n for n, layer in enumerate(LAYERS) for part in layer}


def _name(path: pathlib.Path) -> str:
  """`data.cache` of data/cache.py."""
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(part for part in parts if part != "__init__")


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _imported(source: str) -> set[str]:
  """The modules of the package that a file imports, also inside functions."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, "relative imports are not read here"
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  inside = {
    name.removeprefix("mixaug_jax.")
    for name in names
    if name.startswith("mixaug_jax.")
  }
  # `mixaug_jax.errors.UserError` is a name in the module `errors`.
  return {
    name if name in MODULES else name.rpartition(".")[0] for name in inside
  }


def _mistakes(name: str, imported: set[str]) -> list[str]:
  mistakes = []
  part = name.partition(".")[0]
  for other in sorted(imported):
    if other in STARTS:
      mistakes.append(f"{name} imports {other}, which starts a command")
    elif name in STARTS:
      continue
    elif LEVEL[other.partition(".")[0]] > LEVEL[part]:
      mistakes.append(f"{name} imports {other}, which is of a higher layer")
  return mistakes


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {""}))
def test_a_module_imports_lower_layers_only(name):
  assert not _mistakes(name, _imported(MODULES[name].read_text("utf-8")))


@pytest.mark.parametrize(
  ("name", "source"),
  [
    ("comparison.page", "from mixaug_jax import preview"),
    ("command.train", "from mixaug_jax import compare"),
    ("comparison.plan", "def f():\n  import mixaug_jax.command.flags"),
    ("augment.mixing", "from mixaug_jax.data import batches"),
    ("analysis.cam", "from mixaug_jax.classifier import Classifier as C"),
    ("models.resnet", "from mixaug_jax.weights.sources import settle"),
  ],
)
def test_an_import_of_a_higher_layer_is_noticed(name, source):
  assert len(_mistakes(name, _imported(source))) == 1


def test_a_command_is_a_short_file():
  for name in ("__main__", *(f"command.{name}" for name in COMMANDS)):
    assert len(MODULES[name].read_text("utf-8").splitlines()) < 100, name
