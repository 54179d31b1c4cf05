"""The numbers of a comparison, from the predictions of all runs."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration, statistics
from mixaug_jax.comparison import words
from mixaug_jax.comparison.finished import FinishedRun

# A loss has settled if it changes, from the second last fifth of training to
# the last, by less than this share of its fall or this number of standard
# errors.
_SETTLED, _ERRORS = 0.1, 2.0
_LEVEL = 0.95
# What `calibration.measures` returns beside the accuracy.
_FRACTIONS = (
  *("balanced_accuracy", "top5_accuracy", "calibration_error"),
  *("calibration_error_by_chance", "calibration_error_scaled"),
)
_NUMBERS = ("loss", "temperature")

Runs = Mapping[str, Mapping[int, FinishedRun]]
Seeds = Mapping[str, Mapping[int, int]]


def summarise(
  runs: Runs,
  baseline: str,
  goal: float,
  diverged: Seeds,
  planned: Mapping[str, Collection[int]],
  references: Mapping[str, Mapping[int, np.ndarray]] | None = None,
  pairs: Sequence[tuple[str, str]] = (),
  chosen_on: Mapping[str, float] | None = None,
  best_by: str = "accuracy",
) -> dict[str, Any]:
  """Returns all numbers of a comparison, as JSON.

  Args:
    runs: the finished runs by arm and seed, all on the same examples of test,
      or those of a seed on the same examples of validation.
    baseline: an arm with at least one finished run.
    goal: the hoped-for gain in accuracy, a fraction.
    diverged: by arm and seed, the step at which a run diverged. Such a run
      counts with the accuracy of chance, so that no arm gains by losing it.
    planned: the seeds of every arm.
    references: of other classifiers, by name and seed, whether each prediction
      is correct, bool `[N]`.
    pairs: two arms each; the first is also measured against the second.
    chosen_on: the score of each arm on other networks than those of `runs`, by
      which the best arm is chosen.
    best_by: the figure that is the score, `accuracy` or `balanced_accuracy`.

  Returns:
    `baseline`, `goal` and `best_by`; `target_accuracy`, the mean of the
    baseline's last accuracy on validation; `examples`, their number, or None if
    it differs between seeds; `chance`, the accuracy of a run that diverged;
    `references`, the accuracy of each, and the arms that are clearly below it;
    `best`, see `_best`; `unfinished`, the seeds that are missing, by arm;
    `arms` by name, see `_arm` and `_against`; and `pairs`, the same of
    `_against` for each pair. None stands for a number that cannot be known.

  Raises:
    ValueError: the runs were measured on different examples.
  """
  first = next(iter(runs[baseline].values()))
  measured_on: dict[int | None, np.ndarray] = {}
  for of_arm in runs.values():
    for seed, run in of_arm.items():
      # Each seed may draw a validation split of its own.
      key = None if run.split == "test" else seed
      ids = measured_on.setdefault(key, run.compared.ids)
      if not np.array_equal(run.compared.ids, ids):
        raise ValueError("the runs were measured on different examples")
  target = _mean(
    _last_accuracy(run.result.validation) for run in runs[baseline].values()
  )
  measured = {
    name: {seed: run.correct for seed, run in runs.get(name, {}).items()}
    | {seed: chance(runs, seed) for seed in diverged.get(name, {})}
    for name in planned
  }
  outcomes = {
    name: dict(sorted(of_arm.items())) for name, of_arm in measured.items()
  }
  arms = {
    name: _arm(runs.get(name, {}), of_arm, diverged.get(name, {}), target)
    for name, of_arm in outcomes.items()
    if of_arm
  }
  wanted = [(name, baseline) for name in arms if name != baseline]
  wanted += [pair for pair in pairs if arms.keys() >= set(pair)]
  gains = _gains(wanted, outcomes, planned, goal)
  for name in arms:
    arms[name] |= gains.get((name, baseline), {})
  return {
    "baseline": baseline,
    "goal": goal,
    "best_by": best_by,
    "target_accuracy": target,
    "examples": _one({len(ids) for ids in measured_on.values()}),
    "chance": 1 / len(first.result.class_names),
    "references": {
      name: {
        **accuracy(list(correct.values())),
        "below": [n for n in runs if _is_below(outcomes[n], correct)],
      }
      for name, correct in (references or {}).items()
    },
    "best": _best(runs, baseline, diverged, planned, chosen_on, best_by),
    "unfinished": {
      name: missing
      for name, seeds in planned.items()
      if (missing := sorted(set(seeds) - outcomes[name].keys()))
    },
    "arms": arms,
    "pairs": [
      {"arm": name, "other": other, **gain}
      for (name, other), gain in gains.items()
      if other != baseline
    ],
  }


def chance(runs: Runs, seed: int) -> np.ndarray:
  """Returns what counts for a run of a seed that diverged, `[N]`."""
  alike = [of_arm[seed] for of_arm in runs.values() if seed in of_arm]
  # Without a finished run of the seed, nothing depends on N.
  run = next(iter(alike or next(iter(runs.values())).values()))
  return np.full(len(run.correct), 1 / len(run.result.class_names))


def _one(values: Collection[int]) -> int | None:
  """Returns the value if there is only one."""
  return next(iter(values)) if len(values) == 1 else None


def _last_accuracy(validation: Any) -> float:
  """Returns the last accuracy; a comparison has one class an image."""
  return validation.last.accuracy


def _best(
  runs: Runs,
  baseline: str,
  diverged: Seeds,
  planned: Mapping[str, Collection[int]],
  chosen_on: Mapping[str, float] | None,
  best_by: str,
) -> str:
  """Returns the arm of the highest score on validation.

  With `chosen_on`, the scores there decide among the arms with a finished run,
  and the scores of the runs play no part: they would flatter.

  Without, it is the mean over the seeds, with the weights that are compared; a
  run that diverged has the accuracy of chance. Arms with runs that are missing
  are passed over if others have none, because the missing ones might be the bad
  ones. The baseline is returned if no other arm has a finished run.
  """

  def mean(name: str) -> float:
    results = [run.result for run in runs[name].values()]
    chance = [1 / len(results[0].class_names)] * len(diverged.get(name, ()))
    return _mean(
      [getattr(getattr(r.validation, r.chosen), best_by) for r in results]
      + chance
    )

  others = [name for name in runs if name != baseline]
  if chosen_on:
    return max(others or [baseline], key=chosen_on.__getitem__)
  whole = [
    name
    for name in others
    if len(runs[name]) + len(diverged.get(name, ())) == len(planned[name])
  ]
  return max(whole or others or [baseline], key=mean)


def _is_below(
  arm: Mapping[int, np.ndarray], reference: Mapping[int, np.ndarray]
) -> bool:
  """Returns whether the interval of the difference lies below zero."""
  seeds = sorted(arm.keys() & reference.keys())
  if not seeds:
    return False
  difference = statistics.difference(
    [arm[s] for s in seeds], [reference[s] for s in seeds]
  )
  return difference.interval(_LEVEL, -1, 1).high < 0


def _arm(
  runs: Mapping[int, FinishedRun],
  outcomes: Mapping[int, np.ndarray],
  diverged: Mapping[int, int],
  target: float,
) -> dict[str, Any]:
  """The figures of an arm over its seeds.

  The accuracy is that of all outcomes, the other figures are those of the
  finished runs, and None without any.
  """
  data = list(runs.values())
  measured = [_measures(run) for run in data]
  results = [run.result for run in data]
  each = lambda name: [x for m in measured if (x := m[name]) is not None]
  times = (_seconds_to(run, target) for run in data)
  reached = [seconds for seconds in times if seconds is not None]
  return {
    "loss_name": data[0].run.likelihood.loss_name if data else None,
    "seeds": sorted(outcomes),
    "diverged": {str(seed): step for seed, step in diverged.items()},
    "stopped_early": {
      str(seed): run.result.steps
      for seed, run in runs.items()
      if run.result.stopped_early
    },
    "accuracy": accuracy(list(outcomes.values()), bool(runs)),
    **{name: interval(each(name)) for name in _FRACTIONS},
    **{name: interval(each(name), most=np.inf) for name in _NUMBERS},
    "validation": {
      which: interval([getattr(r.validation, which).accuracy for r in results])
      if all(getattr(r.validation, which) for r in results)
      else None
      for which in ("last", "best", "ema")
    },
    # A class without examples has no accuracy with any seed.
    "per_class": [
      _known(x) for x in np.mean([_per_class(run) for run in data], axis=0)
    ]
    if data
    else None,
    "seconds": _mean_or_none([r.seconds for r in results]),
    "compile_seconds": _mean_or_none([r.compile_seconds for r in results]),
    "images_per_second": _mean_or_none([r.images_per_second for r in results]),
    # The mean of the runs that reach it, and how many do.
    "seconds_to_target": _mean_or_none(reached),
    "reached_target": len(reached),
    "convergence": [convergence(run.rows) for run in data],
  }


def accuracy(
  correct: Sequence[np.ndarray], measured: bool = True
) -> dict[str, Any]:
  """Returns a mean over seeds; without an interval if it is not measured."""
  estimate = statistics.accuracy(correct).interval(_LEVEL, 0, 1)
  if not measured:
    estimate = estimate._replace(low=np.nan, high=np.nan)
  return _as_dict(estimate, [float(of_seed.mean()) for of_seed in correct])


def _measures(run: FinishedRun) -> dict[str, float | None]:
  """The measures of a run; a temperature is fitted on other images or none."""
  fitted_on = run.validation.logits, run.validation.labels
  return calibration.measures(
    run.compared.logits,
    run.compared.labels,
    run.run.likelihood,
    fitted_on if run.split == "test" else None,
  )


def _per_class(run: FinishedRun) -> np.ndarray:
  logits, labels = run.compared.logits, run.compared.labels
  return calibration.per_class_accuracy(logits, labels, logits.shape[1])


def _gains(
  pairs: Sequence[tuple[str, str]],
  outcomes: Mapping[str, Mapping[int, np.ndarray]],
  planned: Mapping[str, Collection[int]],
  goal: float,
) -> dict[tuple[str, str], dict[str, Any]]:
  """Compares the two arms of each pair; the tests are adjusted for them all."""
  gains = differences(
    {(a, other): (outcomes[a], outcomes[other]) for a, other in pairs}
  )
  for (name, other), gain in gains.items():
    unfinished = [
      f"{each}/{seed}"
      for each in (other, name)
      for seed in sorted(set(planned[each]) - outcomes[each].keys())
    ]
    difference = gain["difference"]
    gain["verdict"] = words.verdict(
      name, other, difference, goal=goal, unfinished=unfinished
    )
    decided = difference and len(difference["each"]) > 1 and not unfinished
    gain["goal"] = (
      words.goal_state(difference["simultaneous"], goal) if decided else None
    )
  return gains


def differences(
  compared: Mapping[
    Any, tuple[Mapping[int, np.ndarray], Mapping[int, np.ndarray]]
  ],
) -> dict[Any, dict[str, Any]]:
  """Compares classifiers two by two; the tests are adjusted for all pairs.

  Args:
    compared: pairs; of either, by seed, whether each prediction is correct,
      `[N]`, or the share of chance.

  Returns:
    By the keys of `compared`, `difference` (None without a common seed), see
    `_adjust`, and `mcnemar`, as JSON.
  """
  gains = {key: _against(*pair) for key, pair in compared.items()}
  _adjust(gains.values())
  return gains


def _against(
  ours: Mapping[int, np.ndarray],
  theirs: Mapping[int, np.ndarray],
) -> dict[str, Any]:
  """Compares an arm with another one, on the seeds that both have.

  McNemar's test is about two trained networks, and needs both.
  """
  seeds = sorted(ours.keys() & theirs.keys())
  if not seeds:
    return {"difference": None, "mcnemar": {}}
  difference = statistics.difference(
    [ours[s] for s in seeds], [theirs[s] for s in seeds]
  )
  tests = {
    seed: statistics.mcnemar(ours[seed], theirs[seed])
    for seed in seeds
    if ours[seed].dtype == theirs[seed].dtype == bool
  }
  return {
    "difference": {
      "estimate": difference,
      "each": [float(ours[s].mean() - theirs[s].mean()) for s in seeds],
      "seeds": seeds,
    },
    "mcnemar": {
      str(seed): {"gained": t.gained, "lost": t.lost, "p_value": t.p_value}
      for seed, t in tests.items()
    },
  }


def _adjust(gains: Collection[dict[str, Any]]) -> None:
  """Adjusts the tests by Holm over all, and the intervals with them.

  `simultaneous` is the interval of Bonferroni, which holds for all differences
  at once. Those of Holm's levels do only as tests against zero.
  """
  for seed in {seed for gain in gains for seed in gain["mcnemar"]}:
    tests = [gain["mcnemar"][seed] for gain in gains if seed in gain["mcnemar"]]
    adjusted = statistics.holm([test["p_value"] for test in tests])
    for test, p in zip(tests, adjusted, strict=True):
      test["p_holm"] = float(p)
  compared = [x for gain in gains if (x := gain["difference"])]
  # One seed has an interval of the images, but no test.
  tested = [x for x in compared if x["estimate"].seeds > 1]
  p_values = [x["estimate"].p_value for x in tested]
  everywhere = 1 - (1 - _LEVEL) / max(1, len(tested))
  adjusted = statistics.holm(p_values)
  levels = statistics.holm_levels(p_values, _LEVEL)
  for difference in compared:
    difference |= {"level": _LEVEL, "p_value": None, "p_holm": None}
  for difference, p, corrected, level in zip(
    tested, p_values, adjusted, levels, strict=True
  ):
    difference |= {"level": level, "p_value": p, "p_holm": float(corrected)}
  for difference in compared:
    estimate = difference.pop("estimate")
    interval = estimate.interval(difference["level"], -1, 1)
    difference |= interval._asdict()
    bounds = estimate.interval(everywhere, -1, 1)
    difference["simultaneous"] = (
      {"level": everywhere, "low": bounds.low, "high": bounds.high}
      if difference["p_value"] is not None
      else None
    )


def convergence(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Measures whether the training loss fell and settled.

  Args:
    rows: the lines of metrics.jsonl.

  Returns:
    `first` and `last`: the mean loss over the first and the last fifth of the
    lines. `moved`: the change from the second last fifth to the last, as a
    share of the fall. `settled`: the loss is finite, fell, and moved by less
    than 10 %, or by less than two standard errors, because the losses of mixed
    batches are noisy. All are None with fewer than two lines.
  """
  losses = np.array(
    [r["loss"] for r in rows if r["split"] == "train" and "loss" in r]
  )
  if len(losses) < 2:
    return dict.fromkeys(["first", "last", "moved", "settled"])
  fifth = max(1, len(losses) // 5)
  first, before, last = (
    losses[:fifth],
    losses[-2 * fifth : -fifth],
    losses[-fifth:],
  )
  fall = first.mean() - last.mean()
  change = abs(last.mean() - before.mean())
  error = np.sqrt((before.var() + last.var()) / fifth)
  settled = fall > 0 and change < max(_SETTLED * fall, _ERRORS * error)
  return {
    "first": float(first.mean()),
    "last": float(last.mean()),
    "moved": float(change / fall) if fall > 0 else None,
    "settled": bool(settled and np.isfinite(losses).all()),
  }


def confusions(runs: Mapping[int, FinishedRun]) -> np.ndarray:
  """Returns the confusion matrix over all seeds, int `[C, C]`."""
  each = [
    calibration.confusions(p.logits, p.labels, p.logits.shape[1])
    for p in (run.compared for run in runs.values())
  ]
  return np.sum(each, axis=0)


def losses(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Returns the names of the losses of all arms, each once."""
  names = (arm["loss_name"] for arm in arms.values())
  return list(dict.fromkeys(filter(None, names)))


def interval(
  values: Sequence[float], most: float = 1.0
) -> dict[str, Any] | None:
  """Returns a mean, its 95 % interval over seeds and the values, as JSON.

  Args:
    values: one for each seed, at least 0; the result is None without any.
    most: the highest possible value.
  """
  if not values:
    return None
  mean, low, high = statistics.mean_interval(values, _LEVEL)
  ends = np.clip([low, high], 0, most)  # NaN stays NaN.
  return _as_dict(statistics.Interval(mean, *ends), values)


def _seconds_to(run: FinishedRun, target: float) -> float | None:
  """Seconds of training until the first evaluation that reaches `target`."""
  result = run.result
  for row in run.rows:
    if row["split"] == "validation" and row["accuracy"] >= target:
      return row["step"] / result.steps * result.seconds
  return None


def _as_dict(
  estimate: statistics.Interval, each: Sequence[float]
) -> dict[str, Any]:
  return {
    "mean": _known(estimate.mean),
    "low": _known(estimate.low),
    "high": _known(estimate.high),
    "each": [_known(x) for x in each],
  }


def _known(x: float) -> float | None:
  return None if math.isnan(x) else float(x)


def _mean(values: Iterable[float]) -> float:
  return float(np.mean(list(values)))


def _mean_or_none(values: Sequence[float | None]) -> float | None:
  """The mean; None without values, or if one is missing."""
  known = [x for x in values if x is not None]
  return _mean(known) if known and len(known) == len(values) else None
