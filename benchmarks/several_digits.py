"""Images of several digits, or none: docs/data.md, several labels.

    python -m benchmarks.several_digits --output=FOLDER
    python -m mixaug_jax.main --config=benchmarks/several_digits.py:cutmix \
        --config.data.dir=FOLDER --workdir=RUN

The first command draws 0 to 3 of the digits that come with the package into the
quarters of images of 16 px, and writes the lists train.csv (600 rows) and
test.csv (1,000 rows), whose label column holds the digits of an image, such as
`3;7`. The digits of test are others than those of train. The second command
trains with CutMix on one half of train.csv and chooses thresholds on the other
half; `:none` and `:mixup` are there too.
"""

import csv
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from configs import default

_SIDE = 8  # Pixels of a digit.
_MOST = 3  # Digits in an image.
_NOISE = 64  # Grey values, so that no two images are equal.
_IMAGES = {"train": 600, "test": 1000}


def get_config(mixing: str = "none") -> ConfigDict:
  """Returns the recipe with a kind of mixing, such as `cutmix`."""
  config = default.get_config("digits")
  config.data.name = "csv"
  config.data.label_separator = ";"
  config.data.validation_fraction = 0.5
  config.data.examples_per_class = None
  config.loss.name = "sigmoid"
  config.mix.name = mixing
  config.steps = 400
  return config


def write(folder: pathlib.Path, images: dict[str, int]) -> None:
  """Writes images and their lists into an empty or new folder.

  Args:
    folder: the folder.
    images: the number of images of each split.
  """
  from mixaug_jax.data.digits import Digits

  for seed, (split, source) in enumerate(Digits.splits().items()):
    rng = np.random.default_rng(seed)
    (folder / split).mkdir(parents=True)
    with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as f:
      rows = csv.writer(f)
      rows.writerow(["path", "labels"])
      for number in range(images[split]):
        grey = rng.integers(_NOISE, size=(2 * _SIDE, 2 * _SIDE, 1))
        picture = grey.astype(np.uint8).repeat(3, axis=-1)
        count = rng.integers(_MOST + 1)
        quarters = rng.permutation(4)[:count]
        chosen = rng.integers(len(source), size=count)
        for quarter, digit in zip(quarters, chosen, strict=True):
          y, x = _SIDE * (quarter // 2), _SIDE * (quarter % 2)
          pixels = source[int(digit)]["image"]
          place = picture[y : y + _SIDE, x : x + _SIDE]
          np.maximum(place, pixels, out=place)
        name = f"{split}/{number:04}.png"
        Image.fromarray(picture).save(folder / name)
        labels = sorted({source.class_names[source.labels[i]] for i in chosen})
        rows.writerow([name, ";".join(labels)])


def main(argv: Sequence[str]) -> None:
  from mixaug_jax.command import flags

  parser = flags.parser("several_digits", "Draws images of several digits.")
  parser.add_argument("--output", type=flags.path, required=True)
  write(flags.parse(parser, argv).output, _IMAGES)


if __name__ == "__main__":
  main(sys.argv[1:])
