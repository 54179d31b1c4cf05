"""Pretrained weights: those of `weights/sources.py`, and those of a run."""

import copy
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flax import traverse_util
from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import records
from mixaug_jax.training.result import CHOSEN
from mixaug_jax.weights import dialects, formats, loading, sources

# The keys of `config.model` that follow the weights of a run.
_KEYS = (*sources.DEFAULTS, "last_stage")
_WEIGHTS = {
  "best": "best on validation",
  "last": "last",
  "ema": "moving average",
}


class _Saved(NamedTuple):
  """The chosen weights of a run.

  Attributes:
    checkpoint: the directory of the checkpoint.
    chosen: which weights of it, one of `result.CHOSEN`.
    class_names: by class id; None if the run does not hold them.
  """

  checkpoint: pathlib.Path
  chosen: str
  class_names: list[str] | None


@dataclasses.dataclass(frozen=True)
class RunWeights:
  """The chosen weights of a run, which may be unfinished.

  Attributes:
    name: the run directory, as in `config.model.pretrained`.
    settings: as in `WeightSource`; empty if the directory is gone.
    allow_partial: whether arrays may be missing or left over.
    class_names: of the data, by class id.
    certain: as in `WeightSource`.
  """

  name: str
  settings: Mapping[str, Any]
  allow_partial: bool
  class_names: Sequence[str] = ()
  certain: bool = True

  def fetch(self) -> _Saved:
    """Finds the checkpoint of the chosen weights and verifies its files.

    An unfinished run has chosen the weights that `evaluate.checkpoint` names,
    as of its newest checkpoint.

    Raises:
      UserError: there is no run with a checkpoint, or it is damaged.
    """
    from mixaug_jax.training import checkpoint

    workdir = _directory(self.name)
    config, result = _read_config(workdir), records.read_result(workdir)
    folder = workdir / checkpoint.CHECKPOINTS
    steps = [int(x.name) for x in folder.glob("*") if x.name.isdigit()]
    if config is None or not steps:
      raise UserError(
        f"config.model.pretrained: {self.name} is not a run directory with a "
        "checkpoint; check its path"
      )
    if result is not None:
      chosen, step = result.chosen, result.chosen_step
      class_names: list[str] | None = result.class_names
    else:
      data, step = records.read_data(workdir), max(steps)
      class_names = list(data.class_names) if data else None
      chosen = config["evaluate"]["checkpoint"]
      if chosen == "best":
        step = checkpoint.read_loop(folder / str(step)).best_step or step
    checkpoint.verify(folder / str(step))
    return _Saved(folder / str(step), chosen, class_names)

  def load(self, variables: Any) -> tuple[Any, loading.LoadReport]:
    """Puts the weights into the variables of a model.

    The head is loaded if the run has the classes of the data in their order.

    Args:
      variables: `params`, and `batch_stats` if there are any, as initialised.

    Returns:
      Variables of the same structure, as float32 numpy arrays, and a report.

    Raises:
      UserError: there are no such weights, or they do not fit the model.
    """
    from mixaug_jax.training import checkpoint

    saved = self.fetch()
    flat: dict[Any, Any] = traverse_util.flatten_dict(
      checkpoint.read_variables(saved.checkpoint, saved.chosen == "ema")
    )
    like: dict[Any, Any] = traverse_util.flatten_dict(variables)
    new_head = _new_head(saved.class_names, self.class_names)
    head = "" if new_head else "; its head is kept: the classes are the same"
    return loading.assign(
      {"/".join(key): array for key, array in flat.items()},
      {
        key: dialects.Entry("/".join(key), tuple(range(x.ndim)))
        for key, x in like.items()
      },
      variables,
      path=saved.checkpoint,
      source=f"{self.name} (step {saved.checkpoint.name}, "
      f"{_WEIGHTS[saved.chosen]}{head})",
      allow_partial=self.allow_partial,
      new_head=new_head,
    )


def resolve(
  pretrained: str | None, model: str, allow_partial: bool = False
) -> sources.WeightSource | RunWeights | None:
  """Finds pretrained weights; None if `pretrained` is None.

  A run directory that is gone is found missing when its weights are fetched,
  because a run that resumes does not need them.

  Args:
    pretrained: a run directory, or as in `sources.resolve`.
    model: the name of the model.
    allow_partial: whether the weights may lack arrays or hold others.

  Raises:
    UserError: no such weights, or they are of another model.
  """
  if pretrained is None or not _is_run(pretrained):
    return sources.resolve(pretrained, model, allow_partial)
  config = _read_config(_directory(pretrained))
  if config is None:
    return RunWeights(pretrained, {}, allow_partial)
  theirs = config["model"]
  if theirs["name"] != model:
    raise UserError(
      f"config.model.pretrained={pretrained} is a run of "
      f"config.model.name={theirs['name']}, not of {model}; set that name, or "
      "name another run"
    )
  settings = {key: theirs[key] for key in _KEYS}
  return RunWeights(pretrained, settings, allow_partial)


def recalled(config: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
  """Returns a resolved config that is complete without the pretrained run.

  Where that run is gone, the keys that follow its weights are those that the
  run in `workdir` recorded when it started.
  """
  if config.model.preprocessing is not None:
    return config
  recorded = _read_config(workdir)
  if recorded is None:
    return config
  config = copy.deepcopy(config)
  with config.unlocked():
    for key in _KEYS:
      if config.model[key] is None:
        config.model[key] = recorded["model"][key]
  return config


def _read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Reads the completed config of a run, or None; raises UserError."""
  recorded = records.read_config(workdir)
  if recorded is None:
    return None
  config = config_lib.completed(recorded)
  try:
    types = [type(config["model"][key]) for key in _KEYS]
    fits = [type(x) for x in sources.DEFAULTS.values()] == types[:-1]
    fits &= types[-1] in (str, type(None))
    fits &= config["evaluate"]["checkpoint"] in CHOSEN
  except TypeError:  # A group is not a dict.
    fits = False
  if not fits:
    raise UserError(f"{workdir / records.CONFIG_FILE} is damaged")
  return config


def _directory(pretrained: str) -> pathlib.Path:
  return pathlib.Path(os.path.expanduser(pretrained))


def _is_run(pretrained: str) -> bool:
  """Returns whether the text names a run directory, which may be gone."""
  if sources.is_published(pretrained):
    return False
  path = _directory(pretrained)
  if os.path.exists(path):
    return os.path.isdir(path)
  return path.suffix not in formats.READERS and os.sep in pretrained


def _new_head(theirs: Sequence[str] | None, ours: Sequence[str]) -> str | None:
  """Returns why a head of `theirs` is not one of `ours`, or None if it is."""
  if theirs is None:
    return f"the run does not name its classes in {records.DATA_FILE}"
  return loading.other_classes("the run", theirs, ours)
