"""Descriptions of a run: what it trains on, and where a result was made."""

import functools
import math
import os
import pathlib
import subprocess
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
from ml_collections import ConfigDict

import mixaug_jax
from mixaug_jax import augment
from mixaug_jax import config as config_lib
from mixaug_jax.data import label_sets, selection
from mixaug_jax.training import balance, length, records, set_measured
from mixaug_jax.training.experiment import Experiment
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.result import (
  Examples,
  Measured,
  Result,
  StoppedEarly,
  Validation,
)
from mixaug_jax.training.set_measured import SetMeasured, Thresholds

_FEW = 50  # A smaller split is worth a warning.
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(
  exp: Experiment,
  loaded: str | None,
  first: int,
  stored: Mapping[str, Any] | None,
) -> str:
  """Describes a run: data, model, length, devices, and how it starts.

  Args:
    exp: the run.
    loaded: a sentence about the weights that were loaded, if any.
    first: the step that the run resumes from, 0 for a new run.
    stored: the config of the run before it was resumed, if any.
  """
  sets, config = exp.datasets, exp.config
  sizes = [
    f"{len(sets.train):,} training",
    f"{len(sets.validation):,} validation",
  ]
  if sets.test is not None:
    sizes.append(f"{len(sets.test):,} test")
  if sets.skipped:
    sizes.append(
      f"{len(sets.skipped):,} skipped (listed in {records.SKIPPED_FILE})"
    )
  share = ""
  if sets.chosen_share is not None and f"{sets.chosen_share:.0%}" != "10%":
    share = f"; validation takes {sets.chosen_share:.0%} of the training images"
  count = jax.device_count()
  run = (
    f"{config.data.name}: {', '.join(sizes)} images of {len(sets.class_names)} "
    f"classes{share}; the network sees {sets.seen:.0%} of an image, at "
    f"{config.data.image_size} px; {config.model.name} from "
    f"{config.model.pretrained or 'random weights'}; mixing: "
    f"{_mixing(config, count)}; {exp.steps:,} steps of {config.batch_size} on "
    f"{count} {jax.devices()[0].device_kind} device{'s' * (count > 1)}"
  )
  lines = [run, *selection.describe(sets.left_out), *balance.describe(exp)]
  if length.is_derived(config):
    epochs = exp.steps / exp.steps_per_epoch
    lines.append(
      f"the length, {epochs:,.0f} epochs, follows the number of images; set "
      "config.epochs for another"
    )
  if exp.stopping.patience is not None:
    lines.append(_early_stopping(exp))
  counts = {name: len(split) for name, split in sets.by_name().items()}
  several = label_sets.are_sets(sets.train.labels)
  if several:
    lines.append(
      label_sets.sizes({name: x.labels for name, x in sets.by_name().items()})
    )
  warnings = [
    *sets.warnings,
    *(_small_sets(counts) if several else _small(counts)),
    *config_lib.without_effect(config),
    *config_lib.shares_without_effect(config, sets.given),
  ]
  lines += [f"warning: {text}" for text in warnings]
  lines += filter(None, [loaded])
  if first:
    lines.append(f"resuming from step {first}")
    there = config_lib.completed(stored or {})
    if changed := config_lib.differences(config, there, harmless=True):
      lines.append(f"resuming with other values of {', '.join(changed)}")
  return "\n".join(lines)


def _early_stopping(exp: Experiment) -> str:
  """Returns when a run stops early, and what that does to its schedule."""
  patience, count = exp.stopping.patience, exp.evaluations
  assert patience is not None
  if patience > count - 2:
    return (
      f"config.early_stopping.patience={patience} cannot stop this run early, "
      f"because it has only {count} evaluations"
    )
  schedule = exp.config.optimizer.schedule
  text = (
    f"early stopping: the run ends after {patience} "
    f"evaluation{'s' * (patience > 1)} in a row without an improvement"
  )
  if schedule == "constant":
    return text
  return (
    f"{text}; the {schedule} schedule is that of all {exp.steps:,} steps, so "
    "the learning rate may still be high then"
  )


def _small(sizes: Mapping[str, int]) -> list[str]:
  """Returns a sentence for each split that is too small to measure well."""
  return [
    f"{name} has only {sizes[name]} images, so an accuracy measured on them is "
    f"uncertain by up to {_uncertainty(sizes[name]):.0f} points; add images"
    for name in ("validation", "test")
    if sizes.get(name, _FEW) < _FEW
  ]


def _small_sets(sizes: Mapping[str, int]) -> list[str]:
  """Returns the same where images have several labels or none."""
  return [
    f"{name} has only {sizes[name]} images, so that figures measured on them "
    "are uncertain; add images"
    for name in ("validation", "test")
    if sizes.get(name, _FEW) < _FEW
  ]


def _uncertainty(images: int) -> float:
  """Returns half a 95 % interval of an accuracy of 50 %, in points."""
  return 100 * 1.96 * math.sqrt(0.25 / images)


def _mixing(config: ConfigDict, devices: int) -> str:
  if config.mix.name == "none":
    return "none"
  group, share = config.mix.group_size, config.batch_size // devices
  text = f"{config.mix.name} in groups of {group}"
  if (span := augment.devices_in_group(share, group)) > 1:
    text += f", for which every {span} devices exchange images"
  return text


def result(
  exp: Experiment,
  loop: LoopState,
  test: Mapping[str, Any] | None,
  steps: int,
  thresholds: Thresholds | None = None,
) -> Result:
  """Returns the result of a finished run.

  Args:
    exp: the run.
    loop: the state of the loop after the last step.
    test: the fields of Measured or SetMeasured on test, if there is a test
      split.
    steps: the number of its steps; fewer than planned if it stopped early.
    thresholds: of a run with label sets.
  """
  chosen = exp.config.evaluate.checkpoint
  images = steps * exp.config.batch_size
  weights = exp.class_weights
  # An evaluation follows the last step.
  assert loop.last is not None
  assert loop.best is not None
  kind = SetMeasured if test and set_measured.of(test) else Measured
  return Result(
    test=kind(**test) if test else None,
    validation=Validation(loop.last, loop.best, loop.ema),
    chosen=chosen,
    chosen_step=loop.best.step if chosen == "best" else steps,
    steps=steps,
    epochs=steps / exp.steps_per_epoch,
    seconds=loop.seconds,
    compile_seconds=loop.compile_seconds,
    images_per_second=images / max(loop.seconds, 1e-9),
    devices=jax.device_count(),
    device_kind=jax.devices()[0].device_kind,
    processes=jax.process_count(),
    class_names=list(exp.datasets.class_names),
    examples=Examples(len(exp.datasets.train), len(exp.datasets.validation)),
    versions={
      "mixaug_jax": mixaug_jax.__version__,
      **{name: metadata.version(name) for name in _PACKAGES},
    },
    xla_flags=os.environ.get("XLA_FLAGS", ""),
    commit=_commit(),
    config_crc32=records.checksum(exp.config.to_dict()),
    evaluation_seconds=loop.evaluation_seconds,
    thresholds=thresholds,
    stopped_early=_stopped_early(exp, loop) if steps < exp.steps else None,
    class_counts=list(exp.datasets.class_counts),
    class_weights=None if weights is None else weights.tolist(),
  )


def _stopped_early(exp: Experiment, loop: LoopState) -> StoppedEarly:
  """Returns why a run ended before its planned length."""
  rule, progress = exp.stopping, loop.progress
  # Only early stopping ends a run before its last step.
  assert rule.patience is not None
  assert progress.score is not None
  return StoppedEarly(
    exp.steps, rule.patience, rule.min_delta, progress.step, progress.score
  )


def _commit() -> str | None:
  """Returns the git commit of this package, or None outside a repository."""
  git = ["git", "-C", str(pathlib.Path(__file__).parent)]
  run = functools.partial(
    subprocess.run, capture_output=True, text=True, check=True
  )
  try:
    run([*git, "ls-files", "--error-unmatch", pathlib.Path(__file__).name])
    return run([*git, "rev-parse", "HEAD"]).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
