"""Images with several labels or none, where labels are rows of 0 and 1.

The labels of such a split are uint8 `[N, C]`, in place of class ids `[N]`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mixaug_jax.errors import UserError

# Images of a class in validation that its threshold is chosen on.
FEWEST = 5
KEYS = ("label_separator", "label_columns")


def are_sets(labels: Any) -> bool:
  """Returns whether labels are rows `[N, C]` and not class ids `[N]`."""
  return labels.ndim == 2


def of_item(label: Any) -> Any:
  """Returns the label of one example: an int, or its row of a label set."""
  return label if np.ndim(label) else int(label)


def key(config: ConfigDict) -> str | None:
  """Returns the key of `config.data` that asks for label sets, if any."""
  given = [name for name in KEYS if config[name] is not None]
  return given[0] if given else None


def check(config: ConfigDict) -> None:
  """Raises UserError for a key of `config.data` that does not fit label sets.

  Args:
    config: `config.data`.
  """
  if (name := key(config)) is None:
    return
  here = f"config.data.{name}"
  if None not in (config.label_separator, config.label_columns):
    raise UserError(
      "set one of config.data.label_separator and config.data.label_columns, "
      "not both"
    )
  separator = config.label_separator
  if separator is not None and (len(separator) != 1 or separator.isalnum()):
    raise UserError(
      f"{here} must be one character such as ; or |, got {separator!r}"
    )
  if config.name != "csv":
    raise UserError(
      f"{here} needs the lists of config.data.name=csv, and config.data.name "
      f"is {config.name}; leave it unset"
    )
  for other, why in (
    ("examples_per_class", "counts the images of a class"),
    ("oversample", "repeats the images of a class"),
    ("imbalance_factor", "leaves images of a class out"),
  ):
    if config[other]:
      raise UserError(
        f"config.data.{other} {why}, and with {here} an image may have "
        "several; leave it unset"
      )


def counts(labels: np.ndarray, classes: int) -> list[int]:
  """Returns the number of examples with each label.

  Args:
    labels: class ids, int32 `[N]`, or label sets, uint8 `[N, C]`.
    classes: their number, C.
  """
  if are_sets(labels):
    return labels.sum(0, dtype=np.int64).tolist()
  return np.bincount(labels, minlength=classes).tolist()


def in_words(labels: np.ndarray, names: Sequence[str]) -> list[str]:
  """Returns a text for each example: its class, or its labels by commas.

  Args:
    labels: as in `counts`.
    names: the class names.
  """
  if not are_sets(labels):
    return [names[label] for label in labels]
  return [
    ", ".join(names[int(i)] for i in np.flatnonzero(row)) or "no label"
    for row in labels
  ]


def warnings(
  parts: Mapping[str, np.ndarray], names: Sequence[str]
) -> list[str]:
  """Describes the label sets of the splits, a sentence each.

  Args:
    parts: the labels of each split, uint8 `[N, C]`.
    names: the class names.

  Raises:
    UserError: no image of a split has a label.
  """
  lines = []
  for split, labels in parts.items():
    found = labels.sum(0, dtype=np.int64)
    if not found.any():
      raise UserError(
        f"no image of {split} has a label, so nothing can be measured or "
        f"learned on it; check the labels of {split}"
      )
    absent = np.flatnonzero(found == 0)
    if len(absent) and split != "train":  # `Datasets` warns about train.
      lines.append(
        f"{split} has no image of {len(absent):,} of {len(names):,} classes, "
        "which its mean average precision leaves out; the first: "
        f"{names[absent[0]]}"
      )
  few = np.flatnonzero(parts["validation"].sum(0, dtype=np.int64) < FEWEST)
  if len(few):
    lines.append(
      f"validation has fewer than {FEWEST} images of {len(few):,} of "
      f"{len(names):,} classes, whose threshold is 0.5; the first: "
      f"{names[few[0]]}"
    )
  return lines


def hidden(names: Sequence[str]) -> list[str]:
  """Returns a sentence if a class seems to be several, such as `cat;dog`.

  Args:
    names: the class names of images with one class each.
  """
  known = set(names)
  for name in names:
    for separator in ";|,":
      parts = [part.strip() for part in name.split(separator)]
      if len(parts) > 1 and set(parts) <= known:
        return [
          f"the class {name!r} is made of other classes; if an image may have "
          f"several labels, set config.data.label_separator='{separator}'"
        ]
  return []


def sizes(parts: Mapping[str, np.ndarray]) -> str:
  """Describes how many labels images have, in a sentence.

  Args:
    parts: the labels of each split, uint8 `[N, C]`.
  """
  each = (
    f"{split} {labels.sum() / len(labels):.2f} "
    f"({int((labels.sum(1) == 0).sum()):,} images have none)"
    for split, labels in parts.items()
  )
  return f"labels of an image: {', '.join(each)}"
