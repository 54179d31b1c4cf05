"""Pictures that need the data or the networks of a comparison.

They show the training images of each arm and its activation maps; `figures`
draws numbers.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixaug_jax import data, files, runs
from mixaug_jax.analysis import cam, contact_sheet
from mixaug_jax.comparison import summary
from mixaug_jax.comparison.finished import FinishedRun
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.data import decode
from mixaug_jax.data.boxes import box_in_square
from mixaug_jax.errors import UserError
from mixaug_jax.pages import drawing, figures, maps, measured, tiles

# The name of a row of `tiles`; its images, their captions, which are right.
_Row = tuple[str, np.ndarray, list[str], list[bool | None]]
_SHEET_STEPS = range(8)
_SHEET_IMAGES = 8
_CAM_IMAGES = 6
_BOX_IMAGES = 512
_BATCH = 64


def compared_images(
  comparison: Comparison, of: FinishedRun | None = None
) -> data.Split:
  """Opens the split that arms are compared on.

  Args:
    comparison: the comparison.
    of: the run whose split it is; by default `comparison.first`.

  Raises:
    UserError: the data changed since the runs were trained.
  """
  run = (of or comparison.first).run
  sets, changed = run.datasets()
  if run.identity and changed:
    raise UserError(
      "the pictures need the data that the runs were trained on, which "
      f"changed: {'; '.join(changed)}; restore them"
    )
  return sets.by_name()[comparison.split]


def _on_the_same_images(
  comparison: Comparison,
) -> dict[str, list[FinishedRun]]:
  """Returns the runs by arm that were measured on the images of `first`.

  Without a test set, each seed may have images of its own.
  """
  ids = comparison.first.compared.ids
  alike = lambda run: np.array_equal(run.compared.ids, ids)
  found = {
    name: list(filter(alike, of_arm.values()))
    for name, of_arm in comparison.runs.items()
  }
  return {name: of_arm for name, of_arm in found.items() if of_arm}


def network_inputs(
  comparison: Comparison, folder: pathlib.Path
) -> list[dict[str, Any]]:
  """Draws a training batch of the first seed of each arm.

  Arms that mix leave some batches or examples as they are. So the batch is that
  of the first eight in which the arms mix most of the images that are shown.

  Args:
    comparison: the comparison.
    folder: the folder of a PNG file for each arm.

  Returns:
    Rows of `tiles`: the images as stored, and what each arm feeds the network.
    An arm whose stored images differ from those of the arm above has a row of
    its own for them. An arm whose mixer needs the network has no row.
  """
  configs = {
    name: next(iter(of_arm.values())).run.config
    for name, of_arm in comparison.runs.items()
  }
  batches = {
    name: contact_sheet.training_batches(config, _SHEET_STEPS)
    for name, config in configs.items()
    if not contact_sheet.needs_network(config)
  }
  if not batches:
    return []
  mixed = [
    sum("+" in words for *_, labels in step for words in labels[:_SHEET_IMAGES])
    for step in zip(*batches.values(), strict=True)
  ]
  step = int(np.argmax(mixed))
  rows, stored = [], None
  for number, (name, of_arm) in enumerate(batches.items()):
    batch = of_arm[step]
    path = folder / f"network_input_{number}.png"
    with files.replacing(path) as part:
      contact_sheet.sheet(*batch, _SHEET_IMAGES).save(part)
    before, classes, after, labels = batch
    before, after = before[:_SHEET_IMAGES], after[:_SHEET_IMAGES]
    if stored is None or not np.array_equal(stored, before):
      stored = before
      rows.append(
        tiles.row("images as stored", before, classes[:_SHEET_IMAGES])
      )
    rows.append(tiles.row(name, after, labels[:_SHEET_IMAGES]))
  return rows


def activation_maps(
  comparison: Comparison,
  best: str,
  images: data.Split,
  class_names: Sequence[str],
  folder: pathlib.Path,
) -> list[dict[str, Any]]:
  """Draws activation maps of the first seed of each arm, on the same images.

  An arm without a run that was measured on these images has none.

  Returns:
    Rows of `tiles`: the images, and the maps of each arm.
  """
  first = {name: x[0] for name, x in _on_the_same_images(comparison).items()}
  theirs = first[comparison.baseline]
  chosen = _telling(theirs.correct, first.get(best, theirs).correct)
  shown = stored = images.images(chosen)
  pictures, captions, correct = [], [], []
  for run in first.values():
    network = run.run.classifier()
    logits = run.compared.logits[chosen]
    predicted = logits.argmax(-1)
    shown, laid = maps.over(network, stored, predicted)
    pictures.append(laid)
    confidence = measured.confidence(logits, run.run.likelihood)
    captions.append(
      [
        f"{class_names[i]}\n{share:.0%}"
        for i, share in zip(predicted, confidence, strict=True)
      ]
    )
    correct.append(list(run.correct[chosen]))
  truth = [class_names[label] for label in images.labels[chosen]]
  rows: list[_Row] = [
    ("image", shown, truth, [None] * len(chosen)),
    *zip(first, pictures, captions, correct, strict=True),
  ]
  by_image = lambda part: list(zip(*(row[part] for row in rows), strict=True))
  figure = figures.picture_table(
    by_image(1), by_image(2), by_image(3), [name for name, *_ in rows]
  )
  drawing.png(figure, folder / "activation_maps.png", dpi=130)
  return [tiles.row(*row) for row in rows]


def _telling(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
  """Chooses images on which two runs agree, and images on which they do not.

  Args:
    theirs: which examples the baseline classifies correctly, bool `[N]`.
    ours: the same of the best arm.

  Returns:
    Positions: two that only the best arm classifies correctly, two that both
    do, one that only the baseline does, one that neither does; others where a
    kind is missing. The same ones every time.
  """
  kinds = (ours & ~theirs, ours & theirs, ~ours & theirs, ~ours & ~theirs)
  order = np.random.default_rng(0).permutation(len(ours))
  chosen: list[int] = []
  for kind, count in zip(kinds, (2, 2, 1, 1), strict=True):
    chosen += [int(i) for i in order if kind[i]][:count]
  spare = [int(i) for i in order if i not in chosen]
  return np.array((chosen + spare)[:_CAM_IMAGES])


def energy_inside_boxes(
  comparison: Comparison, images: data.Split
) -> tuple[dict[str, Any], float | None]:
  """Measures the share of each arm's activation maps inside bounding boxes.

  The maps are those of the true class, on at most 512 images. Runs that were
  measured on other images are left out.

  Returns:
    An interval over the seeds for each arm, and the share of the images that
    the boxes cover; nothing where the data come without boxes.
  """
  boxes = getattr(images.source, "boxes", None)
  if boxes is None:
    return {}, None
  rng = np.random.default_rng(0)
  chosen = np.sort(rng.permutation(len(images))[:_BOX_IMAGES])
  rows = images.rows[chosen]
  placed = np.stack(
    [
      _box_in_view(
        comparison.first.run, images.source[int(row)]["image"], boxes[row]
      )
      for row in rows
    ]
  )
  visible = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
  chosen, placed = chosen[visible], placed[visible]
  if not len(chosen):
    return {}, None
  shares = {}
  for name, of_arm in _on_the_same_images(comparison).items():
    each = []
    for run in of_arm:
      network = run.run.classifier()
      energy = []
      for begin in range(0, len(chosen), _BATCH):
        part = chosen[begin : begin + _BATCH]
        found = network.activation_maps(
          images.images(part), images.labels[part]
        )
        energy.append(cam.energy_inside(found, placed[begin : begin + _BATCH]))
      each.append(float(np.concatenate(energy).mean()))
    shares[name] = summary.interval(each)
  sides = placed[:, 2:] - placed[:, :2]
  return shares, float(sides.prod(-1).mean())


def _box_in_view(run: runs.Run, image: Any, box: np.ndarray) -> np.ndarray:
  """A box of a picture, in fractions of what evaluation sees of it."""
  config = run.config.data
  height, width = decode.picture_size(image)
  box = box_in_square(config.resize, height, width, box)
  stored, seen = config.cache_size or config.image_size, config.image_size
  return np.clip((box * stored - (stored - seen) // 2) / seen, 0, 1)
