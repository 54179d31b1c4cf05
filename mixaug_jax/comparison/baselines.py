"""Classical classifiers on the same images as the runs of a comparison."""

from typing import Any

import numpy as np

from mixaug_jax import data
from mixaug_jax.analysis import references
from mixaug_jax.comparison import pictures
from mixaug_jax.comparison.plan import Comparison

_MOST_IMAGES = 2000  # With more training images, pixels say little.
_SIDE = 16  # Pixels; larger images are averaged over blocks.
_BLOCK = 500  # Images in memory at a time.


def measure(comparison: Comparison) -> dict[str, dict[int, np.ndarray]]:
  """Trains classical classifiers on the splits of every seed.

  Returns:
    By name and seed, whether each prediction on test is correct, bool `[N]`.
    It is empty without a test set, on which nothing is chosen, and with more
    than 2,000 training images.

  Raises:
    UserError: the data cannot be opened, or changed.
  """
  sizes = comparison.first.result.examples
  if comparison.split != "test" or sizes.train > _MOST_IMAGES:
    return {}
  pictures.compared_images(comparison)  # Raises if the data changed.
  correct: dict[str, dict[int, np.ndarray]] = {}
  class_names = comparison.first.result.class_names
  for cell in comparison.cells:
    if cell.arm != comparison.baseline:
      continue
    sets = data.load(cell.config.data, cell.seed, class_names=class_names)
    train, validation, test = (
      (_pixels(split, cell.config.data.image_size), split.labels)
      for split in (sets.train, sets.validation, sets.test)
    )
    predicted = {
      "nearest neighbours on pixels": references.nearest_neighbours(
        train, validation, test[0]
      ),
      "logistic regression on pixels": references.logistic_regression(
        train, validation, test[0], len(class_names)
      ),
    }
    for name, found in predicted.items():
      correct.setdefault(name, {})[cell.seed] = found == test[1]
  return correct


def warnings(numbers: dict[str, Any]) -> list[str]:
  """Returns a sentence on the arms that a classical classifier beats, if any.

  Args:
    numbers: as `summary.summarise` returns them, with `references`.
  """
  if not numbers["references"]:
    return []
  mean = lambda name: numbers["references"][name]["mean"]
  best = max(numbers["references"], key=mean)
  below = [
    f"{name} ({100 * numbers['arms'][name]['accuracy']['mean']:.1f} %)"
    for name in numbers["references"][best]["below"]
  ]
  if not below:
    return []
  return [
    f"Below {best} ({100 * mean(best):.1f} %): {', '.join(below)}. The recipe "
    "of such an arm is weak, and a gain over it may vanish with a better one."
  ]


def _pixels(split: data.Split, size: int) -> np.ndarray:
  """Returns what the network sees as features in [0, 1], float64 `[N, D]`."""
  block = -(-size // _SIDE)
  side = size // block
  blocks = []
  for first in range(0, len(split), _BLOCK):
    last = min(first + _BLOCK, len(split))
    images = split.images(np.arange(first, last))
    edge = (images.shape[1] - size) // 2
    images = images[:, edge:, edge:][:, : side * block, : side * block]
    means = images.reshape(-1, side, block, side, block, 3).mean((2, 4))
    blocks.append(means.reshape(len(images), -1) / 255)
  return np.concatenate(blocks)
