"""Sentences about what a run does for classes with few images."""

import numpy as np

from mixaug_jax.data.class_names import readable
from mixaug_jax.training.experiment import Experiment

_SHOWN = 3  # Classes at either end.


def describe(exp: Experiment) -> list[str]:
  """Returns the class weights, and how often images are repeated, if so."""
  counts = np.array(exp.datasets.class_counts)
  names = readable(exp.datasets.class_names)
  lines = []
  if (weights := exp.class_weights) is not None:
    shown = _of_classes(weights, counts, names, "{:.3g}")
    lines.append(
      f"class weights ({exp.config.loss.class_weights}), with a mean of 1 over "
      f"the training images: {shown}"
    )
  if exp.config.data.oversample:
    drawn = np.bincount(exp.datasets.train.labels, minlength=len(counts))
    times = drawn / np.maximum(counts, 1)
    shown = _of_classes(times, counts, names, "{:.3g} times")
    lines.append(
      f"an epoch draws {drawn.sum():,} images from {counts.sum():,}: {shown}"
    )
  return lines


def _of_classes(
  values: np.ndarray, counts: np.ndarray, names: list[str], form: str
) -> str:
  """Returns the values of the classes, the largest class first.

  Of many classes, it names the largest and the smallest. Those without an image
  are left out.
  """
  order = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
  parts = [
    f"{names[c]} {form.format(values[c])} ({counts[c]:,} images)" for c in order
  ]
  if len(parts) > 2 * _SHOWN:
    parts = [*parts[:_SHOWN], "...", *parts[-_SHOWN:]]
  return ", ".join(parts)
