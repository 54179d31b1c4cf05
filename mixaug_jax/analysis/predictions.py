"""Predictions of image files: the most likely classes, and where they show."""

import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixaug_jax.analysis import calibration, set_predictions
from mixaug_jax.analysis.likelihood import Likelihood
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable
from mixaug_jax.training.set_measured import Thresholds

_BATCH = 32
_TOP = 5

# Takes images `[B, S, S, 3]`, class ids `[B]` and paths; returns the file of
# each path, or the reason why it has none.
Draw = Callable[
  [np.ndarray, np.ndarray, Sequence[pathlib.Path]],
  Sequence[pathlib.Path | UserError],
]


def classify(
  paths: Sequence[pathlib.Path],
  read: Callable[[pathlib.Path], np.ndarray],
  logits: Callable[[np.ndarray], np.ndarray],
  class_names: Sequence[str],
  likelihood: Likelihood,
  draw: Draw | None = None,
  thresholds: Thresholds | None = None,
) -> tuple[list[dict[str, Any]], list[UserError]]:
  """Predicts the five most likely classes of each image.

  Args:
    paths: the image files.
    read: returns an image as stored, uint8 `[S, S, 3]`, or raises UserError.
    logits: takes images `[32, S, S, 3]`; returns `[32, C]`.
    class_names: by class id.
    likelihood: the meaning of the logits.
    draw: draws images with their most likely classes.
    thresholds: of a run with label sets.

  Returns:
    A dict for each image: `image`, its path, printable; `top`, dicts of `class`
    and `probability`; `probabilities`, the kind of the likelihood; with
    thresholds, what `set_predictions.fields` returns; and `overlay`, its
    drawing, if there is one. Then the errors of the images that
    cannot be read or whose logits are not numbers.
  """
  rows, errors = [], []
  for first in range(0, len(paths), _BATCH):
    good, images = [], []
    for path in paths[first : first + _BATCH]:
      try:
        images.append(read(path))
        good.append(path)
      except UserError as error:
        errors.append(error)
    if not good:
      continue
    # The batch is filled up, so that one program serves all.
    full = np.resize(np.stack(images), (_BATCH, *images[0].shape))
    outputs = logits(full)[: len(good)]
    # The thresholds are of float64.
    kind = np.float64 if thresholds else outputs.dtype
    probabilities = likelihood.probabilities(outputs.astype(kind))
    undefined = calibration.undefined(outputs)
    errors += [
      UserError(f"{path}: the logits of the network are not numbers")
      for path in itertools.compress(good, undefined)
    ]
    if undefined.all():
      continue
    good = list(itertools.compress(good, ~undefined))
    probabilities = probabilities[~undefined]
    new = [
      {
        "image": printable(str(path)),
        "top": _top(row, class_names),
        "probabilities": likelihood.kind,
        **(set_predictions.fields(row, thresholds) if thresholds else {}),
      }
      for path, row in zip(good, probabilities, strict=True)
    ]
    if draw is not None:
      shown = np.resize(full[: len(undefined)][~undefined], full.shape)
      classes = np.resize(probabilities.argmax(-1), _BATCH)
      drawn = draw(shown, classes, good)
      for row, file in zip(new, drawn, strict=True):
        if isinstance(file, UserError):
          errors.append(file)
        else:
          row["overlay"] = printable(str(file))
    rows += new
  return rows, errors


def _top(row: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
  order = np.argsort(-row, kind="stable")[:_TOP]
  return [
    {"class": class_names[i], "probability": float(row[i])} for i in order
  ]


def _shown(name: str) -> str:
  """Returns a class name as printable, unless it is that already."""
  return name if name.isprintable() else printable(name)


def table(rows: Sequence[dict[str, Any]], note: str) -> str:
  """Returns the note on the probabilities, then the classes of each image.

  Args:
    rows: as `classify` returns them.
    note: may be empty.
  """
  lines = [note] if note else []
  for row in rows:
    lines.append(row["image"])
    lines += [
      f"  {entry['probability']:7.2%}  {_shown(entry['class'])}"
      for entry in row["top"]
    ]
    if "overlay" in row:
      lines.append(f"  {row['overlay']}")
  return "\n".join(lines)
