"""TFDS data sets as sources, read from ArrayRecord without TensorFlow.

The preparation of most data sets needs TensorFlow. It happens once, in a
separate process. Images stay encoded.
"""

import dataclasses
import difflib
import functools
import importlib.util
import pathlib
import subprocess
import sys
import urllib.parse
from typing import Any

import numpy as np

from mixaug_jax.data.sources import Item
from mixaug_jax.errors import UserError

_PREPARE = """
import sys, tensorflow_datasets as tfds
name, data_dir = sys.argv[1:]
try:
  tfds.builder(
    name, data_dir=data_dir or None, file_format="array_record"
  ).download_and_prepare()
except Exception as error:
  print(type(error).__name__ + ":", *str(error).split())
  sys.exit(1)
"""
_TIMEOUT_SECONDS = 10  # For a host to answer; TFDS itself tries for minutes.
_NAMED_FILES = 5  # An error names this many files and counts the others.


class Tfds:
  """One split of a prepared TFDS builder.

  Args:
    builder: the builder of a data set with the features `image` and `label`.
    split: the name of the split.
  """

  def __init__(self, builder: Any, split: str):
    import tensorflow_datasets as tfds

    features = builder.info.features
    self._has_boxes = "objects" in features and "bbox" in features["objects"]
    self.class_names = tuple(features["label"].names)
    self._fingerprint = (
      f"{builder.data_path} {split} {builder.info.splits[split].num_examples} "
      f"{builder.info.splits[split].num_bytes}"
    )
    self._records = builder.as_data_source(
      split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    labels, ids = [], []
    for index in range(len(self._records)):
      record = self._records[index]
      labels.append(record["label"])
      name = record.get("image/filename", str(index))
      ids.append(name.decode() if isinstance(name, bytes) else name)
    self.labels = np.array(labels, np.int32)
    self.ids = ids

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Item:
    return {
      "image": self._records[index]["image"],
      "label": int(self.labels[index]),
      "id": self.ids[index],
    }

  def fingerprint(self) -> str:
    return self._fingerprint

  @functools.cached_property
  def boxes(self) -> np.ndarray | None:
    """One box around all objects of each picture; None without any feature.

    float32 `[N, 4]`, (ymin, xmin, ymax, xmax) in fractions of the picture;
    NaN for a picture without objects. The first access reads all records.
    """
    if not self._has_boxes:
      return None
    union = np.full((len(self), 4), np.nan, np.float32)
    for index in range(len(self)):
      if boxes := list(self._records[index]["objects"]["bbox"]):
        union[index, :2] = np.min(boxes, axis=0)[:2]
        union[index, 2:] = np.max(boxes, axis=0)[2:]
    return union


@dataclasses.dataclass(frozen=True)
class TfdsDataset:
  """A TFDS data set by name, prepared at its first use.

  Attributes:
    name: a name for `tfds.builder`, such as `oxford_flowers102`.
  """

  name: str

  def splits(self, directory: str | None) -> dict[str, Tfds]:
    """Opens train, validation and test, as far as the data set has them.

    Args:
      directory: the folder of prepared data sets; None: the default of TFDS.

    Raises:
      UserError: an unknown name, a data set without images or labels, or one
        that cannot be prepared.
    """
    import tensorflow_datasets as tfds

    def builder() -> Any:
      return tfds.builder(
        self.name, data_dir=directory, file_format="array_record"
      )

    try:
      found = builder()
    except tfds.core.DatasetNotFoundError:
      near = difflib.get_close_matches(self.name, tfds.list_builders(), 1)
      hint = f"; did you mean tfds:{near[0]}?" if near else ""
      raise UserError(
        f"config.data.name: TFDS has no data set {self.name!r}{hint}"
      ) from None
    if missing := {"image", "label"} - set(found.info.features):
      raise UserError(
        f"config.data.name: the data set {self.name} has no feature "
        f"{min(missing)!r}; it is not for image classification"
      )
    if not found.data_path.exists():
      _prepare(self.name, directory, found)
      found = builder()
    return {
      split: Tfds(found, split)
      for split in ("train", "validation", "test")
      if split in found.info.splits
    }


def _prepare(name: str, data_dir: str | None, builder: Any) -> None:
  """Downloads and prepares a data set in a process with TensorFlow."""
  if importlib.util.find_spec("tensorflow") is None:
    raise UserError(
      f"the data set {name} is not prepared in {builder.data_path}; its "
      "preparation needs TensorFlow, once: pip install 'mixaug-jax[tfds]' "
      "(configs/*.py:digits does not need it)"
    )
  path = pathlib.Path(builder.data_path)
  downloads = path.parents[builder.info.full_name.count("/")] / "downloads"
  if host := _unreachable(builder, downloads):
    raise _not_prepared(builder, downloads, f"{host} cannot be reached")
  print(f"preparing {name} in {path}, once", file=sys.stderr)
  done = subprocess.run(
    [sys.executable, "-c", _PREPARE, name, data_dir or ""],
    stdout=subprocess.PIPE,
    # On a terminal, TFDS shows progress bars there; elsewhere only warnings.
    stderr=None if sys.stderr.isatty() else subprocess.DEVNULL,
    text=True,
    check=False,
  )
  if done.returncode:
    lines = done.stdout.strip().splitlines() or ["no reason given"]
    raise _not_prepared(builder, downloads, lines[-1])


def _unreachable(builder: Any, downloads: pathlib.Path) -> str | None:
  """Returns a host that must serve a file but does not answer, if any.

  If the user has put a file in place, no host is asked, because TFDS itself
  reports a file that is still missing.
  """
  import requests
  from tensorflow_datasets.core.download import resource

  hosts = {}
  for url, info in (builder.url_infos or {}).items():
    if info.filename and (downloads / "manual" / info.filename).exists():
      return None
    kept = resource.get_dl_fname(url, info.checksum)
    if url.startswith("http") and not any(downloads.rglob(kept)):
      hosts.setdefault(urllib.parse.urlsplit(url).hostname, url)
  for host, url in hosts.items():
    try:
      requests.get(url, stream=True, timeout=_TIMEOUT_SECONDS).close()
    except requests.RequestException:
      return host
  return None


def _not_prepared(
  builder: Any, downloads: pathlib.Path, reason: str
) -> UserError:
  """Returns an error with the reason and the steps to prepare by hand."""
  files = {
    url: info.filename
    for url, info in (builder.url_infos or {}).items()
    if info.filename
  }
  named = [
    url if url.endswith(f"/{file}") else f"{url} as {file}"
    for url, file in list(files.items())[:_NAMED_FILES]
  ]
  if len(files) > len(named):
    named.append(f"{len(files) - len(named)} more that TFDS lists")
  steps = (
    f"download {', '.join(named)}, put the files into {downloads / 'manual'}, "
    "and run the same command again"
    if named
    else f"prepare it elsewhere and copy {builder.data_path} from there"
  )
  return UserError(
    f"the data set {builder.name} is not prepared in {builder.data_path} and "
    f"could not be ({reason}); {steps} (configs/*.py:digits needs no download)"
  )
