"""Names are found in a registry or imported; mistakes are one sentence."""

import pathlib
import subprocess
import sys

import pytest

from mixaug_jax import registry

COLOURS = {"red": 1, "green": 2, "blue": 3}


@pytest.fixture
def modules(tmp_path, monkeypatch):
  """Writes modules that can be imported during one test."""
  monkeypatch.syspath_prepend(tmp_path)
  before = set(sys.modules)

  def write(name: str, text: str) -> None:
    path = tmp_path / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)

  yield write
  for name in set(sys.modules) - before:
    del sys.modules[name]


def find(name: str):
  return registry.find("paint.colour", name, COLOURS)


def mistake(name: str) -> str:
  with pytest.raises(ValueError, match=r"^paint\.colour") as caught:
    find(name)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_a_short_name_is_that_of_the_registry():
  assert find("green") == 2


@pytest.mark.parametrize("module", ["my_colours", "my_package/colours"])
def test_any_other_object_is_imported(modules, module):
  modules(module, "class Purple: pass")
  found = find(f"{module.replace('/', '.')}:Purple")
  assert found.__name__ == "Purple"


@pytest.mark.parametrize(
  ("name", "ending"),
  [
    ("gren", "got 'gren'; did you mean 'green'?"),
    ("xyz", "got 'xyz'"),
    ("", "got ''"),
    ("my_colours.Purple", "got 'my_colours.Purple'"),
    ("my_colours:", "got 'my_colours:'"),
    (":Purple", "got ':Purple'"),
    ("a:b:c", "got 'a:b:c'"),
    ("..a:b", "got '..a:b'"),
    ("a/b:c", "got 'a/b:c'"),
  ],
)
def test_an_unknown_name_lists_the_known_ones(name, ending):
  known = "paint.colour must be one of red, green, blue or package.module:Name"
  assert mistake(name) == f"{known}, {ending}"


@pytest.mark.parametrize(
  ("name", "missing"),
  [
    ("no_such_module:Purple", "no_such_module"),
    ("no_such_package.colours:Purple", "no_such_package"),
    ("my_package.no_such_module:Purple", "my_package.no_such_module"),
    ("my_package.colours.deep:Purple", "my_package.colours.deep"),
  ],
)
def test_a_missing_module_is_named(modules, name, missing):
  modules("my_package/colours", "")
  assert mistake(name) == (
    f"paint.colour={name}: there is no module {missing!r}; install it or add "
    "its directory to PYTHONPATH"
  )


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("import no_such_module", "ModuleNotFoundError: No module named"),
    ("from my_colours import x", "ImportError: cannot import name 'x'"),
    ("raise ValueError('a\\nb')", "ValueError: a"),
    ("def f(:", "SyntaxError: invalid syntax"),
    ("import sys; sys.exit()", "SystemExit: "),
  ],
)
def test_a_module_that_fails_on_import_is_named(modules, text, reason):
  modules("my_colours", text)
  message = mistake("my_colours:Purple")
  assert f"importing 'my_colours' raises {reason}" in message


def test_a_missing_attribute_is_named(modules):
  modules("my_colours", "Purple = 4")
  assert mistake("my_colours:Purpel") == (
    "paint.colour=my_colours:Purpel: module 'my_colours' has no attribute "
    "'Purpel'; did you mean 'Purple'?"
  )


def test_a_lookup_imports_nothing_heavy():
  code = "import sys, mixaug_jax.registry; print(*sys.modules)"
  root = pathlib.Path(registry.__file__).parent.parent
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, cwd=root
  )
  loaded = set(done.stdout.split())
  assert "mixaug_jax.registry" in loaded
  assert not loaded & {"jax", "numpy", "ml_collections", "absl"}
