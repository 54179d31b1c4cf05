"""Recipes are found by name, and a file of the user's own comes first."""

import pathlib

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import recipes
from mixaug_jax.command import flags
from mixaug_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
OWN = "from mixaug_jax.configs import default as d\nget_config = d.get_config\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_the_recipes_are_the_files_of_configs():
  files = {path.stem for path in (ROOT / "configs").glob("*.py")}
  assert set(recipes.NAMES) == files - {"__init__"}


@pytest.mark.parametrize(
  "text",
  ["cutmix", "cutmix.py", "configs/cutmix", "configs/cutmix.py", "./cutmix.py"],
)
def test_a_recipe_is_found_by_name_in_any_folder(text):
  assert config_lib.load(f"{text}:folder").mix.name == "cutmix"
  assert config_lib.load(f"{text}:folder").data.name == "folder"


@pytest.mark.parametrize(
  ("file", "text"),
  [
    ("configs/cutmix.py", "configs/cutmix.py"),
    ("configs/cutmix.py", "configs/cutmix"),
    ("cutmix.py", "cutmix.py"),
    ("cutmix", "cutmix"),
    ("mine.py", "mine"),
    ("a/b.py", "a/b"),
  ],
)
def test_a_file_of_the_users_own_comes_first(folder, file, text):
  (folder / file).parent.mkdir(exist_ok=True)
  (folder / file).write_text(OWN)
  assert recipes.find(text) == file
  assert config_lib.load(text).mix.name == "none"


def test_the_name_of_a_recipe_is_not_a_script_of_the_users_own(folder):
  (folder / "cutmix.py").write_text("print('my CutMix')")
  assert config_lib.load("cutmix").mix.name == "cutmix"


@pytest.mark.parametrize(
  ("spec", "sentence"),
  [
    ("CutMix", "there is no file or recipe 'CutMix'; did you mean cutmix?"),
    ("configs/cutmx.py", "'configs/cutmx.py'; did you mean cutmix?"),
    ("nothing", "name a file, or one of the recipes baseline, basic, compare"),
    ("../mixaug_jax/main", "name a file, or one of the recipes"),
    ("__init__", "name a file, or one of the recipes"),
    ("", "there is no file or recipe ''"),
    ("a\0b", "there is no file or recipe"),
    ("cutmix:cifar10", "is :folder --config.data.name=tfds:cifar10"),
    ("cutmix:tfds:mnist", "is :folder --config.data.name=tfds:mnist"),
    ("cutmix:CIFAR10", "is :folder --config.data.name=tfds:cifar10"),
    ("cutmix:my/photos", "is :folder --config.data.dir=my/photos"),
    ("cutmix:dogs", "did you mean :stanford_dogs?"),
    ("cutmix:Digits", "did you mean :digits?"),
    ("compare", "is a comparison; run it by the command compare"),
  ],
)
def test_another_name_is_reported_in_one_sentence(spec, sentence):
  with pytest.raises(UserError) as caught:
    config_lib.load(spec)
  assert sentence in str(caught.value)


def test_an_import_that_works_only_in_a_clone_is_reported(folder):
  (folder / "mine.py").write_text("from configs import nonesuch")
  with pytest.raises(UserError, match=r"write `from mixaug_jax\.configs"):
    config_lib.load("mine.py")


def _parse(*words):
  parser = flags.parser("train", "")
  flags.add_config(parser)
  parser.add_argument("--workdir")
  return flags.parse(parser, words)


@pytest.mark.parametrize(
  "words",
  [
    ["cutmix:folder", "--workdir", "x", "--config.steps=3"],
    ["--config.steps", "3", "--workdir=x", "cutmix:folder"],
    ["--workdir", "x", "--config=cutmix:folder", "--config.steps=3"],
  ],
)
def test_the_recipe_is_a_word_or_a_flag(words):
  arguments = _parse(*words)
  assert (arguments.spec, arguments.workdir) == ("cutmix:folder", "x")
  assert (arguments.config.mix.name, arguments.config.steps) == ("cutmix", 3)


@pytest.mark.parametrize(
  "words", [[], ["cutmix", "--config=cutmix"], ["--workdir=x"]]
)
def test_one_recipe_is_named(words):
  with pytest.raises(UserError, match="name one recipe, such as cutmix:folder"):
    _parse(*words)


def test_an_empty_recipe_is_a_mistake():
  for word in ("", "--config="):
    with pytest.raises(UserError, match="there is no file or recipe ''"):
      _parse(word)
