"""The run directory of a command that names none."""

import itertools
import os
import pathlib
from collections.abc import Callable, Collection
from typing import TypeVar

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.errors import Taken, UserError

T = TypeVar("T")

_MOST_DIFFERENCES = 3  # In a line.
# Other keys often follow from these.
_CAUSES = ("data.name", "data.dir", "model.name", "model.pretrained")


def default(spec: str) -> pathlib.Path:
  """Returns runs/cutmix-digits for `cutmix` and `configs/cutmix.py:digits`."""
  path, _, dataset = spec.partition(":")
  name = f"{pathlib.Path(path).stem}-{dataset or 'digits'}"
  return pathlib.Path("runs", name)


def choose(
  config: ConfigDict, spec: str, given: Collection[str] = ()
) -> tuple[pathlib.Path, str]:
  """Chooses `default(spec)`, or the next number that has no other run.

  All processes of a run get the choice of process 0.

  Args:
    config: resolved and checked.
    spec: the text of its recipe.
    given: the keys that the user set; they come first in the reason.

  Returns:
    The directory, and a line that gives the reason.

  Raises:
    UserError: a directory on the way is damaged, or a value cannot run.
  """
  from mixaug_jax.training import parallel

  chosen = parallel.from_first(lambda: _chosen(config, spec, given))
  name, _, line = chosen.partition("\n")
  if not name:
    raise UserError(line)
  return pathlib.Path(name), line


def train_in(
  config: ConfigDict,
  spec: str,
  given: Collection[str],
  announce: Callable[[str], None],
  train: Callable[[pathlib.Path], T],
) -> tuple[T, pathlib.Path]:
  """Trains in the directory of `choose`.

  If another command takes it for a run of another config meanwhile, the next
  one is chosen.

  Args:
    config: as in `choose`.
    spec: as in `choose`.
    given: as in `choose`.
    announce: is called with each directory's line.
    train: trains in a directory.

  Returns:
    What `train` returned, and the directory.

  Raises:
    UserError: as `choose` and `train` raise it.
  """
  folder, line = choose(config, spec, given)
  while True:
    announce(line)
    try:
      return train(folder), folder
    except Taken:
      other, line = choose(config, spec, given)
      if other == folder:
        raise  # By a run of the same config.
      folder = other


def _chosen(config: ConfigDict, spec: str, given: Collection[str]) -> str:
  """Returns the name of the directory and the line, or the mistake alone."""
  from mixaug_jax.training import experiment, pretrained, records
  from mixaug_jax.training.checkpoint import saved_in

  folder, complete, why = default(spec), config, ""
  try:
    for number in itertools.count(2):
      complete = pretrained.recalled(config, folder)
      changed = _changed(complete, folder)
      if not changed:
        break
      if not why:
        texts = _first(changed, spec, given)
        why = f"; {folder} holds another config: it differs in {texts}"
      folder = folder.with_name(f"{default(spec).name}-{number}")
    finished = (folder / records.RESULT_FILE).exists()
    if not finished:  # A mistake gets no directory.
      experiment.check(complete, fetch_weights=not saved_in(folder))
  except UserError as error:
    return f"\n{error}"
  state = "a new run"
  if (folder / records.CONFIG_FILE).exists():
    state = "finished before" if finished else "resumed"
  return f"{folder}\n{folder}: {state}{why}"


def _changed(config: ConfigDict, folder: pathlib.Path) -> list[str]:
  """Returns what makes the run in a folder another one, a text each.

  Other images are another experiment, although a run whose images moved may be
  resumed by `--workdir`.
  """
  from mixaug_jax.training import records

  changed = records.differences(config, folder)
  if there := records.read_config(folder):
    ours, theirs = config.data.dir, config_lib.completed(there)["data"]["dir"]
    if os.path.realpath(ours or "") != os.path.realpath(theirs or ""):
      changed.append(f"data.dir (there {theirs}, here {ours})")
  return changed


def _first(changed: list[str], spec: str, given: Collection[str]) -> str:
  """Returns the differences that explain the others, and their number."""
  recipe = config_lib.leaves(config_lib.read(spec))

  def rank(text: str) -> int:
    key = text.partition(" ")[0]
    if key in given:
      return -1
    if key in _CAUSES:
      return _CAUSES.index(key)
    # What a recipe leaves open follows from other keys.
    return len(_CAUSES) + (recipe.get(key) in (None, "auto"))

  more = len(changed) - _MOST_DIFFERENCES
  shown = ", ".join(sorted(changed, key=rank)[:_MOST_DIFFERENCES])
  return shown + (f" and {more} more" if more > 0 else "")
