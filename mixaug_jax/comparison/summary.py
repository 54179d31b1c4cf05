"""From the predictions of all runs to the numbers of a comparison."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration, statistics
from mixaug_jax.comparison import words
from mixaug_jax.comparison.finished import FinishedRun

# A run has settled when its loss moves less than this share of its fall, or
# than so many standard errors, from the last fifth but one to the last.
_SETTLED, _ERRORS = 0.1, 2.0


Runs = Mapping[str, Mapping[int, FinishedRun]]


def summarise(runs: Runs, baseline: str, goal: float) -> dict[str, Any]:
  """All numbers of a comparison; JSON, with None for what cannot be known.

  Args:
    runs: by arm and seed; the examples of all are the same.
    baseline: an arm with at least one run.
    goal: the hoped-for gain in accuracy, a fraction.

  Returns:
    `baseline`, `goal`, `seeds`, `best` (the arm of the highest mean accuracy
    on validation, so that its gain on test is not picked by the test) and
    `arms`, by name; see `_arm`.

  Raises:
    ValueError: runs on different examples.
  """
  first = next(iter(runs[baseline].values()))
  for of_arm in runs.values():
    for run in of_arm.values():
      if not np.array_equal(run.compared.ids, first.compared.ids):
        raise ValueError("the runs were measured on different examples")
  target = _mean(
    run.result.validation.last.accuracy for run in runs[baseline].values()
  )
  arms = {name: _arm(of_arm, target) for name, of_arm in runs.items()}
  for name in runs:
    if name != baseline:
      arms[name] |= _against(runs[name], runs[baseline], name, baseline, goal)
  _adjust(arms)
  chosen = [name for name in arms if name != baseline] or [baseline]
  return {
    "baseline": baseline,
    "goal": goal,
    "target_accuracy": target,
    "examples": len(first.correct),
    "best": max(chosen, key=lambda n: arms[n]["validation"]["best"]["mean"]),
    "arms": arms,
  }


def _arm(runs: Mapping[int, FinishedRun], target: float) -> dict[str, Any]:
  """The measures of an arm over its seeds."""
  seeds, data = list(runs), list(runs.values())
  measured = [_measures(run) for run in data]
  names = measured[0].keys()
  results = [run.result for run in data]
  return {
    "seeds": seeds,
    **{name: interval([m[name] for m in measured]) for name in names},
    "validation": {
      which: interval([getattr(r.validation, which).accuracy for r in results])
      if all(getattr(r.validation, which) for r in results)
      else None
      for which in ("last", "best", "ema")
    },
    # A class without an example has no accuracy, with any seed.
    "per_class": [
      _known(x) for x in np.mean([_per_class(run) for run in data], axis=0)
    ],
    "seconds": _mean(r.seconds for r in results),
    "compile_seconds": _mean(r.compile_seconds for r in results),
    "images_per_second": _mean(r.images_per_second for r in results),
    "seconds_to_target": _mean_or_none(
      [_seconds_to(run, target) for run in data]
    ),
    "convergence": [convergence(run.rows) for run in data],
  }


def _measures(run: FinishedRun) -> dict[str, float]:
  logits, labels = run.compared.logits, run.compared.labels
  temperature = calibration.fit_temperature(
    run.validation.logits, run.validation.labels
  )
  error = calibration.expected_calibration_error
  return {
    "accuracy": float(run.correct.mean()),
    "top5_accuracy": calibration.top_k_accuracy(logits, labels, 5),
    "loss": calibration.cross_entropy(logits, labels),
    "calibration_error": error(logits, labels),
    "temperature": temperature,
    "calibration_error_scaled": error(logits, labels, temperature=temperature),
  }


def _per_class(run: FinishedRun) -> np.ndarray:
  logits, labels = run.compared.logits, run.compared.labels
  return calibration.per_class_accuracy(logits, labels, logits.shape[1])


def _against(
  runs: Mapping[int, FinishedRun],
  base: Mapping[int, FinishedRun],
  name: str,
  baseline: str,
  goal: float,
) -> dict[str, Any]:
  """An arm and the baseline, on the seeds that both have."""
  seeds = sorted(runs.keys() & base.keys())
  if not seeds:
    return {"difference": None, "verdict": f"{name} shares no seed with it"}
  ours = np.stack([runs[s].correct for s in seeds])
  theirs = np.stack([base[s].correct for s in seeds])
  difference = statistics.paired_difference(ours, theirs)
  tests = [statistics.mcnemar(a, b) for a, b in zip(ours, theirs, strict=True)]
  return {
    "difference": _as_dict(difference, (ours.mean(1) - theirs.mean(1))),
    "verdict": words.verdict(
      name, baseline, difference, seeds=len(seeds), goal=goal
    ),
    "paired_t_p": _known(statistics.paired_t(ours.mean(1), theirs.mean(1))),
    "mcnemar": {
      str(seed): {"gained": t.gained, "lost": t.lost, "p_value": t.p_value}
      for seed, t in zip(seeds, tests, strict=True)
    },
  }


def _adjust(arms: dict[str, dict[str, Any]]) -> None:
  """Adds Holm's p-values over the arms, to each seed and to the t-test."""
  seeds = {seed for arm in arms.values() for seed in arm.get("mcnemar", ())}
  for seed in seeds:
    tests = [
      arm["mcnemar"][seed]
      for arm in arms.values()
      if seed in arm.get("mcnemar", ())
    ]
    adjusted = statistics.holm([test["p_value"] for test in tests])
    for test, p in zip(tests, adjusted, strict=True):
      test["p_holm"] = float(p)
  tested = [a for a in arms.values() if a.get("paired_t_p") is not None]
  if tested:
    adjusted = statistics.holm([arm["paired_t_p"] for arm in tested])
    for arm, p in zip(tested, adjusted, strict=True):
      arm["paired_t_p_holm"] = float(p)


def convergence(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Whether the training loss came down and settled.

  Args:
    rows: of metrics.jsonl.

  Returns:
    `first` and `last`: the means of the loss over the first and the last
    fifth of its lines; `moved`: the change from the fifth before, as a share
    of the fall; `settled`: the loss is finite and lower than at first, and
    moved less than 10 % or two standard errors, for mixed batches are noisy.
  """
  losses = np.array(
    [r["loss"] for r in rows if r["split"] == "train" and "loss" in r]
  )
  if len(losses) < 2:
    return {"first": None, "last": None, "moved": None, "settled": False}
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
  """Counts `[C, C]` of true and predicted classes, over all seeds."""
  predictions = [run.compared for run in runs.values()]
  return sum(
    calibration.confusions(p.logits, p.labels, p.logits.shape[1])
    for p in predictions
  )


def goal_met(arm: Mapping[str, Any], goal: float) -> bool:
  """Returns whether the interval of an arm's gain lies above the goal."""
  low = (arm.get("difference") or {}).get("low")
  return low is not None and low >= goal


def interval(values: Sequence[float]) -> dict[str, Any]:
  """Returns a mean, its 95 % interval over seeds and the values, as JSON."""
  return _as_dict(statistics.mean_interval(values), values)


def _seconds_to(run: FinishedRun, target: float) -> float | None:
  """Training seconds to the first evaluation that reaches an accuracy."""
  result = run.result
  for row in run.rows:
    if row["split"] == "validation" and row["accuracy"] >= target:
      return row["step"] / result.steps * result.seconds
  return None


def _as_dict(
  interval: statistics.Interval, each: Sequence[float]
) -> dict[str, Any]:
  return {
    "mean": float(interval.mean),
    "low": _known(interval.low),
    "high": _known(interval.high),
    "each": [float(x) for x in each],
  }


def _known(x: float) -> float | None:
  return None if math.isnan(x) else float(x)


def _mean(values) -> float:
  return float(np.mean(list(values)))


def _mean_or_none(values: Sequence[float | None]) -> float | None:
  """The mean; None where not all seeds got there."""
  return None if None in values else _mean(values)
