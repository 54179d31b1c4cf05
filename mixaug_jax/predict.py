"""`python -m mixaug_jax.predict`: the classes of image files, and why."""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from mixaug_jax.command import exits, flags, jax_setup
from mixaug_jax.errors import UserError

_BATCH = 32
_TOP = 5


def main(argv: Sequence[str]) -> int:
  parser = flags.parser(
    "predict", "Classifies images by the chosen weights of a finished run."
  )
  parser.add_argument("--workdir", type=flags.path, required=True)
  parser.add_argument(
    "--output",
    type=flags.path,
    help="a folder for class activation overlays, a PNG an image",
  )
  parser.add_argument(
    "--stage",
    help="Grad-CAM of this stage, e.g. stage2; default: CAM of the last one",
  )
  parser.add_argument(
    "--views",
    default="identity",
    help="views whose logits are averaged: identity, flip, five_crops, "
    "scales; several by commas",
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  parser.add_argument(
    "images", nargs="+", type=flags.path, help="image files, or folders"
  )
  arguments = flags.parse(parser, argv)
  paths = _files(arguments.images)
  jax_setup.prepare()

  from mixaug_jax import classifier, runs
  from mixaug_jax.data import decode

  run = runs.open_run(arguments.workdir)
  network = run.classifier()
  predict = network.predictor(arguments.views)
  if arguments.output:
    _make_folder(arguments.output)
  elif arguments.stage:
    raise UserError("--stage draws nothing without --output=DIR")
  names = run.result.class_names
  rows, bad = [], 0
  for first in range(0, len(paths), _BATCH):
    good, images = [], []
    for path in paths[first : first + _BATCH]:
      try:
        images.append(
          decode.read(path, network.stored_size, run.config.data.resize)
        )
        good.append(path)
      except UserError as error:
        if len(paths) == 1:
          raise
        print(f"mixaug_jax: {error}", file=sys.stderr)
        bad += 1
    if not good:
      continue
    # Filled up, so that one program serves all.
    full = np.resize(np.stack(images), (_BATCH, *images[0].shape))
    probabilities = _probabilities(classifier.averaged(predict(full)))[
      : len(good)
    ]
    overlays = [None] * len(good)
    if arguments.output:
      overlays = _overlays(
        *(network, arguments.stage, full),
        *(probabilities, good, arguments.output),
      )
    for path, row, overlay in zip(good, probabilities, overlays, strict=True):
      top = np.argsort(-row, kind="stable")[:_TOP]
      rows.append(
        {
          "image": str(path),
          "top": [
            {"class": names[i], "probability": float(row[i])} for i in top
          ],
          **({"overlay": str(overlay)} if overlay else {}),
        }
      )
  print(json.dumps(rows, indent=2) if arguments.json else table(rows))
  if bad:
    raise UserError(
      f"{bad} of {len(paths)} images could not be read; the others are "
      "predicted"
      if rows
      else "none of the images could be read; name JPEG, PNG or WebP files"
    )
  return 0


def table(rows: list[dict]) -> str:
  """A line for each image and class."""
  lines = []
  for row in rows:
    lines.append(row["image"])
    lines += [
      f"  {entry['probability']:7.2%}  {entry['class']}" for entry in row["top"]
    ]
    if "overlay" in row:
      lines.append(f"  {row['overlay']}")
  return "\n".join(lines)


def _files(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """The images among `paths`, those of folders in the order of their names."""
  from mixaug_jax.data.folder import EXTENSIONS

  files = []
  for path in paths:
    if path.is_dir():
      found = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in EXTENSIONS and file.is_file()
      ]
      if not found:
        raise UserError(
          f"there is no image in {path} ({', '.join(EXTENSIONS)})"
        )
      files += found
    else:
      files.append(path)
  return files


def _make_folder(path: pathlib.Path) -> None:
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"cannot make --output={path}: {error.strerror}; name another folder"
    ) from None


def _probabilities(logits: np.ndarray) -> np.ndarray:
  from scipy import special

  return special.softmax(logits, axis=-1)


def _overlays(network, stage, images, probabilities, paths, folder):
  """Writes the activation map of each most likely class; returns the files."""
  from PIL import Image

  from mixaug_jax.analysis import cam

  classes = np.resize(probabilities.argmax(-1), len(images))
  maps = network.activation_maps(images, classes, stage)
  shown = network.shown(images)
  pictures = cam.overlay(shown, cam.heatmap(maps, shown.shape[1]))
  written = []
  for path, picture in zip(paths, pictures, strict=False):
    file, number = folder / f"{path.stem}.png", 1
    while file in written:
      number += 1
      file = folder / f"{path.stem}_{number}.png"
    Image.fromarray(picture).save(file)
    written.append(file)
  return written


if __name__ == "__main__":
  exits.run(main)
