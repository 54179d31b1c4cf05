"""Choice of the classes and the examples that a split keeps, from labels."""

from collections.abc import Sequence

import numpy as np

from mixaug_jax.errors import UserError


def classes(chosen: str, names: Sequence[str]) -> list[int]:
  """Returns the class ids that `config.data.classes` names.

  Args:
    chosen: a count, or names separated by commas.
    names: the name of every class id.

  Raises:
    UserError: fewer than two classes, or a class that is not in `names`.
  """
  if chosen.isdigit():  # A count, even if a class has this name.
    if not 2 <= int(chosen) <= len(names):
      raise UserError(
        f"config.data.classes must be 2 to {len(names)}, got {chosen}"
      )
    return list(range(int(chosen)))
  wanted = [name.strip() for name in chosen.split(",")]
  if unknown := [name for name in wanted if name not in names]:
    raise UserError(
      f"config.data.classes: there is no class {unknown[0]!r}; the first "
      f"classes are {', '.join(names[:5])}"
    )
  if len(set(wanted)) < 2:
    raise UserError("config.data.classes must name at least two classes")
  return [names.index(name) for name in dict.fromkeys(wanted)]


def hold_out(
  labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Splits examples into two stratified parts, for train and validation.

  Args:
    labels: the class of each example, `[N]`.
    fraction: the share of each class to hold out. Every class with two
      examples or more keeps at least one in both parts.
    rng: draws the examples.

  Returns:
    Positions in `labels` of the rest and of the held-out part, both sorted.

  Raises:
    UserError: no class has two examples.
  """
  taken = []
  for positions in _by_class(labels, rng):
    count = max(1, round(fraction * len(positions)))
    taken.append(positions[: min(count, len(positions) - 1)])
  held_out = np.sort(np.concatenate(taken))
  if not len(held_out):
    raise UserError(
      "no class of train has two images, so none can be held out for "
      "validation; add images, or a folder validation/"
    )
  return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def per_class(
  labels: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
  """Returns the sorted positions of at most `count` examples of each class."""
  chosen = [positions[:count] for positions in _by_class(labels, rng)]
  return np.sort(np.concatenate(chosen))


def oversampled(labels: np.ndarray) -> np.ndarray:
  """Repeats positions until every class has as many as the largest class."""
  groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
  most = max(map(len, groups))
  return np.concatenate([np.resize(group, most) for group in groups])


def _by_class(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
  """Returns the positions of each class that occurs, in a random order."""
  return [
    rng.permutation(np.flatnonzero(labels == label))
    for label in np.unique(labels)
  ]
