"""The arms, seeds and runs of a comparison."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.comparison import arms as arms_lib
from mixaug_jax.comparison import tuning as tuning_lib
from mixaug_jax.data import label_sets
from mixaug_jax.errors import UserError
from mixaug_jax.training import records

if TYPE_CHECKING:
  from mixaug_jax.comparison.finished import FinishedRun


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run of a comparison.

  Attributes:
    arm: the name of its arm.
    seed: the seed of the run.
    workdir: the run directory.
    build: returns the resolved config of the run.
    trial: what it tries, if it is a trial.
  """

  arm: str
  seed: int
  workdir: pathlib.Path
  build: Callable[[], ConfigDict]
  trial: tuning_lib.Planned | None = None

  @functools.cached_property
  def config(self) -> ConfigDict:
    """The resolved config of the run. Raises UserError."""
    return self.build()

  @property
  def name(self) -> str:
    return f"{self.arm}/{self.trial.name if self.trial else self.seed}"

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
    cells: the runs that are compared, in the order in which they are trained:
      every arm with the first seed, then with the second, and so on, so that an
      interrupted comparison holds whole pairs. An arm has none before its
      recipes are chosen.
    trials: the runs that the recipes are chosen by, in the same order.
    design: `config.tune.design`, or None without tuning.
    space: the ranges of what is tuned, as text by key.
    choices: of the arms whose recipes are chosen, as chosen.json holds them.
    seeds: the number of seeds.
    views: the views of test-time augmentation, or None.
  """

  arms: Mapping[str, ConfigDict]
  baseline: str
  goal: float
  pairs: tuple[tuple[str, str], ...]
  workdir: pathlib.Path
  cells: tuple[Cell, ...]
  trials: tuple[Cell, ...]
  design: str | None
  space: Mapping[str, str]
  choices: Mapping[str, Sequence[tuning_lib.Choice]]
  seeds: int
  views: str | None

  def cell(self, name: str) -> Cell:
    """Returns the cell called `ARM/SEED` or `ARM/trial_NUMBER`.

    Raises:
      UserError: there is none, or its recipe is not chosen yet.
    """
    for cell in (*self.trials, *self.cells):
      if cell.name == name:
        return cell
    names = [f"{arm}/{seed}" for seed in range(self.seeds) for arm in self.arms]
    if name in names:
      raise UserError(f"the recipe of {name} is not chosen yet; {self.waiting}")
    raise UserError(
      f"{name} is not a run of this comparison; it has the arms "
      f"{', '.join(self.arms)} and the seeds 0 to {self.seeds - 1}, as in "
      f"{names[0]}"
      + (f", and trials, as in {self.trials[0].name}" if self.trials else "")
    )

  @property
  def unfinished(self) -> list[Cell]:
    """The runs that are compared and still to be trained."""
    return _unfinished(self.cells)

  @property
  def unfinished_trials(self) -> list[Cell]:
    """The trials that are still to be trained."""
    return _unfinished(self.trials)

  @property
  def waiting(self) -> str:
    """Returns which trials the recipes that are not chosen yet wait for."""
    left = self.unfinished_trials
    return (
      f"{len(left)} of {len(self.trials)} trials are not finished, such as "
      f"{left[0].name}; the same command without --only and --report_only "
      "trains them"
    )

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
    return {name: list(range(self.seeds)) for name in self.arms}

  @functools.cached_property
  def tuning(self) -> tuning_lib.Tuning | None:
    """The finished tuning; None without one. Raises UserError."""
    return tuning_lib.read(self) if self.trials else None

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
  def lengths(self) -> set[int]:
    """The steps of the finished runs, as planned; tuning gives them several."""
    return {
      run.result.planned_steps
      for of_arm in self.runs.values()
      for run in of_arm.values()
    }

  @property
  def first(self) -> "FinishedRun":
    """The first finished run of the baseline."""
    return next(iter(self.runs[self.baseline].values()))

  @property
  def best_by(self) -> str:
    """The figure by which trials and arms are chosen, `evaluate.best_by`."""
    return self.first.run.config.evaluate.best_by

  @property
  def split(self) -> str:
    """The split that arms are compared on, `test` or `validation`."""
    return self.first.split


def _unfinished(cells: Sequence[Cell]) -> list[Cell]:
  return [cell for cell in cells if not cell.finished and cell.diverged is None]


def make(
  config: ConfigDict,
  workdir: pathlib.Path,
  selected: Sequence[str] | None = None,
  *,
  check: bool = True,
) -> Comparison:
  """Plans the runs of a comparison.

  Args:
    config: what `arms.load` returned.
    workdir: the directory of the comparison.
    selected: the arms to compare with the baseline; None: all.
    check: whether to check all runs now, and not when they are used.

  Raises:
    UserError: an arm that does not exist or resolve, a run of another config
      in the directory of a cell, or choices of another tuning.
  """
  if workdir.exists() and not workdir.is_dir():
    raise UserError(f"{workdir} is a file; name a folder")
  _refuse_label_sets(config)
  # The baseline first; ConfigDict sorts the others by name.
  names = sorted(config.arms, key=lambda name: name != config.baseline)
  # One stored size for all arms, because all must see the same images.
  stored = max(
    config_lib.stored_size(arms_lib.of_arm(config, name)) for name in names
  )
  if selected is not None:
    names = _select(selected, names)

  def cell(
    name: str,
    seed: int,
    values: Mapping[str, str],
    trial: tuning_lib.Planned | None = None,
  ) -> Cell:
    folder = workdir / name / (trial.name if trial else f"seed_{seed}")

    def build() -> ConfigDict:
      from mixaug_jax.training import pretrained  # This imports JAX.

      of_run = arms_lib.resolved(config, name, stored, values)
      with of_run.unlocked():
        of_run.seed = seed
        of_run.data.test &= trial is None
      of_run = pretrained.recalled(of_run, folder)
      if records.differences(of_run, folder):
        from mixaug_jax.training import experiment

        experiment.check(of_run)  # A mistake in a value is reported first.
      records.finished_result(of_run, folder)
      return of_run

    return Cell(name, seed, folder, build, trial)

  trials: tuple[Cell, ...] = ()
  recipes: dict[str, list[dict[str, str]]] = {
    name: [{}] * config.seeds for name in names
  }
  choices = {}
  if tuned := arms_lib.tuned(config):
    if check:
      arms_lib.check_tuning(config)
    trials = tuple(
      cell(x.arm, x.seed, x.values, x)
      for x in tuning_lib.planned(config, names)
    )
    choices = tuning_lib.read_choices(config, workdir, names)
    recipes = tuning_lib.recipes(config, choices)
  comparison = Comparison(
    arms={name: config.arms[name] for name in names},
    baseline=config.baseline,
    goal=config.goal,
    pairs=tuple(x for x in arms_lib.pairs(config) if set(x) <= set(names)),
    workdir=workdir,
    cells=tuple(
      cell(name, seed, recipes[name][seed])
      for seed in range(config.seeds)
      for name in names
      if name in recipes
    ),
    trials=trials,
    design=config.tune.design if tuned else None,
    space=arms_lib.space_texts(config) if tuned else {},
    choices=choices,
    seeds=config.seeds,
    views=config.get("views"),
  )
  if check:
    _check_folders(comparison)
    of_runs = [each.config for each in (*trials, *comparison.cells)]
    if comparison.views:
      from mixaug_jax.comparison import with_views  # This imports JAX.

      with_views.check(comparison.views, of_runs[0])
  return comparison


def _refuse_label_sets(config: ConfigDict) -> None:
  """Raises UserError if images of an arm have several labels or none."""
  for name in config.arms:
    if key := label_sets.key(arms_lib.of_arm(config, name).data):
      raise UserError(
        f"compare measures arms by accuracy, and with config.base.data.{key} "
        "an image may have several labels or none; train each arm by itself "
        "and compare mean_average_precision in their result.json"
      )


def _check_folders(comparison: Comparison) -> None:
  """Raises UserError if runs are there before their recipes are chosen."""
  if not comparison.unfinished_trials:
    return
  for name in comparison.arms.keys() - comparison.choices.keys():
    for seed in range(comparison.seeds):
      folder = comparison.workdir / name / f"seed_{seed}"
      if (folder / records.CONFIG_FILE).exists():
        raise UserError(
          f"{folder} holds a run whose recipe was not tuned here; name another "
          "directory, or set config.tune.trials=0"
        )


def _select(selected: Sequence[str], names: Sequence[str]) -> list[str]:
  """Returns the baseline, which comes first in `names`, and selected arms."""
  selected = [name for name in selected if name]
  if unknown := [name for name in selected if name not in names]:
    raise UserError(
      f"--arms: {unknown[0]} is not an arm; the arms are {', '.join(names)}"
    )
  kept = [name for name in names if name in {names[0], *selected}]
  if len(kept) < 2:
    raise UserError(
      f"--arms names no arm beside the baseline, {names[0]}; the arms are "
      f"{', '.join(names)}"
    )
  return kept
