"""The numbers of a comparison, from the predictions of all runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration, statistics
from mixaug_jax.comparison import words
from mixaug_jax.comparison.finished import FinishedRun

# A loss has settled if it changes, from the second last fifth of training to
# the last, by less than this share of its fall or this number of standard
# errors.
_SETTLED, _ERRORS = 0.1, 2.0

Runs = Mapping[str, Mapping[int, FinishedRun]]


def summarise(runs: Runs, baseline: str, goal: float) -> dict[str, Any]:
  """Returns all numbers of a comparison, as JSON.

  Args:
    runs: by arm and seed, all on the same examples.
    baseline: an arm with at least one run.
    goal: the hoped-for gain in accuracy, a fraction.

  Returns:
    `baseline` and `goal`; `target_accuracy`, the mean of the baseline's last
    accuracy on validation; `examples`, their number; `best`, the arm of the
    highest mean accuracy on validation, which leaves the gain on test unbiased
    by the choice; and `arms` by name, see `_arm` and `_against`. None stands
    for a number that cannot be known.

  Raises:
    ValueError: the runs were measured on different examples.
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
  """The figures of an arm over its seeds."""
  seeds, data = list(runs), list(runs.values())
  measured = [_measures(run) for run in data]
  names = measured[0].keys()
  results = [run.result for run in data]
  return {
    "loss_name": data[0].run.likelihood.loss_name,
    "seeds": seeds,
    **{name: interval([m[name] for m in measured]) for name in names},
    "validation": {
      which: interval([getattr(r.validation, which).accuracy for r in results])
      if all(getattr(r.validation, which) for r in results)
      else None
      for which in ("last", "best", "ema")
    },
    # A class without examples has no accuracy with any seed.
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
  return calibration.measures(
    run.compared.logits,
    run.compared.labels,
    run.run.likelihood,
    (run.validation.logits, run.validation.labels),
  )


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
  """Compares an arm with the baseline, on the seeds that both have."""
  seeds = sorted(runs.keys() & base.keys())
  if not seeds:
    return {
      "difference": None,
      "verdict": f"{name} shares no seed with {baseline}",
    }
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
  """Adds p-values adjusted by Holm over the arms, for all tests."""
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
  """Measures whether the training loss fell and settled.

  Args:
    rows: the lines of metrics.jsonl.

  Returns:
    `first` and `last`: the mean loss over the first and the last fifth of the
    lines. `moved`: the change from the second last fifth to the last, as a
    share of the fall. `settled`: the loss is finite, fell, and moved by less
    than 10 %, or by less than two standard errors, because the losses of mixed
    batches are noisy.
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
  """Returns the confusion matrix over all seeds, int `[C, C]`."""
  predictions = [run.compared for run in runs.values()]
  return sum(
    calibration.confusions(p.logits, p.labels, p.logits.shape[1])
    for p in predictions
  )


def losses(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Returns the names of the losses of all arms, each once."""
  return list(dict.fromkeys(arm["loss_name"] for arm in arms.values()))


def goal_met(arm: Mapping[str, Any], goal: float) -> bool:
  """Returns whether the interval of an arm's gain lies above the goal."""
  low = (arm.get("difference") or {}).get("low")
  return low is not None and low >= goal


def interval(values: Sequence[float]) -> dict[str, Any]:
  """Returns a mean, its 95 % interval over seeds and the values, as JSON."""
  return _as_dict(statistics.mean_interval(values), values)


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
    "mean": float(estimate.mean),
    "low": _known(estimate.low),
    "high": _known(estimate.high),
    "each": [float(x) for x in each],
  }


def _known(x: float) -> float | None:
  return None if math.isnan(x) else float(x)


def _mean(values: Iterable[float]) -> float:
  return float(np.mean(list(values)))


def _mean_or_none(values: Sequence[float | None]) -> float | None:
  """The mean; None if a value is missing."""
  return None if None in values else _mean(values)
