"""The trials of a comparison, and the recipes that are chosen by them.

Every arm has the same number of trials on the same points of the shared
hyperparameters. A trial is a run that leaves the test set unread. The recipe of
the highest `evaluate.best_by` on validation is chosen. Trials are grouped into
studies: a study has a seed of its own, and its choice is trained with a fresh
seed.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import files
from mixaug_jax.comparison import arms, space
from mixaug_jax.errors import UserError
from mixaug_jax.training import length, records
from mixaug_jax.training.result import Result, from_json

if TYPE_CHECKING:
  from mixaug_jax.comparison.plan import Cell, Comparison

CHOSEN_FILE = "chosen.json"


@dataclasses.dataclass(frozen=True)
class Choice:
  """The recipe that a study chose, as chosen.json holds it.

  Attributes:
    trial: the number of the trial.
    as_written: whether it is the recipe as it is written.
    validation_accuracy: of the trial.
    values: of what is tuned, by key.
  """

  trial: int
  as_written: bool
  validation_accuracy: float
  values: dict[str, int | float | bool | str | None]


@dataclasses.dataclass(frozen=True)
class Planned:
  """A trial that is still to be trained.

  Attributes:
    arm: the name of its arm.
    number: see `Trial`.
    study: see `Trial`.
    seed: see `Trial`.
    values: as in `Trial`, but as text, and empty for the recipe as written.
    places: see `Trial`.
    keys: the names of the hyperparameters that are tuned.
  """

  arm: str
  number: int
  study: int
  seed: int
  values: Mapping[str, str]
  places: Mapping[str, float]
  keys: tuple[str, ...]

  @property
  def name(self) -> str:
    return f"trial_{self.number:02}"


@dataclasses.dataclass(frozen=True)
class Trial:
  """A finished trial.

  Attributes:
    arm: the name of its arm.
    number: its number in its arm, from 0 over all studies. Trials of the same
      number have the same values of the hyperparameters that their arms share.
    study: the study that it belongs to.
    seed: of the run.
    values: the value of each hyperparameter that is tuned, by its dotted key.
    places: the place of each value in its range, in [0, 1); empty for the first
      trial of a study, which is the recipe as it is written.
    accuracy: on validation, with the weights that are compared; the accuracy of
      chance if it diverged.
    score: the same of `evaluate.best_by`, by which trials are chosen.
    loss: the same, in nats; None if it diverged.
    correct: which examples of validation are classified correctly, bool `[N]`;
      a share of chance if it diverged.
    steps: of its training, as planned.
    seconds: of its training; None if it diverged.
    diverged: the step at which it diverged, or None.
    stopped_early: the step at which it stopped early, or None.
  """

  arm: str
  number: int
  study: int
  seed: int
  values: Mapping[str, Any]
  places: Mapping[str, float]
  accuracy: float
  score: float
  loss: float | None
  correct: np.ndarray
  steps: int
  seconds: float | None
  diverged: int | None
  stopped_early: int | None = None

  @property
  def trained(self) -> int:
    """The steps that it was trained for."""
    ends = (self.diverged, self.stopped_early)
    return next((step for step in ends if step is not None), self.steps)


@dataclasses.dataclass(frozen=True)
class Tuning:
  """The finished tuning of a comparison.

  Attributes:
    design: `studies`, one for each seed, or `fixed`, one for all seeds.
    space: the range of each hyperparameter as text, such as `log 0.03 1`, by
      its dotted key.
    trials: the trials by arm and study.
    chosen: the trial that each study chose, by arm.
    best_by: the figure that it was chosen by, `evaluate.best_by`.
  """

  design: str
  space: Mapping[str, str]
  trials: Mapping[str, tuple[tuple[Trial, ...], ...]]
  chosen: Mapping[str, tuple[Trial, ...]]
  best_by: str = "accuracy"


def planned(config: ConfigDict, names: Sequence[str]) -> list[Planned]:
  """Returns the trials of all arms: those of the first number come first.

  Args:
    config: what `arms.load` returned.
    names: the arms.
  """
  ranges = {name: arms.ranges(config, name) for name in names}
  # All arms have the places of all ranges, so that those they share agree.
  everywhere = space.parse(config.tune.space, config.base)
  count, studies = config.tune.trials, arms.studies(config)
  share = count // studies
  # A recipe as it is written uses no point. Points that it skipped would all be
  # of one stratum, in a dimension whose base divides `share`.
  unused = iter(space.points(everywhere, count - studies))
  trials = []
  for number in range(count):
    point = next(unused) if number % share else {}
    for name in names:
      of_arm = ranges[name] if point else ()
      trials.append(
        Planned(
          arm=name,
          number=number,
          study=number // share,
          # The seeds before are those of the runs that are compared.
          seed=config.seeds + number // share,
          values={each.key: each.at(point[each.key]) for each in of_arm},
          places={each.key: point[each.key] for each in of_arm},
          keys=tuple(each.key for each in ranges[name]),
        )
      )
  return trials


def read(comparison: "Comparison") -> Tuning:
  """Reads the finished trials of a comparison, and what they choose.

  Choices that chosen.json holds stand, because runs were trained with them.

  Raises:
    UserError: a trial is not finished, or damaged.
  """
  if comparison.unfinished_trials:
    raise UserError(comparison.waiting)
  found: dict[str, list[list[Trial]]] = {name: [] for name in comparison.arms}
  result = _any_result(comparison)
  for cell in comparison.trials:
    of_arm = found[cell.arm]
    trial = _read(cell, result)
    if len(of_arm) == trial.study:
      of_arm.append([])
    of_arm[-1].append(trial)
  trials = {name: tuple(map(tuple, of_arm)) for name, of_arm in found.items()}
  chosen = {name: tuple(map(_best, of_arm)) for name, of_arm in trials.items()}
  for name, choices in comparison.choices.items():
    chosen[name] = tuple(
      next(trial for trial in study if trial.number == choice.trial)
      for study, choice in zip(trials[name], choices, strict=True)
    )
  assert comparison.design is not None  # There are trials.
  return Tuning(
    design=comparison.design,
    space=comparison.space,
    trials=trials,
    chosen=chosen,
    best_by=comparison.trials[0].config.evaluate.best_by,
  )


def choose(comparison: "Comparison", config: ConfigDict) -> None:
  """Writes chosen.json, with the recipe of every arm and study.

  Args:
    comparison: all its trials are finished or diverged.
    config: what it was planned from.

  Raises:
    UserError: a trial is damaged, or the file is of another tuning.
  """
  recipes = {
    name: [
      dataclasses.asdict(
        Choice(
          trial=trial.number,
          as_written=not trial.places,
          validation_accuracy=trial.accuracy,
          values=dict(trial.values),
        )
      )
      for trial in of_arm
    ]
    for name, of_arm in read(comparison).chosen.items()
  }
  path = comparison.workdir / CHOSEN_FILE
  older = {
    name: [dataclasses.asdict(choice) for choice in of_arm]
    for name, of_arm in _read_chosen(config, path).items()
  }
  content = _header(config) | {"arms": older | recipes}
  records.write_text(path, json.dumps(content, indent=2) + "\n")


def read_choices(
  config: ConfigDict, workdir: pathlib.Path, names: Sequence[str]
) -> dict[str, tuple[Choice, ...]]:
  """Returns the choices of each study by arm, for the arms that have them.

  Raises:
    UserError: chosen.json is damaged, or of another tuning.
  """
  chosen = _read_chosen(config, workdir / CHOSEN_FILE)
  return {name: chosen[name] for name in names if name in chosen}


def recipes(
  config: ConfigDict, choices: Mapping[str, Sequence[Choice]]
) -> dict[str, list[dict[str, str]]]:
  """Returns the tuned values of each seed by arm, as text by key.

  Args:
    config: what `arms.load` returned.
    choices: of each study by arm.
  """
  each = 1 if config.tune.design == "studies" else config.seeds
  return {
    name: [{} if x.as_written else _texts(x.values) for x in of_arm] * each
    for name, of_arm in choices.items()
  }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
  """Returns values as `config.override` reads them."""
  plain = lambda x: str(x).lower() if x is None or x in (True, False) else x
  return {key: str(plain(value)) for key, value in values.items()}


def _header(config: ConfigDict) -> dict[str, Any]:
  """Returns what choices depend on beside the configs of the trials."""
  tune = config.tune
  return {
    "design": tune.design,
    "trials": tune.trials,
    "seeds": config.seeds,
    "space": arms.space_texts(config),
  }


def _read_chosen(
  config: ConfigDict, path: pathlib.Path
) -> dict[str, tuple[Choice, ...]]:
  """Reads chosen.json; returns nothing without one."""
  try:
    content = json.loads(files.read_text(path))
    found = from_json(dict[str, tuple[Choice, ...]], content["arms"])
  except FileNotFoundError:
    return {}
  except OSError as error:
    raise UserError(f"cannot read {path}: {error.strerror}") from None
  except (ValueError, KeyError, TypeError):
    raise _damaged(path) from None
  here = _header(config)
  if changed := [key for key in here if content.get(key) != here[key]]:
    raise UserError(
      f"{path} holds the choices of another tuning; it differs in "
      f"{', '.join(changed)}; name another directory"
    )
  share = config.tune.trials // arms.studies(config)
  studies = list(range(arms.studies(config)))
  for of_arm in found.values():
    if [choice.trial // share for choice in of_arm] != studies:
      raise _damaged(path)
  return found


def _damaged(path: pathlib.Path) -> UserError:
  return UserError(
    f"{path} is damaged; delete it, and the same command chooses again"
  )


def _any_result(comparison: "Comparison") -> Result:
  """Returns the result of a trial; raises UserError if all diverged."""
  for cell in comparison.trials:
    if result := records.read_result(cell.workdir):
      return result
  raise UserError(
    f"all trials in {comparison.workdir} diverged; lower the learning rates of "
    "config.tune.space, and name another directory"
  )


def _read(cell: "Cell", like: Result) -> Trial:
  """Reads a trial that is finished or diverged.

  Args:
    cell: the trial.
    like: the result of another one.
  """
  from mixaug_jax import runs  # This imports JAX.
  from mixaug_jax.analysis import calibration

  leaves, planned = config_lib.leaves(cell.config), cell.trial
  assert planned is not None  # The cell is a trial.
  make = functools.partial(
    Trial,
    arm=cell.arm,
    number=planned.number,
    study=planned.study,
    seed=cell.seed,
    values={key: leaves[key] for key in planned.keys},
    places=planned.places,
  )
  if (step := cell.diverged) is not None:
    chance = 1 / len(like.class_names)
    return make(
      accuracy=chance,
      score=chance,
      loss=None,
      correct=np.full(like.examples.validation, chance),
      steps=length.steps(cell.config, like.examples.train),
      seconds=None,
      diverged=step,
    )
  run = runs.open_run(cell.workdir)
  predictions = run.predictions("validation")
  correct = calibration.correct(predictions.logits, predictions.labels)
  return make(
    accuracy=float(correct.mean()),
    score=(
      calibration.balanced_accuracy(predictions.logits, predictions.labels)
      if cell.config.evaluate.best_by == "balanced_accuracy"
      else float(correct.mean())
    ),
    loss=run.likelihood.loss(predictions.logits, predictions.labels),
    correct=correct,
    steps=run.result.planned_steps,
    seconds=run.result.seconds,
    diverged=None,
    stopped_early=run.result.steps if run.result.stopped_early else None,
  )


def _best(trials: Sequence[Trial]) -> Trial:
  """Returns the trial of the highest score, then of the lowest loss.

  A trial that diverged is chosen only if all did.
  """

  def merit(trial: Trial) -> tuple[bool, float, float]:
    loss = math.inf if trial.loss is None else trial.loss
    loss = loss if math.isfinite(loss) else math.inf
    return trial.diverged is None, trial.score, -loss

  return max(trials, key=merit)
