"""The pictures of one run's page, which need its data or its weights."""

import functools
import io
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from markupsafe import Markup
from PIL import Image

from mixaug_jax import augment, data
from mixaug_jax import config as config_lib
from mixaug_jax.analysis import calibration, contact_sheet, mistakes
from mixaug_jax.data.class_names import composed
from mixaug_jax.errors import UserError
from mixaug_jax.pages import maps, measured, render, tiles
from mixaug_jax.run_page import set_mistakes
from mixaug_jax.runs import Predictions, Run

_MISTAKES = 12
_MAPS_WRONG, _MAPS_RIGHT = 3, 3
_STEP = 2  # An early step; any would do.
_FED = 8  # Training images.


def draw(
  run: Run, split: str, shown: Predictions, names: Sequence[str]
) -> dict[str, Any]:
  """Draws all pictures that the data and the weights allow.

  Args:
    run: the run.
    split: the split of the page.
    shown: the predictions on it.
    names: the class names, by class id.

  Returns:
    `mistakes`, dicts of the most confident mistakes with `picture` (None
    without the data), `true`, `predicted`, `confidence` and `id`; `maps`, the
    same for images with their activation maps; `fed`, rows of
    `tiles` with an early training batch; `no_pictures` and `no_maps`, the
    reason why they are missing; `data_warnings`, sentences about the data.
  """
  thresholds = run.result.thresholds
  limits = thresholds.array() if thresholds else np.zeros(0)
  if thresholds:
    wrong, classes = set_mistakes.worst(shown, limits, _MISTAKES)
    describe = functools.partial(set_mistakes.described, shown, names, limits)
  else:
    wrong = mistakes.most_confident(
      shown.logits, shown.labels, run.likelihood, _MISTAKES
    )
    classes = shown.logits[wrong].argmax(-1)
    describe = functools.partial(_described, run, shown, names)
  content: dict[str, Any] = {
    "mistakes": describe(wrong, classes),
    "maps": [],
    "fed": [],
    "no_pictures": None,
    "no_maps": None,
    "data_warnings": [],
  }
  try:
    sets = _same_data(run, split, shown)
    images = sets.by_name()[split]
    seen = _seen(run, images, wrong)
    batch = None
    if not contact_sheet.needs_network(run.config):
      batch = contact_sheet.training_batch(run.config, _STEP)
  except (UserError, OSError) as error:
    return content | {"no_pictures": str(error)}
  _add(content["mistakes"], seen)
  content["data_warnings"] = [
    f"{text[0].upper()}{text[1:]}."
    for text in (
      *sets.warnings,
      *config_lib.shares_without_effect(run.config, sets.given),
    )
  ]
  if batch is not None:
    stored, truth, fed, labels = batch
    content["fed"] = [
      tiles.row("as stored", stored[:_FED], truth[:_FED]),
      tiles.row("as fed", fed[:_FED], labels[:_FED]),
    ]
  if thresholds:
    right, of_right = set_mistakes.some_right(shown, limits, _MAPS_RIGHT)
  else:
    right = _some_right(shown)
    of_right = shown.logits[right].argmax(-1)
  chosen = np.concatenate([wrong[:_MAPS_WRONG], right])
  classes = np.concatenate([classes[:_MAPS_WRONG], of_right])
  if not len(chosen):
    why = "no image has a label or a mistake" if thresholds else ""
    return content | {"no_maps": why or "no logits are numbers"}
  described = describe(chosen, classes)
  try:
    plain, laid = maps.over(
      run.classifier(),
      images.images(chosen),
      classes,
    )
  except (UserError, OSError) as error:
    return content | {"no_maps": str(error)}
  _add(described, np.concatenate([plain, laid], axis=2))
  return content | {"maps": described}


def _same_data(run: Run, split: str, shown: Predictions) -> data.Datasets:
  """Opens the data of a run; raises UserError if they changed."""
  sets, changed = run.datasets()
  there = sets.by_name()
  if not changed and _joined(there[split].ids) != _joined(shown.ids):
    changed = [f"the predictions on {split} are those of other images"]
  if changed:
    raise UserError(
      f"the data changed since the run was trained: {'; '.join(changed)}; "
      "restore them and repeat the command"
    )
  return sets


def _joined(ids: Iterable[str]) -> str:
  """Returns ids in one text, in which the form of an accent plays no part."""
  return composed("\0".join(ids))


def _seen(run: Run, images: data.Split, positions: np.ndarray) -> np.ndarray:
  """Returns what the network sees of images, small ones enlarged."""
  stored = jnp.asarray(images.images(positions))
  crops = augment.center_crop(stored, run.config.data.image_size)
  return maps.enlarged(np.asarray(crops))


def _some_right(shown: Predictions) -> np.ndarray:
  """Returns positions of images that are classified correctly, at random."""
  right = np.flatnonzero(calibration.correct(shown.logits, shown.labels))
  return np.random.default_rng(0).permutation(right)[:_MAPS_RIGHT]


def _described(
  run: Run,
  shown: Predictions,
  names: Sequence[str],
  positions: np.ndarray,
  classes: np.ndarray,
) -> list[dict[str, Any]]:
  """Returns the captions of images and their predicted classes."""
  logits = shown.logits[positions]
  confidence = measured.confidence(logits, run.likelihood)
  return [
    {
      "picture": None,
      "true": names[int(shown.labels[position])],
      "predicted": names[int(predicted)],
      "right": shown.labels[position] == predicted,
      "confidence": float(share),
      "id": str(shown.ids[position]),
    }
    for position, predicted, share in zip(
      positions, classes, confidence, strict=True
    )
  ]


def _add(described: Sequence[dict[str, Any]], images: np.ndarray) -> None:
  """Adds its picture to each description, in place."""
  for row, image in zip(described, images, strict=True):
    text = f"image of {row['true']}, predicted {row['predicted']}"
    row["picture"] = _element(Image.fromarray(image), text)


def _element(picture: Image.Image, description: str) -> Markup:
  content = io.BytesIO()
  picture.save(content, "PNG")
  return render.embedded(content.getvalue(), description)
