"""The run directory of a command that names none."""

import itertools
import os
import pathlib

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError

_MOST_DIFFERENCES = 3  # In a line.


def default(spec: str) -> pathlib.Path:
  """Returns runs/cutmix-digits for `cutmix` and `configs/cutmix.py:digits`."""
  path, _, dataset = spec.partition(":")
  name = f"{pathlib.Path(path).stem}-{dataset or 'digits'}"
  return pathlib.Path("runs", name)


def choose(config: ConfigDict, spec: str) -> tuple[pathlib.Path, str]:
  """Chooses `default(spec)`, or the next number that has no other run.

  All processes of a run get the choice of process 0.

  Args:
    config: resolved and checked.
    spec: the text of its recipe.

  Returns:
    The directory, and a line that gives the reason.

  Raises:
    UserError: a directory on the way is damaged, or a value cannot run.
  """
  from mixaug_jax.training import parallel

  name, _, line = parallel.from_first(lambda: _chosen(config, spec)).partition(
    "\n"
  )
  if not name:
    raise UserError(line)
  return pathlib.Path(name), line


def _chosen(config: ConfigDict, spec: str) -> str:
  """Returns the name of the directory and the line, or the mistake alone."""
  from mixaug_jax.training import experiment, pretrained, records

  folder, why = default(spec), ""
  try:
    for number in itertools.count(2):
      changed = _changed(pretrained.recalled(config, folder), folder)
      if not changed:
        break
      if not why:
        experiment.check(config)  # A mistake gets no directory.
        why = f"; {folder} holds another config: it differs in {changed}"
      folder = folder.with_name(f"{default(spec).name}-{number}")
  except UserError as error:
    return f"\n{error}"
  state = "a new run"
  if (folder / records.CONFIG_FILE).exists():
    finished = (folder / records.RESULT_FILE).exists()
    state = "finished before" if finished else "resumed"
  return f"{folder}\n{folder}: {state}{why}"


def _changed(config: ConfigDict, folder: pathlib.Path) -> str:
  """Returns what makes the run in a folder another one, or an empty text.

  Other images are another experiment, although a run whose images moved may be
  resumed by `--workdir`.
  """
  from mixaug_jax.training import records

  changed = records.differences(config, folder)
  if there := records.read_config(folder):
    ours, theirs = config.data.dir, config_lib.completed(there)["data"]["dir"]
    if os.path.realpath(ours or "") != os.path.realpath(theirs or ""):
      changed.append(f"data.dir (there {theirs}, here {ours})")
  more = len(changed) - _MOST_DIFFERENCES
  return ", ".join(changed[:_MOST_DIFFERENCES]) + (
    f" and {more} more" if more > 0 else ""
  )
