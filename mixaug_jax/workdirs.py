"""The run directory of a command that names none."""

import pathlib


def default(spec: str) -> pathlib.Path:
  """Returns runs/cutmix-digits for `cutmix` and `configs/cutmix.py:digits`."""
  path, _, dataset = spec.partition(":")
  name = f"{pathlib.Path(path).stem}-{dataset or 'digits'}"
  return pathlib.Path("runs", name)
