"""The result of a run as commands print it."""

import os

from mixaug_jax.pages import words
from mixaug_jax.training.result import Result

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
      f"{test.loss:.3f}"
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
