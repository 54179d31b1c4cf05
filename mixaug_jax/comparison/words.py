"""The sentences of a comparison's page."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.analysis import calibration
from mixaug_jax.analysis.statistics import Interval
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.data.identity import Identity
from mixaug_jax.training.result import Result

CHOSEN = {
  "best": "best epoch on validation",
  "last": "last epoch",
  "ema": "moving average of the weights at the end",
}
SPLIT_NOTE = {
  "test": "each run reads that set once, at its end.",
  "validation": "epochs were chosen on it as well.",
}


def verdict(
  name: str,
  baseline: str,
  difference: Interval,
  *,
  seeds: int,
  goal: float,
) -> str:
  """Returns a difference in accuracy as one sentence, in percentage points."""
  mean, low, high = (100 * x for x in difference)
  span = f"95 % interval {_number(low)} to {_number(high)}"
  if low > 0:
    text = f"{name} is better than {baseline} by {mean:.1f} points, {span}"
  elif high < 0:
    text = f"{name} is worse than {baseline} by {-mean:.1f} points, {span}"
  else:
    text = (
      f"{name} cannot be distinguished from {baseline}: difference "
      f"{_number(mean, '+')} points, {span}"
    )
  points = f"{100 * goal:g} points"
  if low >= 100 * goal:
    text += f"; the goal of {points} is met"
  elif mean >= 100 * goal:
    text += f"; the mean reaches the goal of {points}, the interval does not"
  else:
    text += f"; the goal of {points} is not met"
  if seeds == 1:
    text += "; this is one seed, and another one may give another result"
  return text


def headline(numbers: Mapping[str, Any], split: str) -> str:
  """Returns the verdict on the best arm, and how that arm was chosen."""
  best, baseline = numbers["best"], numbers["baseline"]
  if best == baseline:
    return f"Only {baseline} is finished; there is nothing to compare it with."
  text = numbers["arms"][best]["verdict"]
  if split == "validation":
    return f"{text}."
  return f"{text}. The arm was chosen on validation, not on this figure."


def title(comparison: Comparison) -> str:
  data = comparison.first.run.config.data
  files = data.name in ("csv", "folder")
  name = pathlib.Path(data.dir).name if files else data.name
  return f"Which augmentation? {name}"


def setting(comparison: Comparison) -> str:
  """Returns the network, the data and the length of training in a sentence."""
  config, result = comparison.first.run.config, comparison.first.result
  sizes = result.examples
  count = sum(map(len, comparison.runs.values()))
  return (
    f"{config.model.name} at {config.data.image_size} px"
    + (
      f" from the weights {config.model.pretrained}"
      if config.model.pretrained
      else " from random weights"
    )
    + f"; {sizes.train:,} training, {sizes.validation:,} validation "
    + (
      f"and {result.test.examples:,} test "
      if comparison.split == "test"
      else ""
    )
    + f"images of {len(result.class_names)} classes; {result.steps:,} "
    f"steps of {config.batch_size}; {count} runs of {len(comparison.arms)} arms"
  )


def _of_data(identity: Identity) -> list[str]:
  """Returns what the first run found in its data, a sentence each."""
  lines = [
    f"Images of {second} that are also in {first}: {count:,}."
    for pair, count in identity.in_two_splits.items()
    for first, second in [pair.split(", ")]
  ]
  if count := identity.under_two_labels:
    lines.append(f"Images with a copy under another label: {count:,}.")
  for split, reasons in identity.left_out.items():
    what = ", ".join(
      f"{reason} ({count:,})" for reason, count in reasons.items()
    )
    lines.append(f"Left out of {split}: {what}.")
  return lines


def warnings(comparison: Comparison) -> list[str]:
  """Returns the limits of the figures, one sentence or two each."""
  warnings = []
  missing = [
    cell.name
    for cell in comparison.cells
    if cell.seed not in comparison.runs.get(cell.arm, ())
  ]
  if missing:
    warnings.append(
      f"Not finished and left out: {', '.join(missing)}. The same command "
      "trains them."
    )
  if comparison.split == "validation":
    warnings.append(
      "There is no test set. The figures are those of validation and slightly "
      "too good, because the epochs were chosen on it."
    )
  if identity := comparison.first.run.identity:
    warnings += _of_data(identity)
  seeds = max(map(len, comparison.runs.values()))
  if seeds == 1:
    warnings.append(
      "One seed does not show what another one would give; the intervals hold "
      "for these trained networks only. Set config.seeds to 3 or more."
    )
  elif seeds < 5:
    warnings.append(
      f"{seeds} seeds are a rough estimate of the spread; the intervals are "
      "widened for that."
    )
  by_loss: dict[str, list[str]] = {}
  for name, of_arm in comparison.runs.items():
    run = next(iter(of_arm.values())).run
    by_loss.setdefault(run.likelihood.loss_name, []).append(name)
    for seed, each in of_arm.items():
      if bad := int(calibration.undefined(each.compared.logits).sum()):
        warnings.append(
          f"The logits of {name}/{seed} are not numbers for {bad:,} examples, "
          "which count as wrong; its loss and calibration are unknown."
        )
  if len(by_loss) > 1:
    kinds = "; ".join(f"{x}: {', '.join(y)}" for x, y in by_loss.items())
    warnings.append(
      f"The arms are trained with different losses ({kinds}). Compare a loss "
      "only between arms that share it."
    )
  if len(comparison.first.result.class_names) <= 5:
    warnings.append("With five classes or fewer, top-5 accuracy is 100 %.")
  return warnings


def overrides(arm: ConfigDict) -> str:
  """Returns the overrides of an arm as `KEY=VALUE KEY=VALUE`."""
  changed = config_lib.leaves(arm)
  return shlex.join(f"{key}={value}" for key, value in changed.items())


def surroundings(result: Result) -> str:
  """Returns the devices and the software of a run in a sentence."""
  versions = ", ".join(f"{k} {v}" for k, v in result.versions.items())
  commit = f"; commit {result.commit[:12]}" if result.commit else ""
  flags = f"; XLA_FLAGS={result.xla_flags}" if result.xla_flags else ""
  return (
    f"{result.devices} {result.device_kind} device"
    f"{'s' * (result.devices > 1)} a run; {versions}{commit}{flags}"
  )


def _number(points: float, sign: str = "") -> str:
  """Formats with one decimal, and zero without a sign."""
  return f"{round(points, 1) + 0.0:{sign}.1f}"
