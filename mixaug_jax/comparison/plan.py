"""The arms, seeds and runs of a comparison."""

import contextlib
import copy
import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import records

if TYPE_CHECKING:
  from mixaug_jax.comparison.finished import FinishedRun

# Differences between arms are paired by seed and by test example, so the arms
# must agree in these keys.
_SHARED = ("seed", "data.", "evaluate.checkpoint")


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run of a comparison.

  Attributes:
    arm: the name of its arm.
    seed: the seed of the run.
    config: the resolved config of the run.
    workdir: the run directory.
  """

  arm: str
  seed: int
  config: ConfigDict
  workdir: pathlib.Path

  @property
  def name(self) -> str:
    return f"{self.arm}/{self.seed}"

  @property
  def log(self) -> pathlib.Path:
    """The file that holds what the run printed."""
    return self.workdir.with_suffix(".log")

  @property
  def finished(self) -> bool:
    return (self.workdir / records.RESULT_FILE).exists()

  @property
  def diverged(self) -> int | None:
    """The step at which the run diverged; None if it did not."""
    return None if self.finished else records.read_diverged(self.workdir)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Arms that are trained with the same seeds and measured on the same split.

  Attributes:
    arms: the overrides of each arm, nested as in the config; the baseline
      comes first.
    baseline: the arm that the others are measured against.
    goal: the hoped-for gain in accuracy, a fraction.
    pairs: two arms each; the first is also measured against the second.
    workdir: the directory of the comparison.
    cells: all runs, in the order in which they are trained: every arm with the
      first seed, then with the second, and so on, so that an interrupted
      comparison holds whole pairs.
  """

  arms: Mapping[str, ConfigDict]
  baseline: str
  goal: float
  pairs: tuple[tuple[str, str], ...]
  workdir: pathlib.Path
  cells: tuple[Cell, ...]

  def cell(self, name: str) -> Cell:
    """Returns the cell called `ARM/SEED`; raises UserError."""
    for cell in self.cells:
      if cell.name == name:
        return cell
    raise UserError(
      f"{name} is not a run of this comparison; it has the arms "
      f"{', '.join(self.arms)} and the seeds 0 to {self.cells[-1].seed}, as in "
      f"{self.cells[0].name}"
    )

  @property
  def unfinished(self) -> list[Cell]:
    """The cells that are still to be trained."""
    return [
      cell for cell in self.cells if not cell.finished and cell.diverged is None
    ]

  @property
  def diverged(self) -> dict[str, dict[int, int]]:
    """By arm and seed, the step at which a run diverged."""
    found: dict[str, dict[int, int]] = {}
    for cell in self.cells:
      if (step := cell.diverged) is not None:
        found.setdefault(cell.arm, {})[cell.seed] = step
    return found

  @property
  def planned(self) -> dict[str, list[int]]:
    """The seeds of every arm."""
    return {
      name: [cell.seed for cell in self.cells if cell.arm == name]
      for name in self.arms
    }

  @functools.cached_property
  def runs(self) -> "dict[str, dict[int, FinishedRun]]":
    """The finished runs by arm and seed, without the arms that have none.

    Raises:
      UserError: the baseline has no finished run, or a run is damaged.
    """
    from mixaug_jax.comparison import finished  # This imports JAX.

    found = finished.read(cell for cell in self.cells if cell.finished)
    steps = self.diverged.get(self.baseline, {})
    if self.baseline not in found and len(steps) == len(
      self.planned[self.baseline]
    ):
      raise UserError(
        f"all runs of {self.baseline}, which the other arms are measured "
        f"against, diverged; lower its learning rate, or delete "
        f"{self.workdir / self.baseline} to train it again"
      )
    if self.baseline not in found:
      raise UserError(
        f"no run of the arm {self.baseline} is finished, and the others are "
        "measured against it"
      )
    # In the order of the arms, whichever seed is missing.
    return {name: found[name] for name in self.arms if name in found}

  @property
  def first(self) -> "FinishedRun":
    """The first finished run of the baseline."""
    return next(iter(self.runs[self.baseline].values()))

  @property
  def split(self) -> str:
    """The split that arms are compared on, `test` or `validation`."""
    return self.first.split


def load(spec: str, overrides: Mapping[str, str]) -> ConfigDict:
  """Reads `configs/compare.py` or a file like it, with overrides.

  Args:
    spec: `PATH` or `PATH:DATASET`.
    overrides: dotted keys and their values as text. `arms.ARM.KEY` sets any
      key of `base` for one arm.

  Raises:
    UserError: a key or value that is wrong.
  """
  config = config_lib.read(spec)
  if missing := {"base", "arms", "baseline", "goal", "seeds"} - set(config):
    raise UserError(
      f"{spec} is not a comparison, because it has no {min(missing)!r}; name "
      "configs/compare.py or a file like it"
    )
  of_arms = {k: text for k, text in overrides.items() if k.startswith("arms.")}
  config_lib.override(
    config, {k: text for k, text in overrides.items() if k not in of_arms}
  )
  _override_arms(config, of_arms)
  if config.seeds < 1:
    raise UserError(f"config.seeds must be at least 1, got {config.seeds}")
  if not 0 < config.goal < 1:
    raise UserError(
      f"config.goal must be a fraction above 0 and below 1, got {config.goal}"
    )
  if config.baseline not in config.arms:
    raise UserError(
      f"config.baseline must be an arm ({', '.join(config.arms)}), got "
      f"{config.baseline!r}"
    )
  if len(config.arms) < 2:
    raise UserError("config.arms must hold the baseline and another arm")
  _pairs(config)
  return config.lock()


def _pairs(config: ConfigDict) -> tuple[tuple[str, str], ...]:
  """Reads `config.pairs`, such as `basic+cutmix:basic,basic+mixup:basic`."""
  pairs = []
  texts = config.get("pairs") or ""
  if texts == "auto":
    texts = ",".join(
      f"{name}:{name.rpartition('+')[0]}"
      for name in config.arms
      if name.rpartition("+")[0] in set(config.arms) - {config.baseline}
    )
  for text in filter(None, texts.split(",")):
    arm, colon, other = (part.strip() for part in text.partition(":"))
    if not colon or arm == other or not {arm, other} <= set(config.arms):
      raise UserError(
        f"config.pairs must be pairs ARM:OTHER of two of the arms "
        f"{', '.join(config.arms)}, separated by commas, got {text!r}"
      )
    if other == config.baseline:
      raise UserError(
        f"config.pairs: every arm is compared with {other} already; leave out "
        f"{text}"
      )
    pairs.append((arm, other))
  return tuple(dict.fromkeys(pairs))


def make(config: ConfigDict, workdir: pathlib.Path) -> Comparison:
  """Plans the runs of a comparison.

  Args:
    config: what `load` returned.
    workdir: the directory of the comparison.

  Raises:
    UserError: an arm that does not resolve, or a run of another config in
      the directory of a cell.
  """
  from mixaug_jax.training import pretrained  # This imports JAX.

  if workdir.exists() and not workdir.is_dir():
    raise UserError(f"{workdir} is a file; name a folder")
  # The baseline first; ConfigDict sorts the others by name.
  names = sorted(config.arms, key=lambda name: name != config.baseline)
  # One stored size for all arms, because all must see the same images.
  stored = max(config_lib.stored_size(_arm(config, name)) for name in names)
  resolved = {name: _resolved(config, name, stored) for name in names}
  cells = []
  for seed in range(config.seeds):
    for name in names:
      of_seed = resolved[name].copy_and_resolve_references()
      with of_seed.unlocked():
        of_seed.seed = seed
      of_run = workdir / name / f"seed_{seed}"
      cell = Cell(name, seed, pretrained.recalled(of_seed, of_run), of_run)
      records.finished_result(cell.config, cell.workdir)
      cells.append(cell)
  return Comparison(
    arms={name: config.arms[name] for name in names},
    baseline=config.baseline,
    goal=config.goal,
    pairs=_pairs(config),
    workdir=workdir,
    cells=tuple(cells),
  )


def _override_arms(config: ConfigDict, overrides: Mapping[str, str]) -> None:
  """Sets keys of arms, `arms.ARM.KEY`, from text."""
  by_arm: dict[str, dict[str, str]] = {}
  for key, text in overrides.items():
    name, _, leaf = key.removeprefix("arms.").partition(".")
    if name not in config.arms:
      known = [f"arms.{arm}" for arm in config.arms]
      raise UserError(config_lib.unknown_key(f"arms.{name}", known))
    if not leaf:
      raise UserError(
        f"config.arms.{name} is a group; set its keys one by one, as in "
        f"config.arms.{name}.mix.alpha=0.5"
      )
    by_arm.setdefault(name, {})[leaf] = text
  for name, texts in by_arm.items():
    arm = _arm(config, name)
    with _naming(name):
      config_lib.override(arm, texts)
    config.arms[name] = ConfigDict(config_lib.difference(config.base, arm))


def _arm(config: ConfigDict, name: str) -> ConfigDict:
  """The base config with the overrides of an arm, unchecked."""
  overrides = config.arms[name]
  if not isinstance(overrides, ConfigDict):
    raise UserError(
      f"config.arms.{name} must be a dict of the keys that it changes, such as "
      f"{{'mix': {{'alpha': 0.5}}}}, got {overrides!r}"
    )
  arm = copy.deepcopy(config.base)
  with arm.unlocked(), _naming(name):
    config_lib.update(arm, overrides)
  return arm


def _resolved(config: ConfigDict, name: str, stored: int) -> ConfigDict:
  """The config of an arm, for any seed, with a size of stored images."""
  if not re.fullmatch(r"[\w+-]+", name):
    raise UserError(
      f"config.arms: {name!r} must be the name of a folder, of letters, digits "
      "and + - _"
    )
  arm = _arm(config, name)
  for key in config_lib.leaves(config.arms[name]):
    if key.startswith(_SHARED):
      raise UserError(
        f"config.arms.{name}: {key} must be the same in all arms; set "
        f"config.base.{key} instead"
      )
  arm.data.cache_size = stored
  with _naming(name):
    return config_lib.resolve(arm)


@contextlib.contextmanager
def _naming(arm: str) -> Iterator[None]:
  """Puts the name of an arm before the sentence of a UserError."""
  try:
    yield
  except UserError as error:
    raise UserError(f"arm {arm}: {error}") from None
