"""The sentences of a comparison's page."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.analysis import calibration, fonts
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.pages import words as shared


def verdict(
  name: str,
  baseline: str,
  difference: Mapping[str, Any] | None,
  *,
  goal: float,
  unfinished: Sequence[str],
) -> str:
  """Returns a difference in accuracy as one sentence, in percentage points.

  One seed decides nothing, and neither do arms with unfinished runs, because
  the missing ones might be the bad ones.

  Args:
    name: the arm.
    baseline: the arm that it is compared with.
    difference: `mean`, `low`, `high`, `level`, `each` and `simultaneous`, as
      fractions; None without a common seed.
    goal: the hoped-for difference, a fraction.
    unfinished: the runs of both arms that are missing.
  """
  if difference is None:
    return f"{name} shares no finished seed with {baseline}"
  mean, low, high = (100 * difference[key] for key in ("mean", "low", "high"))
  points = f"{shared.number(mean, '+')} points"
  if unfinished:
    return (
      f"{name} against {baseline} is not decided: {', '.join(unfinished)} "
      f"{'is' if len(unfinished) == 1 else 'are'} not finished; {points} so far"
    )
  if len(difference["each"]) == 1:
    return (
      f"{name} against {baseline} is not decided: {points} with one seed, and "
      "another one may give another result; set config.seeds to 3 or more"
    )
  level = f"{100 * difference['level']:.3g}"
  ends = f"{shared.number(low)} to {shared.number(high)}"
  span = f"{level} % interval {ends}"
  if low > 0:
    text = f"{name} is better than {baseline} by {mean:.1f} points, {span}"
  elif high < 0:
    text = f"{name} is worse than {baseline} by {-mean:.1f} points, {span}"
  else:
    text = (
      f"{name} cannot be distinguished from {baseline}: difference {points}, "
      f"{span}"
    )
  bounds = difference["simultaneous"]
  text += f"; the goal of {100 * goal:g} points is {goal_state(bounds, goal)}"
  if bounds["level"] == difference["level"]:
    return text
  low, high = (shared.number(100 * bounds[end]) for end in ("low", "high"))
  return f"{text} by the {100 * bounds['level']:.3g} % interval {low} to {high}"


def goal_state(bounds: Mapping[str, Any], goal: float) -> str:
  """Returns `met`, `missed` or `open`, by a simultaneous interval."""
  if bounds["low"] >= goal:
    return "met"
  return "missed" if bounds["high"] < goal else "open"


def headline(numbers: Mapping[str, Any], split: str) -> str:
  """Returns the verdict on the best arm, and how that arm was chosen."""
  best, baseline = numbers["best"], numbers["baseline"]
  others = len(numbers["arms"]) - 1
  if best == baseline and others:
    return _without_others(numbers)
  if best == baseline:
    return f"Only {baseline} is finished; there is nothing to compare it with."
  arm = numbers["arms"][best]
  text = f"With one recipe for all arms, {arm['verdict']}."
  if others < 2 or arm["goal"] is None:
    return text
  measured = "validation" if split == "test" else "the same images"
  return (
    f"{text} This is the best of {others} arms by "
    f"{shared.figure(numbers['best_by'])} on {measured}, measured with the "
    "same networks, so the mean is slightly too high; the interval and the "
    "test are adjusted for the number of comparisons."
  )


def _without_others(numbers: Mapping[str, Any]) -> str:
  """Returns why no arm is compared, if some runs of other arms diverged."""
  lost = {name: list(x["diverged"]) for name, x in numbers["arms"].items()}
  listed = {}
  for state, of in (("unfinished", numbers["unfinished"]), ("diverged", lost)):
    cells = [
      f"{name}/{seed}"
      for name, seeds in of.items()
      if name != numbers["baseline"]
      for seed in seeds
    ]
    listed[state] = ", ".join(cells)
  if not listed["unfinished"]:
    return "Every run of the other arms diverged."
  return (
    "No other arm has a finished run; unfinished: {unfinished}; diverged: "
    "{diverged}.".format(**listed)
  )


def split_note(comparison: Comparison) -> str:
  """Returns the worth of the figures, a part of a sentence."""
  if comparison.split == "test":
    return "each run reads that set once, at its end"
  return "they may be too good, because " + shared.chosen_on_validation(
    comparison.first.result.chosen, bool(comparison.trials)
  )


def own_images(comparison: Comparison) -> bool:
  """Returns whether the seeds are measured on different images."""
  found = {
    tuple(run.compared.ids)
    for of_arm in comparison.runs.values()
    for run in of_arm.values()
  }
  return len(found) > 1


def title(comparison: Comparison) -> str:
  data = shared.data_name(comparison.first.run.config)
  return f"Which augmentation? {data}"


def setting(comparison: Comparison) -> str:
  """Returns the network, the data and the length of training in a sentence."""
  config, result = comparison.first.run.config, comparison.first.result
  sizes = result.examples
  count = sum(map(len, comparison.runs.values()))
  count += sum(map(len, comparison.diverged.values()))
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
      if comparison.split == "test" and result.test
      else ""
    )
    + f"images of {len(result.class_names)} classes; {_steps(comparison)} "
    f"steps of {config.batch_size}; {count} runs of {len(comparison.arms)} "
    f"arms. {_sampling(comparison)}"
  )


def _steps(comparison: Comparison) -> str:
  """Returns the steps of a run, or the least and the most of all runs."""
  steps = comparison.lengths
  least, most = f"{min(steps):,}", f"{max(steps):,}"
  return least if least == most else f"{least} to {most}"


def diverged(comparison: Comparison) -> list[str]:
  """Returns a sentence that names the runs that diverged, if there are any."""
  found = [
    f"{name}/{seed} at step {step:,}"
    for name, of_arm in comparison.diverged.items()
    for seed, step in of_arm.items()
  ]
  if not found:
    return []
  chance = 1 / len(comparison.first.result.class_names)
  return [
    f"Diverged: {', '.join(found)}. Such a run counts with the accuracy of "
    f"chance, {100 * chance:.1f} %, and is left out of all other figures."
  ]


def stopped_early(comparison: Comparison) -> list[str]:
  """Returns a sentence that names the runs that stopped early, if any did."""
  found = [
    f"{name}/{seed} at step {result.steps:,} of {result.planned_steps:,}"
    for name, of_arm in comparison.runs.items()
    for seed, run in of_arm.items()
    if (result := run.result).stopped_early
  ]
  if not found:
    return []
  return [
    f"Stopped early: {', '.join(found)}. Their validation no longer "
    "improved, so the arms were not trained for equally many steps."
  ]


def warnings(comparison: Comparison) -> list[str]:
  """Returns the limits of the figures, one sentence or two each."""
  warnings = []
  if missing := [cell.name for cell in comparison.unfinished]:
    warnings.append(
      f"Not finished and left out: {', '.join(missing)}. The same command "
      "trains them."
    )
  warnings += [*diverged(comparison), *stopped_early(comparison)]
  if comparison.split == "validation":
    first = comparison.first
    warnings.append(
      shared.no_test(
        first.run.config, first.result.chosen, bool(comparison.trials)
      )
    )
    if own_images(comparison):
      warnings.append(
        "Each seed is measured on validation images of its own. Arms are "
        "paired on the images of a seed; figures of two seeds also differ by "
        "their images."
      )
  if identity := comparison.first.run.identity:
    warnings += [*shared.copies(identity), *shared.left_out(identity)]
  seeds = len({cell.seed for cell in comparison.cells})
  if seeds == 1:
    warnings.append(
      "One seed does not show what another one would give; the intervals hold "
      "for these trained networks only. Set config.seeds to 3 or more."
    )
  elif seeds == 2:
    warnings.append(
      "Two seeds show so little of the spread that almost nothing can be "
      "decided. Set config.seeds to 3 or more."
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
  sizes = {
    name: next(iter(of_arm.values())).run.config.batch_size
    for name, of_arm in comparison.runs.items()
  }
  if len(set(sizes.values())) > 1:
    listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
    warnings.append(
      f"The arms have batches of different sizes ({listed}), so equal steps "
      "are not an equal number of images."
    )
  if len(by_loss) > 1:
    kinds = "; ".join(f"{x}: {', '.join(y)}" for x, y in by_loss.items())
    warnings.append(
      f"The arms are trained with different losses ({kinds}). Compare a loss "
      "only between arms that share it."
    )
  return warnings


def no_font(names: Sequence[str]) -> list[str]:
  """Returns a warning if no font of this machine has the signs of names."""
  missing = fonts.missing("".join(names))
  if not missing:
    return []
  some = missing if len(missing) <= 20 else f"{missing[:20]}…"
  return [
    f"No font on this machine has the characters {some}. The PNG files in "
    "figures/ show boxes instead. This page shows the characters if the "
    "browser has a font for them."
  ]


def source(comparison: Comparison) -> str:
  """Returns the name of the data and where they are."""
  data = comparison.first.run.config.data
  return f"{data.name} in {data.dir}" if data.dir else data.name


def _sampling(comparison: Comparison) -> str:
  """Returns what differs between seeds; empty if it is unknown."""
  runs = comparison.runs[comparison.baseline].values()
  known = [x for run in runs if (x := run.run.identity)]
  if len(known) < max(2, len(runs)):
    return ""
  if len({identity.splits["train"].ids for identity in known}) == 1:
    return (
      "All seeds train on the same images. The intervals hold for these "
      "training images, and not for another sample of them."
    )
  return (
    "Each seed trains on another sample of the images, so the intervals "
    "include the choice of training images."
  )


def overrides(arm: ConfigDict) -> str:
  """Returns the overrides of an arm as `KEY=VALUE KEY=VALUE`."""
  changed = config_lib.leaves(arm)
  return shlex.join(f"{key}={value}" for key, value in changed.items())
