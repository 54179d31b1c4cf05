"""Choice of the classes and the examples that a split keeps."""

from collections.abc import Mapping, Sequence

import numpy as np

from mixaug_jax.data.class_names import composed
from mixaug_jax.data.label_sets import are_sets
from mixaug_jax.data.sources import Source, Subset
from mixaug_jax.errors import UserError

# Names of what is not read, by reason.
LeftOut = dict[str, list[str]]

UNKNOWN_CLASSES = "images of classes that the run does not know"


def select(
  sources: Mapping[str, Source],
  chosen: str | None,
  class_names: Sequence[str] | None,
  found: dict[str, LeftOut],
) -> tuple[dict[str, Source], tuple[str, ...]]:
  """Keeps the examples of the wanted classes, with new class ids.

  Args:
    sources: by split.
    chosen: `config.data.classes`.
    class_names: as in `load`.
    found: what is left out; it gets the examples without a wanted class.

  Returns:
    The sources that have an example, and the class names.
  """
  names = next(iter(sources.values())).class_names
  if class_names is not None:
    wanted = tuple(class_names)
  elif chosen is not None:
    wanted = tuple(names[c] for c in classes(chosen, names))
  else:
    wanted = tuple(names)
  if len(wanted) < 2:
    raise UserError(
      "; ".join(
        [
          f"there is only one class, {', '.join(map(repr, wanted))}; a "
          "classifier needs two",
          *describe(found),
        ]
      )
    )
  number = {composed(name): i for i, name in enumerate(wanted)}
  new_ids = np.array([number.get(composed(n), -1) for n in names], np.int32)
  kept: dict[str, Source] = {}
  for split, source in sources.items():
    labels = np.asarray(source.labels)
    if are_sets(labels):
      # Without the labels that are not chosen, an image stays.
      unknown = np.asarray(labels[:, new_ids < 0].any(1))
      if chosen is not None:
        unknown = np.zeros_like(unknown)
      _note(found[split], UNKNOWN_CLASSES, source, unknown)
      rows = np.flatnonzero(~unknown)
      place = {composed(n): i for i, n in enumerate(names)}
      columns = [place.get(composed(n), len(names)) for n in wanted]
      # A class that the source lacks has no image.
      labels = np.pad(labels, ((0, 0), (0, 1)))[:, columns]
    else:
      known = (labels >= 0) & (labels < len(names))
      labels = np.where(known, new_ids[np.where(known, labels, 0)], -1)
      _note(found[split], "images whose label is not a class", source, ~known)
      if chosen is None or class_names is not None:
        _note(found[split], UNKNOWN_CLASSES, source, known & (labels < 0))
      rows = np.flatnonzero(labels >= 0)
    if len(rows) < len(source) or wanted != tuple(names):
      source = Subset(source, rows, labels[rows], wanted)
    if len(rows):
      kept[split] = source
    elif split in ("train", "all"):
      raise UserError(
        f"no image of {split} has one of the classes {', '.join(wanted[:5])}; "
        "check the data"
      )
  return kept, wanted


def _note(
  found: LeftOut, reason: str, source: Source, missing: np.ndarray
) -> None:
  """Records the examples of a source that a mask `[N]` marks, if any."""
  if missing.any():
    found[reason] = [source.ids[int(row)] for row in np.flatnonzero(missing)]


def describe(found: Mapping[str, LeftOut]) -> list[str]:
  """Returns a line for each split: what is left out, counted by reason."""
  return [
    f"left out of {split}: "
    + ", ".join(
      f"{reason} ({len(names):,}, the first: {names[0]})"
      for reason, names in reasons.items()
    )
    for split, reasons in found.items()
    if reasons
  ]


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
  wanted = [composed(name.strip()) for name in chosen.split(",")]
  known = [composed(name) for name in names]
  if unknown := [name for name in wanted if name not in known]:
    raise UserError(
      f"config.data.classes: there is no class {unknown[0]!r}; the first "
      f"classes are {', '.join(names[:5])}"
    )
  if len(set(wanted)) < 2:
    raise UserError("config.data.classes must name at least two classes")
  return [known.index(name) for name in dict.fromkeys(wanted)]


def hold_out(
  labels: np.ndarray,
  fraction: float,
  rng: np.random.Generator,
  hashes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Splits examples into two stratified parts; copies stay in one part.

  Args:
    labels: the class of each example, `[N]`.
    fraction: the share of each class to hold out. Every class with two
      examples or more keeps at least one in both parts, even if it consists of
      copies of one image.
    rng: draws the examples.
    hashes: equal for copies, `[N]`; None: there are no copies.

  Returns:
    Positions in `labels` of the rest and of the held-out part, both sorted.
    The latter is empty if no class has two examples.
  """
  groups = np.arange(len(labels))
  if hashes is not None:
    groups = np.unique(hashes, return_inverse=True)[1]
  held = np.zeros(len(labels), bool)
  # By group: -1 is undecided, 1 is held out.
  part = np.full(groups.max(initial=-1) + 1, -1, np.int8)
  for positions in _by_class(labels, rng):
    wanted = max(1, round(fraction * len(positions)))
    wanted = min(wanted, len(positions) - 1)
    found, firsts, member, sizes = np.unique(
      groups[positions],
      return_index=True,
      return_inverse=True,
      return_counts=True,
    )
    # Copies under another label may have decided already.
    taken = int(sizes[part[found] == 1].sum())
    order = np.argsort(firsts)  # Groups in the order of their first example.
    for group in order[part[found[order]] < 0].tolist():
      size = int(sizes[group])
      part[found[group]] = taken + size <= wanted
      taken += size * (taken + size <= wanted)
    held[positions] = part[found][member] == 1
    if not held[positions].any():
      # The first of the smallest groups of copies, if there are several.
      smallest = order[np.argmin(sizes[order])]
      several = len(found) > 1
      held[positions[member == smallest] if several else positions[:wanted]] = (
        True
      )
    elif held[positions].all():
      held[positions[wanted:]] = False
  return np.flatnonzero(~held), np.flatnonzero(held)


def per_class(
  labels: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
  """Returns the sorted positions of at most `count` examples of each class."""
  chosen = [positions[:count] for positions in _by_class(labels, rng)]
  return np.sort(np.concatenate(chosen))


def long_tailed(
  labels: np.ndarray, factor: float, rng: np.random.Generator
) -> np.ndarray:
  """Keeps fewer examples of each class than of the one before.

  The c-th of C classes keeps the share factor^(-c / (C - 1)) of its examples,
  rounded, and at least one: the profile of Cui et al., 2019, arXiv:1901.05555.

  Args:
    labels: the class of each example, `[N]`.
    factor: the share of the first class over that of the last one, at least 1.
    rng: draws the examples.

  Returns:
    Sorted positions in `labels`.
  """
  groups = _by_class(labels, rng)
  shares = factor ** -np.linspace(0, 1, len(groups))
  kept = [
    positions[: max(1, round(share * len(positions)))]
    for share, positions in zip(shares, groups, strict=True)
  ]
  return np.sort(np.concatenate(kept))


def oversampled(labels: np.ndarray, power: float = 0.0) -> np.ndarray:
  """Repeats positions of rare classes.

  A class of n examples has n^power m^(1 - power) positions, rounded, where the
  largest class has m, which are not repeated. With power 0, all classes have m;
  with 0.5, they are in proportion to the square roots; with 1, nothing is
  repeated. Of a class, the positions are repeated in turn.

  Args:
    labels: the class of each example, `[N]`.
    power: in [0, 1].
  """
  groups = _positions(labels)
  most = max(map(len, groups))
  sizes = [round(most * (len(group) / most) ** power) for group in groups]
  return np.concatenate(
    [np.resize(group, n) for group, n in zip(groups, sizes, strict=True)]
  )


def _by_class(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
  """Returns the positions of each class that occurs, in a random order."""
  return [rng.permutation(positions) for positions in _positions(labels)]


def _positions(labels: np.ndarray) -> list[np.ndarray]:
  """Returns the sorted positions of each class that occurs."""
  order = np.argsort(labels, kind="stable")
  ends = np.cumsum(np.unique(labels, return_counts=True)[1])
  return np.split(order, ends[:-1])
