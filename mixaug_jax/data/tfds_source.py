"""TFDS data sets as sources, read without TensorFlow.

The preparation of most data sets needs TensorFlow. It happens once, in a
separate process, and writes ArrayRecord. A data set that was prepared before,
as ArrayRecord or TFRecord, is read as it is. Images stay encoded.
"""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib.util
import pathlib
import subprocess
import sys
import textwrap
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mixaug_jax.data import split_names, tfds_classes
from mixaug_jax.data.sources import Item
from mixaug_jax.data.tfrecord import TfRecords
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable

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

  Raises:
    UserError: files are missing or damaged.
  """

  def __init__(self, builder: Any, split: str):
    features = builder.info.features
    self._has_boxes = "objects" in features and "bbox" in features["objects"]
    self.class_names = tuple(features["label"].names)
    labels, ids = [], []
    with _sentences(builder.data_path):
      self._records = _open_records(builder, split)
      self._fingerprint = _fingerprint(builder, split)
      for index in range(len(self._records)):
        record = self._records[index]
        # ArrayRecord gives empty records for a file that is cut off.
        if record["label"] is None or not record["image"]:
          raise ValueError(f"record {index} of {split} cannot be read")
        labels.append(record["label"])
        ids.append(_printable(record.get("image/filename", str(index))))
    if len(set(ids)) < len(ids):
      ids = [f"{index}/{name}" for index, name in enumerate(ids)]
    self.labels = np.array(labels, np.int32)
    self.ids = ids
    self.left_out: dict[str, list[str]] = {}

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

  def splits(self, directory: str | None, test: bool = True) -> dict[str, Tfds]:
    """Opens train, validation and test, as far as the data set has them.

    Args:
      directory: the folder of prepared data sets; None: the default of TFDS.
      test: whether to read the split test.

    Raises:
      UserError: an unknown name, a data set without images, labels or the
        split train, or one that cannot be prepared or is damaged.
    """
    found = self.builder(directory)
    _check_features(self.name, found.info.features)
    if not found.data_path.exists():
      _prepare(self.name, directory, found)
      found = self.builder(directory)
    if not (found.data_path / "dataset_info.json").exists():
      raise _damaged(found.data_path, "dataset_info.json is missing")
    names = found.info.splits
    roles = split_names.by_role(names, f"the TFDS data set {self.name}")
    if "train" not in roles:
      raise UserError(
        f"the TFDS data set {self.name} has no split train, but "
        f"{', '.join(sorted(names)) or 'none'}; train on another data set"
      )
    other = sorted(set(names) - set(roles.values()))
    if not test:
      roles.pop("test", None)
    sources = {role: Tfds(found, split) for role, split in roles.items()}
    if other:
      sources["train"].left_out = {"splits of other names": other}
    return sources

  def builder(self, directory: str | None) -> Any:
    """Returns TFDS's builder of the data set; raises UserError."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming, read_only_builder
    from tensorflow_datasets.core.utils import error_utils

    try:
      name, _ = naming.parse_builder_name_kwargs(self.name)
      if name.namespace:
        raise UserError(
          f"config.data.name: {printable(self.name)} is a data set of TFDS's "
          "community, whose preparation is code from elsewhere; prepare it "
          "with TFDS, and name the folder by config.data.dir"
        )
      # TFDS has no public function that finds a folder without opening it.
      with error_utils.record_error_context():
        place = read_only_builder._find_builder_dir(
          self.name, data_dir=directory
        )
      if place is not None:
        tfds_classes.refuse_foreign(place)
      return tfds.builder(self.name, data_dir=directory)
    except UserError:
      raise
    except tfds.core.DatasetNotFoundError:
      place = pathlib.Path(directory or "") / self.name
      if directory and place.is_dir():
        raise _damaged(
          place, "dataset_info.json or features.json is missing"
        ) from None
      near = difflib.get_close_matches(self.name, tfds.list_builders(), 1)
      hint = f"; did you mean tfds:{near[0]}?" if near else ""
      raise UserError(
        f"config.data.name: TFDS has no data set {self.name!r}{hint}"
      ) from None
    except Exception as error:  # TFDS raises many types.
      raise UserError(
        f"cannot open the TFDS data set {self.name} in "
        f"{directory or 'the default folder of TFDS'}: {_one_line(error)}; "
        "check its name and its files"
      ) from error


def _check_features(name: str, features: Any) -> None:
  """Raises UserError if the features are not an image and its class."""
  import tensorflow_datasets as tfds

  kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
  features = dict(features.items())
  for key, kind in kinds.items():
    feature = features.get(key)
    if feature is None:
      reason = f"has no feature {key!r}"
      others = [k for k, f in features.items() if isinstance(f, kind)]
      if others:
        reason += f", but {', '.join(others)} of the same type"
    elif not isinstance(feature, kind):
      reason = f"has a feature {key!r} of type {type(feature).__name__}"
    elif key == "image" and np.dtype(feature.np_dtype).kind == "f":
      reason = "has images of floats"
    elif key == "label" and not feature.num_classes:
      reason = "has labels without a number of classes"
    else:
      continue
    raise UserError(
      f"config.data.name: the data set {name} {reason}; it is not for image "
      "classification (a source of your own can read it: docs/data.md)"
    )


def _open_records(builder: Any, split: str) -> Sequence[Any]:
  """Returns the examples of a split, with images still encoded."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.file_adapters import FileFormat

  decoders = {"image": tfds.decode.SkipDecoding()}
  info = builder.info
  formats = {info.file_format, *info.alternative_file_formats}
  if FileFormat.ARRAY_RECORD in formats:
    return builder.as_data_source(split, decoders=decoders)
  if FileFormat.TFRECORD not in formats:
    raise UserError(
      f"the TFDS data set in {builder.data_path} is prepared as "
      f"{info.file_format.value}; remove it and prepare it again, with "
      "file_format='array_record'"
    )
  files = [pathlib.Path(path) for path in info.splits[split].filepaths]
  records = TfRecords(files, info.splits[split].shard_lengths)
  return _Examples(records, info.features, decoders)


class _Examples(Sequence[Any]):
  """Decoded examples of serialised ones."""

  def __init__(self, records: Sequence[bytes], features: Any, decoders: Any):
    self._records, self._features = records, features
    self._decoders = decoders

  def __len__(self) -> int:
    return len(self._records)

  # No slices are read.
  def __getitem__(self, index: int) -> Any:  # type: ignore[override]
    return self._features.deserialize_example_np(
      self._records[index], decoders=self._decoders
    )


def _fingerprint(builder: Any, split: str) -> str:
  """Hashes the names, sizes and times of the files of a split."""
  paths = [
    builder.data_path / "dataset_info.json",
    *builder.info.splits[split].filepaths,
  ]
  digest = hashlib.sha256(split.encode())
  for path in map(pathlib.Path, paths):
    stat = path.stat()
    digest.update(f"\n{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
  return digest.hexdigest()


def _printable(name: str | bytes) -> str:
  if isinstance(name, bytes):
    name = name.decode(errors="surrogateescape")
  return name if name.isprintable() else name.encode("unicode_escape").decode()


@contextlib.contextmanager
def _sentences(place: Any) -> Iterator[None]:
  """Turns all errors of TFDS and ArrayRecord into a `UserError`."""
  try:
    yield
  except UserError:
    raise
  except FileNotFoundError as error:
    raise _damaged(place, f"{error.filename} is missing") from error
  except Exception as error:
    raise _damaged(place, _one_line(error)) from error


def _damaged(place: Any, reason: str) -> UserError:
  return UserError(
    f"the TFDS data set in {place} is incomplete or damaged: {reason}; copy it "
    "again, or remove it and prepare it again"
  )


def _one_line(error: Exception) -> str:
  text = textwrap.shorten(str(error), 300, placeholder=" ...")
  return text or type(error).__name__


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
    # -P: modules in the current folder are not imported.
    [sys.executable, "-P", "-c", _PREPARE, name, data_dir or ""],
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

  hosts: dict[str | None, str] = {}
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
