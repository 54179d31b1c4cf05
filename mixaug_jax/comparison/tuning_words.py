"""The sentences about a comparison's tuning.

`numbers` are those of a whole comparison, with `tuning` from tuning_numbers.py;
`tuning` is that part alone.
"""

from collections.abc import Mapping
from typing import Any

from mixaug_jax.comparison import words
from mixaug_jax.durations import duration
from mixaug_jax.pages.words import figure, number


def headline(numbers: Mapping[str, Any], split: str) -> str:
  """Returns the verdict on the best arm, and how that arm was chosen."""
  best, others = numbers["best"], len(numbers["arms"]) - 1
  if best == numbers["baseline"]:
    return words.headline(numbers, split)
  arm, tuning = numbers["arms"][best], numbers["tuning"]
  text = f"Tuned alike ({_trials(tuning, ' an arm')}), {arm['verdict']}."
  if others < 2 or arm["goal"] is None:
    return text
  images = (
    ""
    if split == "test"
    else ", but there is no test set, and recipes and arm were chosen on "
    "validation images as well, so the mean is slightly too high"
  )
  return (
    f"{text} {best} is the best of {others} arms by "
    f"{figure(tuning['best_by'])} on the validation images of the tuning; its "
    f"figure comes from other networks{images}. The interval and the test are "
    "adjusted for the number of comparisons."
  )


def untuned(numbers: Mapping[str, Any]) -> str:
  """Returns what a comparison without tuning would have given."""
  best, baseline = numbers["best"], numbers["baseline"]
  found = numbers["tuning"]["untuned"]
  if best == baseline:
    return ""
  text = (
    f"With the recipe as it is written, the difference of {best} to {baseline} "
    f"on validation would have been {_points(found['differences'][best])}."
  )
  if found["best"] == best:
    return text
  return (
    f"{text} The best arm by {figure(numbers['tuning']['best_by'])} would have "
    f"been {found['best']}, with a difference in accuracy of "
    f"{_points(found['differences'][found['best']])} on the images that it was "
    "chosen on."
  )


def design(tuning: Mapping[str, Any], seeds: int) -> str:
  """Returns what the intervals include.

  Args:
    tuning: the numbers of the tuning.
    seeds: the number of final runs of each arm.
  """
  if tuning["design"] == "fixed":
    return (
      f"Recipe fixed: one tuning, {_count(seeds, 'fresh seed')}. The intervals "
      "leave out the noise of tuning."
    )
  if tuning["studies"] == 1:
    return (
      "One study, with one tuning and one fresh seed, which decides nothing."
    )
  return (
    f"Tuning included: {tuning['studies']} studies, each with its own tuning "
    "and a fresh seed. The intervals include the noise of tuning."
  )


def budget(
  tuning: Mapping[str, Any], seconds: float | None = None
) -> list[str]:
  """Returns what each arm had for its tuning, and what some did not use.

  Args:
    tuning: the numbers of the tuning.
    seconds: of training, of all runs that are compared; None if unknown.
  """
  arms = tuning["arms"]
  steps = {name: arm["steps"] for name, arm in arms.items()}
  lines = [f"Each arm was tuned with {_trials(tuning)}, "]
  if len(set(steps.values())) == 1:
    lines[0] += f"{next(iter(steps.values())):,} steps of training in total."
  else:
    listed = ", ".join(f"{name} {count:,}" for name, count in steps.items())
    lines[0] += f"but not with the same steps of training: {listed}."
  diverged = {
    name: sum(trial["diverged"] is not None for trial in arm["trials"])
    for name, arm in arms.items()
  }
  if any(diverged.values()):
    listed = ", ".join(
      f"{count} of {name}" for name, count in diverged.items() if count
    )
    lines.append(
      f"Trials that diverged: {listed}. They ended early and count with the "
      "accuracy of chance."
    )
  stopped = [
    f"{name} {count} trials, {arm['steps_trained']:,} of {arm['steps']:,} steps"
    for name, arm in arms.items()
    if (count := sum(x["stopped_early"] is not None for x in arm["trials"]))
  ]
  if stopped:
    lines.append(
      "Early stopping, with the same rule in every arm, shortened trials: "
      f"{'; '.join(stopped)}."
    )
  if seconds is not None:
    of_trials = sum(arm["seconds"] for arm in arms.values())
    lines.append(
      f"Training took {duration(of_trials)} in the trials and "
      f"{duration(seconds)} in the runs that are compared, without "
      "compilation, evaluation and saving, and counted one after the other."
    )
  return lines


def warnings(tuning: Mapping[str, Any]) -> list[str]:
  """Returns the limits of a tuning, a sentence or two each."""
  lines = [_end(end, tuning) for end in tuning["ends"]]
  for each in tuning["outside"]:
    every = len(each["arms"]) == len(tuning["arms"])
    lines.append(
      f"The recipe as it is written has {each['key']}={each['value']}"
      f"{'' if every else ' in ' + ', '.join(each['arms'])}, outside of the "
      f"range that was tuned, {each['range']}. It was tried, and no value near "
      "it; widen the range."
    )
  for study in range(tuning["studies"]):
    lost = [
      name
      for name, arm in tuning["arms"].items()
      if all(
        trial["diverged"] is not None
        for trial in arm["trials"]
        if trial["study"] == study
      )
    ]
    if lost:
      of = "every arm" if len(lost) == len(tuning["arms"]) else ", ".join(lost)
      lines.append(
        f"In study {study} every trial of {of} diverged, so the recipe as it "
        "is written was kept; lower optimizer.learning_rate."
      )
  return lines


def _end(end: Mapping[str, Any], tuning: Mapping[str, Any]) -> str:
  key, studies = end["key"], tuning["studies"]
  arms = ", ".join(
    name if studies == 1 else f"{name} ({count} of {studies} studies)"
    for name, count in end["arms"].items()
  )
  return (
    f"The chosen value of {key} lies at the {end['end']} end of its range "
    f"({tuning['space'][key]}) in {arms}; widen config.tune.space.{key} if it "
    "can go further."
  )


def _trials(tuning: Mapping[str, Any], each: str = "") -> str:
  studies = tuning["studies"]
  text = _count(tuning["trials"], "trial") + each
  return text if studies == 1 else f"{text} in {studies} studies"


def _points(difference: Mapping[str, Any]) -> str:
  """Formats a difference, with its interval if it has one."""
  text = f"{number(100 * difference['mean'], '+')} points"
  each = difference["each"]
  if difference["low"] is None:
    return f"{text} (one seed, which decides nothing)"
  low, high = (number(100 * difference[x]) for x in ("low", "high"))
  return f"{text} ({len(each)} seeds, 95 % interval {low} to {high})"


def _count(count: int, noun: str) -> str:
  return f"{count} {noun}{'s' * (count != 1)}"
