"""Classical classifiers on the same images as the runs of a comparison."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mixaug_jax import classifier, data, models
from mixaug_jax.analysis import references
from mixaug_jax.comparison import pictures
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.errors import UserError
from mixaug_jax.runs import Run
from mixaug_jax.training import experiment, pretrained

_MOST_IMAGES = 2000  # With more training images, pixels say little.
_SIDE = 16  # Pixels; larger images are averaged over blocks.
_BLOCK = 500  # Images in memory at a time.
_METHODS = ("nearest neighbours", "logistic regression")
_DISTANCES: dict[str, references.Metric] = {
  "pixels": "euclidean",
  "frozen features": "cosine",
}

# Returns the features of a split, `[N, D]`.
_Features = Callable[[data.Split], np.ndarray]


class Measured(NamedTuple):
  """What classical classifiers reach.

  Attributes:
    correct: by name and seed, whether each prediction on test is correct, bool
      `[N]`.
    notes: sentences on the classifiers that are left out.
  """

  correct: dict[str, dict[int, np.ndarray]]
  notes: list[str]


def measure(comparison: Comparison) -> Measured:
  """Trains classical classifiers on the splits of every seed.

  Their features are pixels. Where the runs start from pretrained weights,
  features are also the means of the activations before the head, of the network
  with these weights, before any training. Nothing is measured without a test
  set, on which nothing is chosen, and with more than 2,000 training images.

  Raises:
    UserError: the data cannot be opened, or changed.
  """
  train_images = comparison.first.result.examples.train
  if comparison.split != "test":
    return Measured({}, ["Classical classifiers are left out: no test set."])
  if train_images > _MOST_IMAGES:
    return Measured(
      {},
      [
        "Classical classifiers are left out: they are measured with up to "
        f"{_MOST_IMAGES:,} training images, and there are {train_images:,}."
      ],
    )
  pictures.compared_images(comparison)  # Raises if the data changed.
  run = comparison.first.run
  kinds: dict[str, _Features] = {
    "pixels": lambda split: _pixels(split, run.config.data.image_size)
  }
  notes = []
  if run.config.model.pretrained is not None:
    try:
      kinds["frozen features"] = _frozen(run)
    except UserError as error:
      notes.append(f"Classifiers on frozen features are left out: {error}.")
  correct: dict[str, dict[int, np.ndarray]] = {}
  class_names = run.result.class_names
  for cell in comparison.cells:
    if cell.arm != comparison.baseline:
      continue
    sets = data.load(cell.config.data, cell.seed, class_names=class_names)
    assert sets.test is not None  # The runs are compared on it.
    truth = sets.test.labels
    for kind, features in kinds.items():
      train, validation = (
        (features(split), split.labels)
        for split in (sets.train, sets.validation)
      )
      test = features(sets.test)
      predicted = (
        references.nearest_neighbours(
          train, validation, test, metric=_DISTANCES[kind]
        ),
        references.logistic_regression(
          train, validation, test, len(class_names)
        ),
      )
      for method, found in zip(_METHODS, predicted, strict=True):
        of_method = correct.setdefault(f"{method} on {kind}", {})
        of_method[cell.seed] = found == truth
  return Measured(correct, notes)


def _frozen(run: Run) -> _Features:
  """Returns the features of the network with its pretrained weights.

  Each image is computed once, however many seeds use it.

  Raises:
    UserError: the weights are not available any more, or fill only a part of
      the network.
  """
  settings = run.config.model
  weights = pretrained.resolve(
    settings.pretrained, settings.name, settings.allow_partial
  )
  assert weights is not None  # Without weights, there is no `_frozen`.
  model = experiment.create_model(run.config, len(run.result.class_names))
  shapes = models.abstract_variables(model, run.config.data.image_size)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  variables, report = weights.load(zeros)
  if report.missing:
    raise UserError(f"{settings.pretrained} fills only a part of the network")
  network = classifier.Classifier(run.config, model, variables).features()
  known: dict[int, np.ndarray] = {}

  def features(split: data.Split) -> np.ndarray:
    hashes = split.hashes.tolist()
    # The place of each new image once, because `oversample` repeats images.
    new = [*{x: n for n, x in enumerate(hashes) if x not in known}.values()]
    size = run.config.evaluate.batch_size
    for first in range(0, len(new), size):
      rows = np.array(new[first : first + size])
      # The batch is filled up, because every new size compiles.
      found = network(split.images(np.resize(rows, size)))[: len(rows)]
      known.update(zip(split.hashes[rows].tolist(), found, strict=True))
    return np.stack([known[x] for x in hashes])

  return features


def warnings(numbers: Mapping[str, Any]) -> list[str]:
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
