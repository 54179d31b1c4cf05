"""The examples of docs/extending.md run as they stand there."""

import json
import pathlib
import re
import shlex
import sys

import pytest

from mixaug_jax.command import train
from mixaug_jax.comparison import arms

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "extending.md").read_text("utf-8")
MODULES = dict(
  re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, flags=re.DOTALL)
)
COMMANDS = re.findall(r"^    python -m mixaug_jax\.main (.*)$", TEXT, re.M)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder on the Python path with the modules of the page."""
  for name, code in MODULES.items():
    (tmp_path / name).write_text(code, "utf-8")
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.chdir(tmp_path)  # The recipes are found in any folder.
  yield tmp_path
  for name in MODULES:
    sys.modules.pop(name.removesuffix(".py"), None)


def _train(command, workdir):
  argv = [*shlex.split(command), f"--workdir={workdir}"]
  argv += ["--config.steps=4", "--config.batch_size=48", "--config.epochs=none"]
  argv += ["--config.evaluate.batch_size=100", "--config.log.every_steps=2"]
  train.main(argv)
  return json.loads((workdir / "result.json").read_text())


def test_every_module_of_the_page_is_named_by_a_command():
  assert len(MODULES) == 5
  for name in MODULES:
    assert any(name.removesuffix(".py") in command for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_trains(folder, command):
  result = _train(command, folder / "run")
  assert result["steps"] == 4
  if "my_writers" in command:
    rows = (folder / "run" / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("2,train/loss,")


def test_a_recipe_of_the_page_adds_an_arm(folder):
  (arm,) = re.findall(r"`(config\.arms\.strong = .*)`", TEXT)
  (folder / "mine.py").write_text(
    "from mixaug_jax.configs import compare\n\n"
    "def get_config(dataset='digits'):\n"
    "  config = compare.get_config(dataset)\n"
    f"  {arm}\n"
    "  return config\n"
  )
  config = arms.load("mine", {})
  resolved = arms.resolved(config, "strong", config.base.data.image_size, {})
  assert (resolved.mix.name, resolved.mix.alpha) == ("cutmix", 2.0)


def test_a_recipe_sets_the_fields_of_a_mixer_of_its_own(folder):
  recipe = folder / "bandmix.py"
  recipe.write_text(
    "from ml_collections import ConfigDict\n"
    "from configs import default\n\n"
    "def get_config(dataset='digits'):\n"
    "  config = default.get_config(dataset)\n"
    "  config.mix.name = 'my_mixers:BandMix'\n"
    "  config.mix.BandMix = ConfigDict({'max_share': 0.3})\n"
    "  return config\n"
  )
  _train(f"--config={recipe} --config.mix.BandMix.max_share=0.2", folder / "a")
  config = json.loads((folder / "a" / "config.json").read_text())
  assert config["mix"]["BandMix"] == {"max_share": 0.2}
