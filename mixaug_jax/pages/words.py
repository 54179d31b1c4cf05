"""Sentences that the pages of runs and of comparisons share."""

import pathlib

from ml_collections import ConfigDict

from mixaug_jax.data.identity import Identity
from mixaug_jax.training.result import Result, StoppedEarly

CHOSEN = {
  "best": "best epoch on validation",
  "last": "last epoch",
  "ema": "moving average of the weights at the end",
}


SETS = {"test": "the test set", "validation": "the validation set"}


def figure(best_by: str) -> str:
  """Returns `evaluate.best_by` in words."""
  return best_by.replace("_", " ")


def number(points: float, sign: str = "") -> str:
  """Formats with one decimal, and without a minus where that is zero."""
  return f"{round(points, 1) + 0.0:{sign}.1f}"


def data_name(config: ConfigDict) -> str:
  """Returns the name of the data of a run, or that of their folder."""
  data = config.data
  files = data.name in ("csv", "folder", "packed")
  return (files and pathlib.Path(data.dir).name) or data.name


def chosen_on_validation(chosen: str, tuned: bool = False) -> str:
  """Returns why the figures of validation may be too good.

  Args:
    chosen: the weights that are measured, see CHOSEN.
    tuned: whether the recipes were tuned.
  """
  if tuned and chosen == "best":
    return "the recipes and the epochs were chosen on it"
  if tuned:
    return "the recipes were chosen on it"
  if chosen == "best":
    return "the epoch was chosen on it"
  return "settings are usually chosen on it"


def stopped_early(stopped: StoppedEarly) -> str:
  """Returns why a run ended before its planned length, without a verb."""
  gain = f" by more than {stopped.min_delta:g}" if stopped.min_delta else ""
  count = stopped.patience
  return (
    f"with {count} evaluation{'s' * (count > 1)} since step {stopped.step:,} "
    f"that did not exceed its validation score of {stopped.score:.2%}"
    f"{gain}"
  )


def no_test(config: ConfigDict, chosen: str, tuned: bool = False) -> str:
  """Returns the limits of figures that are those of validation."""
  why = (
    "There is no test set."
    if config.data.test
    else "The test set was not read, because config.data.test=false."
  )
  return (
    f"{why} The figures are those of the validation set and may be too good, "
    f"because {chosen_on_validation(chosen, tuned)}."
  )


def copies(identity: Identity) -> list[str]:
  """Returns a sentence for each kind of copies among the images of a run."""
  lines = [
    f"Images of {second} that are also in {first}: {count:,}."
    for pair, count in identity.in_two_splits.items()
    for first, _, second in [pair.partition(", ")]
  ]
  if count := identity.under_two_labels:
    lines.append(f"Images with a copy under another label: {count:,}.")
  return lines


def left_out(identity: Identity) -> list[str]:
  """Returns what a run left out of its data, a sentence for each split."""
  return [
    f"Left out of {'the data' if split == 'all' else split}: "
    + ", ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
    + "."
    for split, reasons in identity.left_out.items()
  ]


def surroundings(result: Result) -> str:
  """Returns the devices and the software of a run in a sentence."""
  versions = ", ".join(f"{k} {v}" for k, v in result.versions.items())
  commit = f"; commit {result.commit[:12]}" if result.commit else ""
  flags = f"; XLA_FLAGS={result.xla_flags}" if result.xla_flags else ""
  return (
    f"{result.devices} {result.device_kind} device"
    f"{'s' * (result.devices > 1)}; {versions}{commit}{flags}"
  )
