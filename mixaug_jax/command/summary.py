"""The result of a run as commands print it."""

import os

from mixaug_jax.training.result import Measured, Result

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
      lines.append(
        f"validation, {name}: {measured.accuracy:.2%} at step {measured.step}"
      )
  if test := result.test:
    lines.append(
      f"test ({_CHOSEN[result.chosen]}, step {result.chosen_step}): "
      f"{test.accuracy:.2%}, top-5 {test.top5_accuracy:.2%}, loss "
      f"{test.loss:.3f}{_balanced(test)}"
    )
  lines.append(
    f"{result.seconds:.1f} s of training at "
    f"{result.images_per_second:,.0f} images/s; the run is in {workdir}"
  )
  return "\n".join(lines)


def _balanced(test: Measured) -> str:
  """Returns the balanced accuracy in words, if the run has one."""
  if test.balanced_accuracy is None:
    return ""
  return f", balanced accuracy {test.balanced_accuracy:.2%}"
