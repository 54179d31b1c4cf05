"""The numbers of a comparison's tuning."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import statistics
from mixaug_jax.comparison.tuning import Trial, Tuning

_LEVEL = 0.95
# The part of an interval, at each side, that counts as its end.
_OUTER = 0.1


def summarise(
  tuning: Tuning, baseline: str, pairs: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
  """Returns all numbers of a tuning, as JSON.

  Args:
    tuning: all its trials are finished or diverged.
    baseline: the arm that the others are measured against.
    pairs: two arms each; the first is also measured against the second.

  Returns:
    `design`, `space` and `best_by` as in `tuning`; `studies`, their number;
    `trials`, the number of each arm in all studies; `arms` by name, see `_arm`,
    where every arm but the baseline has its `gains`, see `_gains`; `pairs`, the
    same for each pair; `ends`, see `_ends`; `outside`, see `_outside`; and
    `untuned`, see `_untuned`. None stands for a number that is not known.
  """
  arms = {
    name: _arm(studies, tuning.chosen[name], tuning.space)
    for name, studies in tuning.trials.items()
  }
  for name, arm in arms.items():
    if name != baseline:
      arm["gains"] = _gains(tuning.trials[name], tuning.trials[baseline])
  of_baseline = tuning.trials[baseline]
  return {
    "design": tuning.design,
    "best_by": tuning.best_by,
    "space": dict(tuning.space),
    "studies": len(of_baseline),
    "trials": sum(map(len, of_baseline)),
    "arms": arms,
    "pairs": [
      {
        "arm": name,
        "other": other,
        "gains": _gains(tuning.trials[name], tuning.trials[other]),
      }
      for name, other in pairs
    ],
    "ends": _ends(arms),
    "outside": _outside(tuning),
    "untuned": _untuned(tuning, baseline),
  }


def _arm(
  studies: Sequence[Sequence[Trial]],
  chosen: Sequence[Trial],
  space: Mapping[str, str],
) -> dict[str, Any]:
  """The numbers of an arm.

  Returns:
    `trials`, what is known of each, in order; `best_of_k`, see `_best_of_k`;
    `chosen`, the trial of each study, with the values that lie at an end of
    their range; `accuracy` and `score`, the means of the chosen ones; the
    budget: `steps`,
    as planned, `steps_trained`, fewer if trials diverged or stopped early, and
    `seconds` of training, without the trials that diverged.
  """
  trials = [trial for study in studies for trial in study]
  return {
    "trials": [_trial(trial) for trial in trials],
    "best_of_k": _best_of_k(studies),
    "chosen": [
      {
        "study": trial.study,
        "number": trial.number,
        "values": dict(trial.values),
        "accuracy": float(trial.accuracy),
        "score": float(trial.score),
        "ends": {
          key: end
          for key, place in trial.places.items()
          if (end := end_of_range(space[key], place))
        },
      }
      for trial in chosen
    ],
    "accuracy": float(np.mean([trial.accuracy for trial in chosen])),
    "score": float(np.mean([trial.score for trial in chosen])),
    "steps": sum(trial.steps for trial in trials),
    "steps_trained": sum(trial.trained for trial in trials),
    "seconds": float(sum(trial.seconds or 0 for trial in trials)),
  }


def _trial(trial: Trial) -> dict[str, Any]:
  loss = math.nan if trial.loss is None else float(trial.loss)
  return {
    "number": trial.number,
    "study": trial.study,
    "seed": trial.seed,
    "values": dict(trial.values),
    "places": dict(trial.places),
    "accuracy": float(trial.accuracy),
    "score": float(trial.score),
    "loss": loss if math.isfinite(loss) else None,
    "steps": trial.steps,
    "seconds": trial.seconds,
    "diverged": trial.diverged,
    "stopped_early": trial.stopped_early,
  }


def _best_of_k(studies: Sequence[Sequence[Trial]]) -> dict[str, Any]:
  """The expected score of the best of k trials, k = 1 to those of a study.

  The trials of a study count as drawn in any order. Trials are chosen by their
  score, so it also rises by chance.

  Returns:
    `mean` over the studies, and their lowest and highest value `low` and
    `high`, a list each. With one study the two are None: its trials do not
    show what another one would give, and bootstrap intervals of this estimate
    are poor (Tang et al., 2020, arXiv:2004.13705).
  """
  each = np.stack(
    [
      statistics.expected_best([trial.score for trial in study])
      for study in studies
    ]
  )
  several = len(each) > 1
  return {
    "mean": each.mean(0).tolist(),
    "low": each.min(0).tolist() if several else None,
    "high": each.max(0).tolist() if several else None,
  }


def _gains(
  ours: Iterable[Iterable[Trial]], theirs: Iterable[Iterable[Trial]]
) -> dict[str, Any]:
  """Compares two arms at every recipe: on trials of the same number.

  Returns:
    `each`, the gain in accuracy on validation at each trial, in order; their
    `mean`; and at how many recipes the arm is `ahead` and `level`.
  """
  others = {t.number: t.accuracy for study in theirs for t in study}
  each = np.array([t.accuracy - others[t.number] for s in ours for t in s])
  return {
    "mean": float(each.mean()),
    "ahead": int((each > 0).sum()),
    "level": int((each == 0).sum()),
    "each": each.tolist(),
  }


def end_of_range(text: str, place: float) -> str | None:
  """Returns the end of a range at which a place lies, `lower` or `upper`.

  The ends of an interval are its outer tenths, on its own scale. The ends of a
  choice are the least and the greatest of three numbers or more. In the middle,
  and where a range has no ends, the result is None.

  Args:
    text: `log LOW HIGH`, `uniform LOW HIGH` or `choice VALUE VALUE ...`.
    place: in [0, 1).
  """
  kind, *texts = text.split()
  if kind != "choice":
    low, high = place < _OUTER, place >= 1 - _OUTER
  else:
    try:
      options = list(map(float, texts))
    except ValueError:  # Names and truth values.
      return None
    value = options[int(place * len(options))]
    low, high = value == min(options), value == max(options)
    if len(options) < 3:
      return None
  return "lower" if low else "upper" if high else None


def is_outside(text: str, value: Any) -> bool:
  """Returns whether a value lies outside a range.

  None, which stands for the default of something else, does not.

  Args:
    text: as in `end_of_range`.
    value: of a config.
  """
  kind, *texts = text.split()
  if value is None:
    return False
  if kind != "choice":
    low, high = map(float, texts)
    return not low <= value <= high
  return _plain(str(value)) not in map(_plain, texts)


def _plain(text: str) -> float | str:
  """Returns a number, or a text without capitals."""
  try:
    return float(text)
  except ValueError:
    return text.lower()


def _outside(tuning: Tuning) -> list[dict[str, Any]]:
  """Returns the values of recipes as written that lie outside their range.

  Returns:
    `key`, `value`, `range`, and `arms`, the names of the arms, for each.
  """
  found: dict[tuple[str, Any], list[str]] = {}
  for name, studies in tuning.trials.items():
    for key, value in studies[0][0].values.items():
      if is_outside(tuning.space[key], value):
        found.setdefault((key, value), []).append(name)
  return [
    {"key": key, "value": value, "range": tuning.space[key], "arms": names}
    for (key, value), names in sorted(found.items(), key=lambda x: x[0][0])
  ]


def _ends(arms: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns the ends of ranges at which chosen values lie too often.

  That is in at least half of the studies of an arm. A recipe as it is written
  has no place in a range, and lies at no end.

  Returns:
    `key`, `end`, and `arms`, the number of studies by arm, for each end.
  """
  found: dict[tuple[str, str], dict[str, int]] = {}
  for name, arm in arms.items():
    ends = [end for each in arm["chosen"] for end in each["ends"].items()]
    for end in dict.fromkeys(ends):
      if 2 * ends.count(end) >= len(arm["chosen"]):
        found.setdefault(end, {})[name] = ends.count(end)
  return [
    {"key": key, "end": end, "arms": of_arms}
    for (key, end), of_arms in sorted(found.items())
  ]


def _untuned(tuning: Tuning, baseline: str) -> dict[str, Any]:
  """What a comparison of the recipes as they are written would give.

  The first trial of each study has that recipe.

  Returns:
    `best`, the arm of the highest score; and `differences` in accuracy to the
    baseline by arm, see `_difference`.
  """
  first = {
    name: [np.asarray(study[0].correct, np.float64) for study in studies]
    for name, studies in tuning.trials.items()
  }
  base = first.pop(baseline)
  differences = {name: _difference(ours, base) for name, ours in first.items()}
  scores = {
    name: np.mean([study[0].score for study in studies])
    for name, studies in tuning.trials.items()
  }
  # Of equals the first, whatever the rounding.
  best = max(differences, key=lambda name: round(float(scores[name]), 9))
  return {"best": best, "differences": differences}


def _difference(
  ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> dict[str, Any]:
  """Compares two arms on the validation images of each study.

  The interval is that of `statistics.difference`, which also holds if each
  study has images of its own.

  Args:
    ours: which examples are correct, `[N]` for each study.
    theirs: the same for the other arm.

  Returns:
    `mean`, the 95 % interval `low` and `high`, and `each`, a value for each
    study. One study has no interval, as another may give another result.
  """
  each = [float(a.mean() - b.mean()) for a, b in zip(ours, theirs, strict=True)]
  interval = statistics.difference(ours, theirs).interval(_LEVEL, -1, 1)
  result = {**interval._asdict(), "each": each}
  return result if len(each) > 1 else result | {"low": None, "high": None}
