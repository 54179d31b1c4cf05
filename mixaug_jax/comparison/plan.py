"""The cells of a comparison: every arm with every seed."""

import copy
import dataclasses
import pathlib
import re
import shlex
from collections.abc import Mapping

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.command import flags
from mixaug_jax.errors import UserError
from mixaug_jax.training import records

# What must not differ between arms: their differences are paired by seed and
# by test example.
_SHARED = ("seed", "data.", "evaluate.checkpoint")


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run of a comparison.

  Attributes:
    arm: its name.
    seed: of the run.
    config: of the run, resolved.
    workdir: of the run.
  """

  arm: str
  seed: int
  config: ConfigDict
  workdir: pathlib.Path

  @property
  def name(self) -> str:
    return f"{self.arm}/{self.seed}"

  @property
  def finished(self) -> bool:
    return (self.workdir / records.RESULT_FILE).exists()


@dataclasses.dataclass(frozen=True)
class Plan:
  """A comparison.

  Attributes:
    cells: arms of the first seed, then of the second, and so on, so that an
      interrupted comparison holds whole pairs.
    arms: the overrides of each arm, as text.
    baseline: the arm that the others are measured by.
    goal: the hoped-for gain, a fraction.
    workdir: of the comparison.
    spec: the text of `--config`.
    overrides: those of the command line, by their keys.
  """

  cells: tuple[Cell, ...]
  arms: Mapping[str, str]
  baseline: str
  goal: float
  workdir: pathlib.Path
  spec: str
  overrides: Mapping[str, str]

  def command(self) -> list[str]:
    """The words after `python` that run this comparison."""
    changed = [f"--config.{key}={x}" for key, x in self.overrides.items()]
    return [
      *("-m", "mixaug_jax.compare", f"--config={self.spec}", *changed),
      f"--workdir={self.workdir}",
    ]

  def cell(self, name: str) -> Cell:
    """The cell called `ARM/SEED`; raises UserError."""
    for cell in self.cells:
      if cell.name == name:
        return cell
    raise UserError(
      f"--only={name} is no run of this comparison; it has the arms "
      f"{', '.join(self.arms)} and the seeds 0 to {self.cells[-1].seed}, as in "
      f"{self.cells[0].name}"
    )


def load(spec: str, overrides: Mapping[str, str]) -> ConfigDict:
  """Reads `configs/compare.py`, or another of its kind, with overrides.

  Raises:
    UserError: naming what is wrong.
  """
  config = config_lib.read(spec)
  if missing := {"base", "arms", "baseline", "goal", "seeds"} - set(config):
    raise UserError(
      f"--config={spec} is no comparison, it lacks {min(missing)!r}; name "
      "configs/compare.py, or a file like it"
    )
  config_lib.override(config, overrides)
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
  return config.lock()


def make(
  config: ConfigDict,
  workdir: pathlib.Path,
  spec: str,
  overrides: Mapping[str, str],
) -> Plan:
  """The cells of a comparison.

  Args:
    config: what `load(spec, overrides)` returned.
    workdir: of the comparison.
    spec: the text of `--config`.
    overrides: those of the command line.

  Raises:
    UserError: an arm that does not resolve, or a run of another config in
      the directory of a cell.
  """
  if workdir.exists() and not workdir.is_dir():
    raise UserError(f"--workdir={workdir} is a file; name a folder")
  arms = {name: _arm(config, name) for name in config.arms}
  # The baseline first, then in the order of the file.
  names = sorted(arms, key=lambda name: name != config.baseline)
  cells = []
  for seed in range(config.seeds):
    for name in names:
      of_seed = arms[name].copy_and_resolve_references()
      with of_seed.unlocked():
        of_seed.seed = seed
      cell = Cell(name, seed, of_seed, workdir / name / f"seed_{seed}")
      records.finished_result(cell.config, cell.workdir)
      cells.append(cell)
  texts = {name: config.arms[name] for name in names}
  return Plan(
    *(tuple(cells), texts, config.baseline, config.goal),
    *(workdir, spec, overrides),
  )


def _arm(config: ConfigDict, name: str) -> ConfigDict:
  """The config of an arm, for any seed."""
  if not re.fullmatch(r"[\w+-][\w.+-]*", name):
    raise UserError(
      f"config.arms: {name!r} names a folder; use letters, digits, + - _ ."
    )
  try:
    words = shlex.split(config.arms[name])
  except ValueError as error:
    raise UserError(f"config.arms.{name}: {error}") from None
  if wrong := [word for word in words if "=" not in word]:
    raise UserError(f"config.arms.{name}: {wrong[0]!r} must be KEY=VALUE")
  _, overrides = flags.split_overrides([f"--config.{word}" for word in words])
  if shared := [key for key in overrides if key.startswith(_SHARED)]:
    raise UserError(
      f"config.arms.{name}: {shared[0]} must be the same in all arms; set "
      f"--config.base.{shared[0]} instead"
    )
  arm = copy.deepcopy(config.base)
  with arm.unlocked():
    try:
      config_lib.override(arm, overrides)
      return config_lib.resolve(arm)
    except UserError as error:
      raise UserError(f"arm {name}: {error}") from None
