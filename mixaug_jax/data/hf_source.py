"""Data sets of the Hugging Face hub, or in its formats, as sources.

The package `datasets` downloads and converts a data set once, and keeps it in
its own cache. It runs no code of a data set. Images stay encoded.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import itertools
import pathlib
from typing import Any

import numpy as np

from mixaug_jax import files
from mixaug_jax.data import split_names
from mixaug_jax.data.sources import Item
from mixaug_jax.errors import UserError, first_line
from mixaug_jax.names import printable

PREFIX = "hf:"
# Names of formats, which read the folder `config.data.dir`.
FORMATS = ("parquet", "imagefolder")


class HfSplit:
  """One split of a data set of the package `datasets`.

  Args:
    dataset: a `datasets.Dataset`.
    image: the name of its column of images, which are not decoded.
    label: the name of its column of class labels.
    base: the start of paths that ids leave out, such as "/data/photos/".
  """

  def __init__(self, dataset: Any, image: str, label: str, base: str = ""):
    self._dataset, self._image = dataset, image
    self.class_names = tuple(map(printable, dataset.features[label].names))
    table = dataset.with_format("arrow")[:]
    self.labels = table[label].to_numpy().astype(np.int32)
    # One chunk cannot hold more than 2 GiB of images, so they stay apart.
    parts = (chunk.field("path").to_pylist() for chunk in table[image].chunks)
    self.ids = [
      printable(path.removeprefix(base) if path else str(index))
      for index, path in enumerate(itertools.chain.from_iterable(parts))
    ]
    if len(set(self.ids)) < len(self.ids):
      self.ids = [f"{index}/{name}" for index, name in enumerate(self.ids)]
    self.left_out: dict[str, list[str]] = {}

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Item:
    image = self._dataset[index][self._image]
    content = image["bytes"]
    if content is None:  # A file of an image folder.
      content = files.read_bytes(image["path"])
    label = int(self.labels[index])
    return {"image": content, "label": label, "id": self.ids[index]}

  def fingerprint(self) -> str:
    digest = hashlib.sha256(str(len(self)).encode())
    for each in self._dataset.cache_files:
      path = pathlib.Path(each["filename"])
      stat = path.stat()
      digest.update(f"\n{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class HfDataset:
  """A data set by name, downloaded at its first use.

  Attributes:
    name: of the hub, such as `uoft-cs/cifar10`, or one of FORMATS.
  """

  name: str

  def check(self, directory: str | None) -> None:
    """Raises UserError for what is known before anything is downloaded."""
    if importlib.util.find_spec("datasets") is None:
      raise UserError(
        f"config.data.name={PREFIX}{self.name} needs the package datasets; pip "
        "install 'mixaug-jax[datasets]'"
      )
    if self.name in FORMATS and directory is None:
      raise UserError(
        f"config.data.name={PREFIX}{self.name} reads a folder; name it by "
        "config.data.dir"
      )

  def splits(
    self, directory: str | None, test: bool = True
  ) -> dict[str, HfSplit]:
    """Opens train, validation and test, as far as the data set has them.

    Args:
      directory: the folder of one of FORMATS; for a name of the hub, the cache
        of `datasets`, or None for its default.
      test: whether to read the split test.

    Raises:
      UserError: the package is missing, or there is no such data set, or it has
        no images, class labels or split train.
    """
    self.check(directory)
    datasets = importlib.import_module("datasets")
    where = f"the data set {PREFIX}{self.name}"
    key = "data_dir" if self.name in FORMATS else "cache_dir"
    try:
      found = datasets.load_dataset(self.name, **{key: directory})
    except Exception as error:  # Of the package, its network and its files.
      raise UserError(
        f"cannot open {where}: {first_line(error)}; check its name, its files "
        "and the network"
      ) from error
    roles = split_names.by_role(found, where)
    if "train" not in roles:
      raise UserError(
        f"{where} has no split train, but {', '.join(sorted(found))}; train on "
        "another data set"
      )
    image, label = _columns(datasets, found[roles["train"]].features, where)
    other = sorted(set(found) - set(roles.values()))
    if not test:
      roles.pop("test", None)
    encoded = datasets.Image(decode=False)
    base = ""
    if self.name == "imagefolder" and directory is not None:
      # `datasets` records the paths below the folder that links lead to.
      base = f"{pathlib.Path(directory).resolve()}/"
    sources = {
      role: HfSplit(
        found[split].cast_column(image, encoded), image, label, base
      )
      for role, split in roles.items()
    }
    if other:
      sources["train"].left_out = {"splits of other names": other}
    return sources


def _columns(datasets: Any, features: Any, where: str) -> tuple[str, str]:
  """Returns the columns of images and class labels; raises UserError."""
  found = []
  for kind, usual in (("Image", "image"), ("ClassLabel", "label")):
    of_kind = getattr(datasets, kind)
    names = [name for name, x in features.items() if isinstance(x, of_kind)]
    if usual in names:
      names = [usual]
    if len(names) != 1:
      raise UserError(
        f"{where} has {len(names)} columns of type {kind}"
        f"{' (' + ', '.join(names) + ')' if names else ''}; one, or one named "
        f"{usual}, is needed (a source of your own can read it: docs/data.md)"
      )
    found += names
  return found[0], found[1]
