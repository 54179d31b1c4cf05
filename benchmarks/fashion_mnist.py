"""The comparison on Fashion-MNIST with few labels: docs/results.md.

    python -m benchmarks.fashion_mnist --source=DIR --output=FOLDER
    python -m mixaug_jax.compare --config=benchmarks/fashion_mnist.py:20 \
        --config.base.data.dir=FOLDER --workdir=runs/fashion_20 --jobs=2

The first command turns the four files of Fashion-MNIST (Xiao et al., 2017,
arXiv:1708.07747; MIT licence) into a folder of PNG files, train/<class>/* and
test/<class>/*. Debian's package dataset-fashion-mnist puts them into
/usr/share/datasets/fashion-mnist. The second command compares seven arms, tuned
alike, with 20 labels a class for training and as many for validation; `:100`
has 100. All 10,000 test images are used.
"""

import gzip
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from configs import compare

_CLASSES = (
  *("t_shirt", "trouser", "pullover", "dress", "coat"),
  *("sandal", "shirt", "sneaker", "bag", "ankle_boot"),
)
# Training images of each class: each seed draws its own from them.
_PER_CLASS = 1000


def get_config(labels: str = "20") -> ConfigDict:
  """Returns the comparison with a number of labels a class, 20 or 100."""
  if labels not in ("20", "100"):
    raise ValueError("the number of labels a class must be 20 or 100")
  per_class = int(labels)
  config = compare.get_config("digits")
  base = config.base
  base.data.name = "folder"
  base.data.image_size = 28
  base.data.examples_per_class = per_class
  base.data.validation_fraction = per_class / _PER_CLASS
  base.evaluate.every_epochs = 400 / per_class  # Every 83 steps.
  for name, arm in config.arms.items():
    if name.startswith("basic"):  # Clothes may be mirrored, digits may not.
      arm.augment.random_flip_left_right = ConfigDict({"probability": 0.5})
  config.seeds = 3
  config.views = "identity,flip"
  config.tune.trials = 6
  return config


def main(argv: Sequence[str]) -> None:
  from mixaug_jax.command import flags

  parser = flags.parser("fashion_mnist", "Writes Fashion-MNIST as a folder.")
  parser.add_argument("--source", type=flags.path, required=True)
  parser.add_argument("--output", type=flags.path, required=True)
  arguments = flags.parse(parser, argv)
  for split, prefix in (("train", "train"), ("test", "t10k")):
    images = _read(arguments.source / f"{prefix}-images-idx3-ubyte.gz", 16)
    labels = _read(arguments.source / f"{prefix}-labels-idx1-ubyte.gz", 8)
    images = images.reshape(len(labels), 28, 28)
    count = 0
    for label, name in enumerate(_CLASSES):
      folder = arguments.output / split / name
      folder.mkdir(parents=True, exist_ok=True)
      rows = np.flatnonzero(labels == label)
      for row in rows[:_PER_CLASS] if split == "train" else rows:
        Image.fromarray(images[row]).save(folder / f"{row:05}.png")
        count += 1
    print(f"{split}: {count:,} images in {arguments.output / split}")


def _read(path: pathlib.Path, header: int) -> np.ndarray:
  """Reads the bytes after the header of a compressed IDX file."""
  with gzip.open(path) as file:
    return np.frombuffer(file.read(), np.uint8, offset=header)


if __name__ == "__main__":
  main(sys.argv[1:])
