"""The result of a run as commands print it."""

import os

from mixaug_jax.pages import words
from mixaug_jax.training.result import Measured, Result
from mixaug_jax.training.set_measured import SetMeasured

_CHOSEN = {
  "best": "best on validation",
  "last": "last weights",
  "ema": "moving average",
}


def of_run(result: Result, workdir: os.PathLike) -> str:
  """Returns the result of a run in a few lines."""
  lines = []
  for name in ("last", "best", "ema"):
    if measured := getattr(result.validation, name):
      if isinstance(measured, SetMeasured):
        figure = f"{measured.mean_average_precision:.2%} mAP"
      else:
        figure = f"{measured.accuracy:.2%}"
      lines.append(f"validation, {name}: {figure} at step {measured.step}")
  if isinstance(result.test, SetMeasured):
    lines.append(
      f"test ({_CHOSEN[result.chosen]}, step {result.chosen_step}): "
      f"{_of_sets(result.test)}"
    )
  elif test := result.test:
    lines.append(
      f"test ({_CHOSEN[result.chosen]}, step {result.chosen_step}): "
      f"{test.accuracy:.2%}, top-5 {test.top5_accuracy:.2%}, loss "
      f"{test.loss:.3f}{_balanced(test)}"
    )
  early = ""
  if stopped := result.stopped_early:
    early = (
      f"stopped early at step {result.steps:,} of {stopped.planned_steps:,} "
    )
    early += f"{words.stopped_early(stopped)}; "
  lines.append(
    f"{early}{result.seconds:.1f} s of training at "
    f"{result.images_per_second:,.0f} images/s; the run is in {workdir}"
  )
  return "\n".join(lines)


def _of_sets(test: SetMeasured) -> str:
  """Returns the figures of a test split with label sets."""
  left_out = test.classes_left_out
  without = f" without {left_out:,} classes that have no image" * bool(left_out)
  return (
    f"mean average precision {test.mean_average_precision:.2%}{without}; at "
    f"the thresholds of validation micro-F1 {test.micro_f1:.2%}, macro-F1 "
    f"{test.macro_f1:.2%}, exact label sets {test.exact_match:.2%}; loss "
    f"{test.loss:.3f}"
  )


def _balanced(test: Measured) -> str:
  """Returns the balanced accuracy in words, if the run has one."""
  if test.balanced_accuracy is None:
    return ""
  return f", balanced accuracy {test.balanced_accuracy:.2%}"
