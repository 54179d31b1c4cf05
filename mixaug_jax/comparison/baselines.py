"""Classical classifiers on the same images as the runs of a comparison."""

from typing import Any

import numpy as np

from mixaug_jax import data
from mixaug_jax.analysis import references
from mixaug_jax.comparison.plan import Comparison

_MOST_IMAGES = 5000  # With more training images, pixels say little.
_SIDE = 32  # Pixels; larger images are averaged over blocks.


def measure(comparison: Comparison) -> dict[str, np.ndarray]:
  """Trains classical classifiers on the splits of the baseline's runs.

  Returns:
    By name, whether each prediction on test is correct, bool `[S, N]` for the
    finished seeds of the baseline. It is empty without a test set, on which
    nothing is chosen, and with more than 5,000 training images.

  Raises:
    UserError: the data cannot be opened.
  """
  runs = list(comparison.runs[comparison.baseline].values())
  sizes = runs[0].result.examples
  if comparison.split != "test" or sizes.train > _MOST_IMAGES:
    return {}
  correct: dict[str, list[np.ndarray]] = {}
  for finished in runs:
    sets, _ = finished.run.datasets()
    size = finished.run.config.data.image_size
    train, validation, test = (
      (_pixels(split, size), split.labels)
      for split in (sets.train, sets.validation, sets.test)
    )
    classes = len(finished.result.class_names)
    predicted = {
      "nearest neighbours on pixels": references.nearest_neighbours(
        train, validation, test[0]
      ),
      "logistic regression on pixels": references.logistic_regression(
        train, validation, test[0], classes
      ),
    }
    for name, found in predicted.items():
      correct.setdefault(name, []).append(found == test[1])
  return {name: np.stack(each) for name, each in correct.items()}


def warnings(numbers: dict[str, Any]) -> list[str]:
  """Returns sentences on the arms that a classical classifier beats, if any.

  Args:
    numbers: as `summary.summarise` returns them, with `references`.
  """
  if not numbers["references"]:
    return []
  mean = lambda name: numbers["references"][name]["mean"]
  best = max(numbers["references"], key=mean)
  below = [
    f"{name} ({arm['accuracy']['mean']:.1%})"
    for name, arm in numbers["arms"].items()
    if arm["accuracy"]["mean"] < mean(best)
  ]
  if not below:
    return []
  return [
    f"Below {best} ({mean(best):.1%}): {', '.join(below)}. The recipe of such "
    "an arm is weak, and a gain over it may vanish with a better one."
  ]


def _pixels(split: data.Split, size: int) -> np.ndarray:
  """Returns what the network sees as features in [0, 1], float64 `[N, D]`."""
  images = split.images(np.arange(len(split)))
  edge = (images.shape[1] - size) // 2
  images = images[:, edge : edge + size, edge : edge + size]
  block = -(-size // _SIDE)
  side = size // block
  images = images[:, : side * block, : side * block]
  means = images.reshape(-1, side, block, side, block, 3).mean((2, 4))
  return means.reshape(len(images), -1) / 255
