"""The sentences of one run's page."""

import shlex
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import durations
from mixaug_jax.augment import pipeline
from mixaug_jax.configs import default
from mixaug_jax.pages import words
from mixaug_jax.runs import Run
from mixaug_jax.training import records


def title(run: Run) -> str:
  """Returns the data, the model and the mixing of a run."""
  config = run.config
  mixing = "" if config.mix.name == "none" else f", {config.mix.name}"
  data = words.data_name(config)
  return f"One run on {data}: {config.model.name}{mixing}"


def headline(numbers: Mapping[str, Any], split: str) -> str:
  """Returns the accuracy with its interval, and what the interval means."""
  mean, low, high = (
    f"{100 * numbers['accuracy'][key]:.1f}" for key in ("mean", "low", "high")
  )
  return (
    f"{split.capitalize()} accuracy {mean} %, 95 % interval {low} to {high} % "
    f"on {numbers['examples']:,} images. The interval is about the images "
    "only: it holds for these trained weights, and another seed may give "
    "another accuracy."
  )


def setting(run: Run) -> list[tuple[str, str]]:
  """Returns what was trained, how and where, as names and texts."""
  config, result = run.config, run.result
  sizes = {
    "training": result.examples.train,
    "validation": result.examples.validation,
  }
  if result.test:
    sizes["test"] = result.test.examples
  images = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
  stopped = result.stopped_early
  early = f"of {stopped.planned_steps:,} planned " if stopped else ""
  where = f" in {config.data.dir}" if config.data.dir else ""
  return [
    (
      "model",
      f"{config.model.name} at {config.data.image_size} px, from "
      + (
        f"the weights {config.model.pretrained}"
        if config.model.pretrained
        else "random weights"
      ),
    ),
    ("data", f"{config.data.name}{where}"),
    ("images", f"{images}; {len(result.class_names):,} classes"),
    ("augmentation", _augmentation(config)),
    ("mixing", config.mix.name),
    (
      "training",
      f"{result.steps:,} {early}steps of {config.batch_size} images, "
      f"{result.epochs:,.4g} epochs, seed {config.seed}; "
      f"{durations.duration(result.seconds)} at "
      f"{result.images_per_second:,.0f} images/s"
      + (f"; stopped early {words.stopped_early(stopped)}" if stopped else ""),
    ),
    (
      "weights",
      f"{words.CHOSEN[result.chosen]}, step {result.chosen_step:,}",
    ),
    ("directory", str(run.workdir)),
    ("computed by", words.surroundings(result)),
  ]


def warnings(run: Run, numbers: Mapping[str, Any], split: str) -> list[str]:
  """Returns the limits of the figures, one sentence or two each."""
  lines = []
  if split == "validation":
    lines.append(words.no_test(run.config, run.result.chosen))
  if bad := numbers["undefined"]:
    lines.append(
      f"The logits of {bad:,} of {numbers['examples']:,} images are not "
      "numbers. Such an image counts as wrong, and the calibration is unknown."
    )
  if run.identity:
    lines += words.copies(run.identity)
  lines += [f"{text}." for text in config_lib.without_effect(run.config)]
  return lines


def left_out(run: Run) -> list[str]:
  """Returns what the run left out of its data, a sentence each."""
  if run.identity is None:
    return [
      f"It is unknown what was left out: this run has no {records.DATA_FILE}."
    ]
  return words.left_out(run.identity) or ["Nothing was left out."]


def command(run: Run) -> str:
  """Returns the command that trains the same run in another directory."""
  changed = [
    f"--config.{key}={value}" for key, value in changes(run.config).items()
  ]
  main = ["python", "-m", "mixaug_jax.main", "--config=configs/default.py"]
  return shlex.join([*main, *changed, f"--workdir={run.workdir}_again"])


def beyond_command(run: Run) -> str:
  """Returns the settings that `command` leaves out; empty without any.

  A recipe may have keys that configs/default.py lacks, such as those of a
  mixer of the user's own.
  """
  known = config_lib.leaves(default.get_config())
  return ", ".join(
    f"config.{key}={value}"
    for key, value in config_lib.leaves(run.config).items()
    if key not in known
  )


def changes(config: ConfigDict) -> dict[str, Any]:
  """Returns the leaves that differ from their defaults."""
  here, there = (config_lib.leaves(c) for c in (config, default.get_config()))
  return {key: here[key] for key in there if here[key] != there[key]}


def _augmentation(config: ConfigDict) -> str:
  """Returns the settings of the operations that are on."""
  defaults = default.get_config().augment
  off = pipeline.without_effect(config.augment, defaults)
  on = [
    f"{key.removeprefix('augment.')}={value}"
    for key, value in changes(config).items()
    if key.startswith("augment.") and key.removeprefix("augment.") not in off
  ]
  return ", ".join(on) or "none"
