"""The wheel works in an empty folder; the command `mixaug` and its messages."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import mixaug_jax
from mixaug_jax.command.invocation import COMMANDS

ROOT = pathlib.Path(__file__).parent.parent
SOURCE = ("mixaug_jax", "configs", "setup.py", "pyproject.toml")
SOURCE += ("README.md", "LICENSE")
BUILD = "from setuptools import build_meta; build_meta.build_{}({!r})"
SHORT = ("--config.steps=3", "--config.log.writers=console")


def _run(*argv, cwd, path=()):
  return subprocess.run(
    list(map(str, argv)),
    cwd=cwd,
    env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
    capture_output=True,
    text=True,
  )


def _build(kind, source, folder):
  """Builds as pip does, with the setuptools that is installed."""
  code = BUILD.format(kind, str(folder))
  done = _run(sys.executable, "-c", code, cwd=source)
  assert done.returncode == 0, done.stderr
  (built,) = folder.glob({"sdist": "*.tar.gz", "wheel": "*.whl"}[kind])
  return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """The wheel of the sdist of this clone."""
  folder = tmp_path_factory.mktemp("package")
  ignore = shutil.ignore_patterns("__pycache__")
  for name in SOURCE:
    copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
    options = {"ignore": ignore} if copy is shutil.copytree else {}
    (folder / "clone").mkdir(exist_ok=True)
    copy(ROOT / name, folder / "clone" / name, **options)
  with tarfile.open(_build("sdist", folder / "clone", folder)) as sdist:
    sdist.extractall(folder, filter="data")
  (source,) = folder.glob("mixaug_jax-*/")
  return _build("wheel", source, folder)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
  """Runs a program of the wheel's installation in a folder.

  A module `configs` of another project is on the path. It must not be imported.
  """
  folder = tmp_path_factory.mktemp("installed")
  site, trap = folder / "site", folder / "trap"
  pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps")
  done = _run(*pip, "--no-index", "--target", site, wheel, cwd=folder)
  assert done.returncode == 0, done.stderr
  trap.mkdir()
  (trap / "configs.py").write_text("raise SystemExit('configs is imported')")
  return lambda program, *argv, cwd: _run(
    *([sys.executable, site / "bin" / "mixaug"] if program == "mixaug" else ()),
    *([sys.executable, "-m", program] if program != "mixaug" else ()),
    *argv,
    cwd=cwd,
    path=(site, trap),
  )


def test_the_wheel_holds_the_package_and_its_recipes_alone(wheel):
  names = set(zipfile.ZipFile(wheel).namelist())
  ours = {name for name in names if ".dist-info/" not in name}
  expected = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "mixaug_jax").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
  }
  recipes = {f"mixaug_jax/{path}" for path in _recipes()}
  assert ours == expected - {"mixaug_jax/configs.py"} | recipes


def _recipes():
  return [path.relative_to(ROOT) for path in (ROOT / "configs").glob("*.py")]


def test_a_recipe_of_the_wheel_trains_in_an_empty_folder(installed, tmp_path):
  done = installed("mixaug", "train", "cutmix", *SHORT, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  workdir = tmp_path / "runs" / "cutmix-digits"
  result = json.loads((workdir / "result.json").read_text())
  assert result["versions"]["mixaug_jax"] == mixaug_jax.__version__
  assert result["commit"] is None  # It is not this clone.


def test_the_console_script_finds_modules_in_the_current_folder(
  installed, tmp_path
):
  (tmp_path / "mine.py").write_text("raise ValueError('found')")
  (tmp_path / "ml_collections.py").write_text("raise ValueError('replaced')")
  flags = ("train", "mixup", "--config.mix.name=mine:Mixer")
  for program in ("mixaug", "mixaug_jax"):
    done = installed(program, *flags, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "raises ValueError: found" in done.stderr
    (tmp_path / "ml_collections.py").unlink(missing_ok=True)


@pytest.mark.parametrize(
  ("program", "words", "sentence"),
  [
    ("mixaug", "train", "see mixaug train --help"),
    ("mixaug", "report", "see mixaug report --help"),
    ("mixaug_jax", "data", "see python -m mixaug_jax data --help"),
    ("mixaug_jax.main", "", "see python -m mixaug_jax.main --help"),
    ("mixaug_jax.train", "", "see python -m mixaug_jax.main --help"),
    ("mixaug_jax.data", "", "see python -m mixaug_jax.data --help"),
  ],
)
def test_a_mistake_names_the_command_as_it_was_called(
  installed, tmp_path, program, words, sentence
):
  done = installed(program, *words.split(), cwd=tmp_path)
  assert (done.returncode, done.stdout) == (2, "")
  assert done.stderr.endswith(f"{sentence}\n")
  assert len(done.stderr.splitlines()) == 1


def test_help_lists_the_commands_and_the_version_is_printed(
  installed, tmp_path
):
  done = installed("mixaug", "--help", cwd=tmp_path)
  assert done.stdout.startswith("usage: mixaug COMMAND")
  lines = done.stdout.splitlines()
  for name, command in COMMANDS.items():
    assert f"  {name:10}{command.help}" in lines
  done = installed("mixaug", "--version", cwd=tmp_path)
  assert done.stdout == f"mixaug_jax {mixaug_jax.__version__}\n"


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (["trian"], "there is no command 'trian'; did you mean train?"),
    (["Compare"], "did you mean compare?"),
    (["x"], "there is no command 'x'; name one of train, compare, evaluate"),
    ([], "a command is missing; name one of train, compare, evaluate"),
    (["--verson"], "there is no command '--verson'"),
  ],
)
def test_an_unknown_command_is_a_mistake(words, sentence, monkeypatch, capsys):
  from mixaug_jax import __main__ as program

  monkeypatch.setattr(sys, "argv", ["mixaug", *words])
  monkeypatch.setattr(sys, "path", list(sys.path))
  with pytest.raises(SystemExit) as left:
    program.run()
  assert left.value.code == 2
  assert sentence in capsys.readouterr().err


def test_a_package_that_is_not_installed_is_named(monkeypatch):
  from mixaug_jax import __main__ as program
  from mixaug_jax.errors import UserError

  monkeypatch.setitem(sys.modules, "mixaug_jax.command.report", None)
  with pytest.raises(UserError, match="is not installed; install"):
    program.main(["report"])


_TYPED = """
import jax
import jax.numpy as jnp
import mixaug_jax as mx
import numpy as np
from mixaug_jax import augment
from mixaug_jax.configs import default

key = jax.random.key(0)
images, labels = jnp.zeros((2, 8, 8, 3)), jnp.eye(2)
run = mx.train("cutmix", epochs=3, overrides={"seed": 1})
mx.train(default.get_config("folder"), workdir="a", data_dir="b")
print(run.result.test, run.evaluate("test"), run.predict(["a.png"])[0]["top"])
mx.compare(workdir="runs/a", arms=["cutmix"]).results
for split in ("validation", "test"):
  run.predictions(split), run.evaluate(split, views=["identity", "flip"])
mx.train("cutmix", overrides={"seed": np.int64(1), "epochs": np.float32(2)})
print(f"{run.accuracy:.2%}")
images, labels = augment.cutmix(key, images, labels, alpha=1.0)
images = augment.random_brightness(key, images, max_delta=0.2)
print(augment.five_crops(images, 4), mx.augment.mixup(key, images, labels))
"""
# Each mistake, and a part of what a type checker reports.
_MISTAKES = {
  'mx.train("cutmix", epoch=3)': '"epoch"',
  'mx.train("cutmix", epochs="3")': '"epochs"',
  'mx.trian("cutmix")': '"trian"',
  "run.evaluate(3)": "Literal['train', 'validation', 'test']",
  'run.prediction("photos")': '"prediction"',
  'mx.compare(workdir="a", arm=["cutmix"])': '"arm"',
  "augment.cutmix(key, images, labels, alfa=1.0)": '"alfa"',
  "augment.random_brightness(key, images, max_dalta=1.0)": '"max_dalta"',
  'augment.five_crops(images, size="4")': '"five_crops"',
}


def test_a_type_checker_finds_wrong_calls_of_the_wheel(installed, tmp_path):
  pytest.importorskip("mypy")
  lines = [*_TYPED.splitlines(), *_MISTAKES]
  (tmp_path / "program.py").write_text("\n".join(lines))
  done = installed("mypy", "--cache-dir=cache", "program.py", cwd=tmp_path)
  found = re.findall(r"program\.py:(\d+): error: (.*)", done.stdout)
  first = len(_TYPED.splitlines()) + 1
  assert [int(x) for x, _ in found] == [*range(first, len(lines) + 1)], done
  for (_, said), part in zip(found, _MISTAKES.values(), strict=True):
    assert part in said


def test_the_version_stands_in_every_file():
  version = re.escape(mixaug_jax.__version__)
  changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
  assert re.search(rf"^## {version}\b", changes, re.M)
  citation = (ROOT / "CITATION.cff").read_text("utf-8")
  assert re.search(rf"^version: {version}$", citation, re.M)
