"""Predicted label sets of image files, as a table and as predictions.csv."""

import csv
import io
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

from mixaug_jax import files
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable
from mixaug_jax.training.set_measured import Thresholds

FILE = "predictions.csv"
_HEADER = ["path", "labels"]
_SHOWN = 5  # Classes of an image.


def fields(row: Sequence[float], thresholds: Thresholds) -> dict[str, Any]:
  """Returns what a prediction of `predictions.classify` has of a label set.

  Args:
    row: the probability of each class, `[C]`.
    thresholds: of the run.

  Returns:
    `labels`, the names of the classes whose probability reaches the threshold,
    and `by_class`, the probability of every class by its name.
  """
  each = zip(thresholds.by_class.items(), row, strict=True)
  shares = [(name, limit, float(share)) for (name, limit), share in each]
  return {
    "labels": [name for name, limit, share in shares if share >= limit],
    "by_class": {name: share for name, _, share in shares},
  }


def table(
  rows: Sequence[dict[str, Any]], note: str, thresholds: Thresholds
) -> str:
  """Returns the labels of each image, and the most likely other classes.

  Args:
    rows: as `predictions.classify` returns them.
    note: on the probabilities; may be empty.
    thresholds: of the run.
  """
  lines = [note] if note else []
  for row in rows:
    lines.append(f"{row['image']}: {_words(row['labels'])}")
    order = sorted(row["by_class"].items(), key=lambda each: -each[1])
    for place, (name, share) in enumerate(order):
      has = name in row["labels"]
      if has or place < _SHOWN:
        limit = f"(from {thresholds.by_class[name]:.2%})"
        mark = "+" if has else " "
        lines.append(f" {mark}{share:7.2%}  {printable(name)} {limit}")
    if "overlay" in row:
      lines.append(f"  {row['overlay']}")
  return "\n".join(lines)


def _words(labels: Sequence[str]) -> str:
  return ", ".join(map(printable, labels)) or "no label"


def check(folder: pathlib.Path) -> None:
  """Raises UserError if FILE in a folder is not one of `write`."""
  path = folder / FILE
  if not path.exists():
    return
  try:
    text = files.read_text(path)
    first = next(csv.reader(io.StringIO(text)), [])
  except (OSError, ValueError, csv.Error):
    first = []
  if first[:2] != _HEADER or not all(x.startswith("p ") for x in first[2:]):
    raise UserError(
      f"{path} was not written by predict; move it away, or name another "
      "--output"
    )


def write(
  folder: pathlib.Path, rows: Sequence[dict[str, Any]], separator: str
) -> None:
  """Writes FILE: the path, labels and all probabilities of each image.

  Args:
    folder: of the file, which replaces an older one.
    rows: as `predictions.classify` returns them; one at least.
    separator: between the labels.

  Raises:
    UserError: it cannot be written.
  """
  text = io.StringIO()
  lines = csv.writer(text, lineterminator="\n")
  names = list(rows[0]["by_class"])
  lines.writerow([*_HEADER, *(f"p {name}" for name in names)])
  for row in rows:
    shares = (f"{row['by_class'][name]:.9g}" for name in names)
    labels = separator.join(row["labels"])
    lines.writerow(itertools.chain([row["image"], labels], shares))
  try:
    with files.replacing(folder / FILE) as part:
      part.write_text(text.getvalue(), "utf-8")
  except OSError as error:
    raise UserError(
      f"cannot write {folder / FILE}: {error.strerror}; name another --output"
    ) from None
