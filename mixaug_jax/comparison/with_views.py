"""Test-time augmentation of a comparison: every arm with and without views."""

import io
import json
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import augment, data, files
from mixaug_jax import config as config_lib
from mixaug_jax.analysis import calibration
from mixaug_jax.analysis import views as views_lib
from mixaug_jax.comparison import pictures, summary
from mixaug_jax.comparison.finished import FinishedRun
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.errors import UserError

_AVERAGE = "logits"  # The default of `evaluate`.


def check(views: str, config: ConfigDict) -> int:
  """Returns the number of views of an image.

  Args:
    views: names of `augment.make_views`, separated by commas.
    config: the resolved config of a run.

  Raises:
    UserError: a name is unknown or repeated, or the images are too small.
  """
  size, stored = config.data.image_size, config_lib.stored_size(config)
  images = jax.ShapeDtypeStruct((1, stored, stored, 3), np.uint8)
  try:
    return len(jax.eval_shape(augment.make_views(views, size), images))
  except ValueError as error:
    raise UserError(f"config.views: {error}") from None


def measure(comparison: Comparison, views: str) -> dict[str, Any]:
  """Compares the mean over views with the plain prediction, arm by arm.

  The predictions with views are stored in the run directories, and a second
  call reads them. A run that diverged has the accuracy of chance with and
  without views.

  Args:
    comparison: at least one run of its baseline is finished.
    views: as in `check`.

  Returns:
    As JSON: `views`; `count`, their number; `arms` by name, each with `seeds`,
    the accuracies `without` and `with` over these seeds, and their
    `difference`, adjusted by Holm for the number of arms; `notes`, sentences on
    the runs that are left out.

  Raises:
    UserError: see `check`.
  """
  count = check(views, comparison.first.run.config)
  opened: dict[int | None, data.Split] = {}

  def images(run: FinishedRun) -> data.Split:
    seed = None if run.split == "test" else run.run.config.seed
    if seed not in opened:
      opened[seed] = pictures.compared_images(comparison, run)
    return opened[seed]

  compared, missing = {}, []
  reasons: list[str] = []
  unstored: list[str] = []
  for name, of_arm in comparison.runs.items():
    ours, plain = {}, {}
    for seed, run in of_arm.items():
      try:
        logits = _logits(run, views, images, unstored)
      except (UserError, OSError) as error:
        missing.append(f"{name}/{seed}")
        reasons.append(str(error))
        continue
      ours[seed] = calibration.correct(logits, run.compared.labels)
      plain[seed] = run.correct
    if ours:
      diverged = {
        seed: summary.chance(comparison.runs, seed)
        for seed in comparison.diverged.get(name, {})
      }
      compared[name] = ours | diverged, plain | diverged
  gains = summary.differences(compared)
  over_seeds = lambda correct: summary.accuracy(
    [correct[seed] for seed in sorted(correct)]
  )
  return {
    "views": views,
    "count": count,
    "arms": {
      name: {
        "seeds": sorted(ours),
        "without": over_seeds(plain),
        "with": over_seeds(ours),
        "difference": gains[name]["difference"],
      }
      for name, (ours, plain) in compared.items()
    },
    "notes": [
      f"Views of {', '.join(missing)} are left out: {reasons[0]}."
      for _ in missing[:1]
    ]
    + [
      "Predictions with views that could not be stored, so that another page "
      f"computes them again: {len(unstored)} ({why})."
      for why in unstored[:1]
    ],
  }


def _logits(
  run: FinishedRun,
  views: str,
  images: Callable[[FinishedRun], data.Split],
  unstored: list[str],
) -> np.ndarray:
  """Reads or computes the mean logits over views, float32 `[N, C]`.

  Args:
    run: the run.
    views: as in `check`.
    images: opens the split that a run was measured on.
    unstored: gets the reason why the logits cannot be stored, if there is one.

  Raises:
    UserError, OSError: the weights of the run or its images are gone.
  """
  path = run.run.workdir / f"predictions_{run.split}_views.npz"
  # The plain predictions differ with the weights, the config and the images.
  content = run.compared.logits.tobytes() + "\0".join(run.compared.ids).encode()
  source = json.dumps({"views": views, "predictions": zlib.crc32(content)})
  logits = _read(path, source)
  if logits is not None and logits.shape == run.compared.logits.shape:
    return logits
  split = images(run)
  if list(split.ids) != list(run.compared.ids):
    raise UserError("the images are not those that the run was measured on")
  logits = views_lib.mean_logits(
    run.run.classifier().predictor(views),
    split,
    batch_size=run.run.config.evaluate.batch_size,
    average=_AVERAGE,
    likelihood=run.run.likelihood,
  )
  try:
    with files.replacing(path) as part:
      np.savez_compressed(part, logits=logits, source=source)
  except OSError as error:
    unstored.append(str(error))
  return logits


def _read(path: pathlib.Path, source: str) -> np.ndarray | None:
  """Reads the logits that were computed from `source`, if they are there."""
  try:
    content = io.BytesIO(files.read_bytes(path))
    with np.load(content, allow_pickle=False) as file:
      return file["logits"] if str(file["source"]) == source else None
  except Exception:  # No file, or a damaged one, which raises many types.
    return None
