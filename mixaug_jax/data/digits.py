"""8x8 handwritten digits, which need no download, as a data source.

`digits.npz` holds the 1,797 images and labels that
`sklearn.datasets.load_digits` returns, as uint8: the test set of "Optical
Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49), under the licence
CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/).
"""

import hashlib
import importlib.resources

import numpy as np

from mixaug_jax.data.sources import Item
from mixaug_jax.errors import UserError


class Digits:
  """The digits as greyscale RGB.

  1,000 of the 1,797 are the test set, always the same; the others are for
  training and validation.

  Args:
    split: `train` or `test`.
  """

  class_names = tuple("0123456789")

  @classmethod
  def splits(cls, directory: str | None = None) -> dict[str, "Digits"]:
    """Returns `train` and `test`; raises UserError for a directory."""
    if directory is not None:
      raise UserError(
        f"config.data.dir={directory} is not read, because the digits come "
        "with the package; for photos, add :folder to --config"
      )
    return {name: cls(name) for name in ("train", "test")}

  def __init__(self, split: str):
    images, labels = load_digits()
    order = np.random.default_rng(0).permutation(len(labels))
    rows = order[:1000] if split == "test" else order[1000:]
    levels = np.round(images[rows].astype(np.float64) * (255 / 16))
    self._images = np.repeat(levels.astype(np.uint8)[..., None], 3, axis=-1)
    self.labels = labels[rows].astype(np.int32)
    self.ids = [f"digits/{row:04}" for row in rows]

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Item:
    return {
      "image": self._images[index],
      "label": int(self.labels[index]),
      "id": self.ids[index],
    }

  def fingerprint(self) -> str:
    return hashlib.sha256(self._images.tobytes()).hexdigest()


def load_digits() -> tuple[np.ndarray, np.ndarray]:
  """Reads the file of this package.

  Returns:
    Images of 0 to 16, uint8 `[1797, 8, 8]`, and classes, uint8 `[1797]`.
  """
  path = importlib.resources.files(__package__) / "digits.npz"
  with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
    return arrays["images"], arrays["labels"]
