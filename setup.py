"""Builds the package, which pyproject.toml describes."""

import pathlib

from setuptools import setup
from setuptools.command.build_py import build_py

CLONE = "mixaug_jax/configs.py"


class BuildPy(build_py):
  """Puts the recipes of `configs` into the package `mixaug_jax.configs`.

  In a clone, `mixaug_jax/configs.py` stands in their place.
  """

  def find_all_modules(self):
    recipes = sorted(pathlib.Path("configs").glob("*.py"))
    return [
      *(each for each in super().find_all_modules() if each[2] != CLONE),
      *(("mixaug_jax.configs", path.stem, str(path)) for path in recipes),
    ]

  def build_packages(self):
    for package, module, path in self.find_all_modules():
      self.build_module(module, path, package)

  def get_source_files(self):
    return [*super().get_source_files(), CLONE]


setup(cmdclass={"build_py": BuildPy})
