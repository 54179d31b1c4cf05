"""Where pretrained weights come from, and how they get into a ResNet.

`resolve` reads `config.model.pretrained` and gives a `WeightSource`, which
knows what the weights expect of the model and of its input, fetches their file
and loads it.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
import platformdirs
from flax import traverse_util
from ml_collections import ConfigDict

from mixaug_jax.errors import UserError
from mixaug_jax.models.preprocessing import PREPROCESSING, Preprocessing
from mixaug_jax.weights import dialects, formats

# The settings that follow the weights: keys of config.model.
SETTINGS = {
  **dialects.TORCH.architecture,
  "preprocessing": "imagenet",
  "test_size": 224,
}
_KERAS_SETTINGS = {**dialects.KERAS.architecture, "preprocessing": "caffe"}

_KERAS_URL = (
  "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
  "{}_weights_tf_dim_ordering_tf_kernels{}.h5"
)
# MD5 with top and without, from Keras's source.
_KERAS_MD5 = {
  "resnet50": (
    "2cb95161c43110f7111970584f804107",
    "4d473c1dd8becc155b73f8504c6f6626",
  ),
  "resnet101": (
    "f1aeb4b969a6efcfb50fad2f0c20cfc5",
    "88cf7a10940856eca736dc7b7e228a21",
  ),
  "resnet152": (
    "100835be76be38e30d865e96f2aaae62",
    "ee4c566cf9a93f14d82f913c2dc6dd0c",
  ),
}
_TORCHVISION_URL = "https://download.pytorch.org/models/{}-{}.pth"
# How SHA-256 begins, from torchvision's source: it is part of the file's name.
_TORCHVISION_SHA256 = {
  "torchvision": {
    "resnet18": "f37072fd",
    "resnet34": "b627a593",
    "resnet50": "0676ba61",
    "resnet101": "63fe2227",
    "resnet152": "394f9c45",
  },
  "torchvision_v2": {
    "resnet50": "11ad3fa6",
    "resnet101": "cd907fc2",
    "resnet152": "f82ba261",
  },
}
_TIMM_URL = "https://huggingface.co/timm/{}/resolve/main/{}"
_TIMM_FILES = ("config.json", "model.safetensors")


@dataclasses.dataclass(frozen=True)
class LoadReport:
  """What was loaded, as names of the file, and what was not.

  Attributes:
    source: of the weights, in the user's words.
    loaded: names in the file that went into the model.
    missing: names that the model wants and the file does not have, or has for
      another convolution; these variables keep their initial values.
    left_over: names in the file that were not used.
    new_head: why the head is a new one, or None.
  """

  source: str
  loaded: tuple[str, ...]
  missing: tuple[str, ...]
  left_over: tuple[str, ...]
  new_head: str | None

  def __str__(self) -> str:
    parts = [f"{len(self.loaded)} arrays loaded from {self.source}"]
    if self.new_head:
      parts.append(f"a new head, {self.new_head}")
    if self.missing:
      parts.append(f"left as initialised: {_some(self.missing)}")
    # Batch norms without a convolution are missing and left over.
    if others := [x for x in self.left_over if x not in self.missing]:
      parts.append(f"left over: {_some(others)}")
    return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class WeightSource:
  """Pretrained weights, and what comes with them.

  Attributes:
    name: as in `config.model.pretrained`.
    dialect: of the names in the file.
    settings: values of the keys of SETTINGS.
    fetch: returns the local file, downloading it where need be; raises
      UserError.
    allow_partial: whether the file may lack arrays or hold others.
    published: whether it is a known file rather than one of the user's.
  """

  name: str
  dialect: dialects.Dialect
  settings: Mapping[str, Any]
  fetch: Callable[[], pathlib.Path]
  allow_partial: bool
  published: bool = True

  @property
  def architecture(self) -> dict[str, Any]:
    """The attributes of `ResNet` that the weights ask for."""
    return {key: self.settings[key] for key in self.dialect.architecture}

  @property
  def preprocessing(self) -> Preprocessing:
    return PREPROCESSING[self.settings["preprocessing"]]

  @property
  def test_size(self) -> int:
    """Pixels a side at which the source evaluates its weights."""
    return self.settings["test_size"]

  def load(self, variables: Any) -> tuple[Any, LoadReport]:
    """Puts the weights into a model's variables.

    The head is taken where its shape fits, and else left as it is. So is a
    batch norm whose convolution is not in the file: its statistics are those
    of that convolution, and after a random one they let activations explode.

    Args:
      variables: `params` and `batch_stats`, as initialised.

    Returns:
      Variables of the same structure, as float32 numpy arrays, and what was
      done.

    Raises:
      UserError: naming everything that does not fit.
    """
    path = self.fetch()
    arrays = dialects.translate_aliases(self.dialect, formats.read(path))
    flat = traverse_util.flatten_dict(variables)
    entries = dialects.entries(self.dialect, variables)
    head = [key for key in flat if key[1] == "head"]
    new_head = _new_head(entries, flat, head, arrays)
    if new_head:
      for key in head:
        arrays.pop(entries[key].name, None)
        entries.pop(key)
    entries, stray = _with_convolutions(entries, arrays)
    values = {key: np.asarray(x, np.float32) for key, x in flat.items()}
    loaded, missing, wrong, unusable = [], [], [], []
    for key, entry in sorted(entries.items(), key=lambda item: item[1].name):
      array = arrays.pop(entry.name, None)
      wanted = entry.export(values[key]).shape
      if array is None:
        missing.append(entry.name)
      elif array.shape != wanted:
        wrong.append(f"{entry.name} {array.shape} in place of {wanted}")
      elif (numbers := _finite(array)) is None:
        unusable.append(entry.name)
      else:
        values[key] = entry.load(numbers)
        loaded.append(entry.name)
    missing = sorted(missing + stray)
    self._check(path, loaded, missing, wrong, unusable, sorted(arrays))
    report = LoadReport(
      self.name, tuple(loaded), tuple(missing), tuple(sorted(arrays)), new_head
    )
    return traverse_util.unflatten_dict(values), report

  def _check(
    self,
    path: pathlib.Path,
    loaded: list[str],
    missing: list[str],
    wrong: list[str],
    unusable: list[str],
    left_over: list[str],
  ) -> None:
    """Raises one UserError for all that does not fit."""
    faults = []
    if wrong:
      faults.append(f"of another shape: {_some(wrong)}")
    if unusable:
      faults.append(f"not finite numbers: {_some(unusable)}")
    if missing and not (self.allow_partial and loaded):
      faults.append(f"missing: {_some(missing)}")
    if left_over and not (self.allow_partial and loaded):
      faults.append(f"left over: {_some(left_over)}")
    if not faults:
      return
    mend = "choose weights of config.model.name, or that model"
    if unusable and not wrong:
      mend = "write or fetch the file anew"
    elif loaded and not wrong:
      mend = "set config.model.allow_partial=true to take what is there"
    raise UserError(
      f"the weights {path} do not fit the model; {'; '.join(faults)}; {mend}"
    )


def resolve(config: ConfigDict) -> WeightSource | None:
  """Finds the source of `config.model.pretrained`; None where that is unset.

  Nothing is read or downloaded but, for `timm/NAME`, a description of 1 kB.

  Args:
    config: `config.model`.

  Raises:
    UserError: a source that there is not, or not for `config.model.name`.
  """
  name, model = config.pretrained, config.name
  if name is None:
    return None
  if model == "small_resnet":
    raise UserError(
      "there are no pretrained weights for config.model.name=small_resnet; "
      "choose resnet50, say, or unset config.model.pretrained"
    )
  published = True
  if name in ("keras", "keras_notop"):
    index = ("keras", "keras_notop").index(name)
    md5 = _of_model(name, model, _KERAS_MD5)[index]
    url = _KERAS_URL.format(model, ("", "_notop")[index])
    dialect, settings = dialects.KERAS, _KERAS_SETTINGS
    fetch = lambda: _download(url, "md5", md5)
  elif name in _TORCHVISION_SHA256:
    sha256 = _of_model(name, model, _TORCHVISION_SHA256[name])
    url = _TORCHVISION_URL.format(model, sha256)
    dialect, settings = dialects.TORCH, {}
    fetch = lambda: _download(url, "sha256", sha256)
  elif name.startswith("timm/"):
    timm_name = name.removeprefix("timm/")
    if "/" in timm_name:  # It becomes the name of a folder.
      raise UserError(
        f"config.model.pretrained={name} must be timm/NAME, without another /"
      )
    if timm_name.partition(".")[0] != model:
      raise UserError(
        f"config.model.pretrained={name} is not for config.model.name={model}; "
        f"its name must begin with {model}, as timm/{model}.a1_in1k does"
      )
    dialect, settings = dialects.TORCH, _timm_settings(timm_name)
    fetch = lambda: _timm_file(timm_name, "model.safetensors")
  else:
    path = pathlib.Path(name).expanduser()
    if path.suffix not in formats.READERS:
      raise UserError(
        "config.model.pretrained must be keras, keras_notop, torchvision, "
        "torchvision_v2, timm/NAME or the path of a "
        f"{', '.join(formats.READERS)} file, got {name!r}"
      )
    is_keras = path.suffix in (".h5", ".npz")
    dialect = dialects.KERAS if is_keras else dialects.TORCH
    settings = _KERAS_SETTINGS if is_keras else {}
    fetch = lambda: _existing(path)
    published = False
  return WeightSource(
    name=name,
    dialect=dialect,
    settings={**SETTINGS, **settings},
    fetch=fetch,
    allow_partial=config.allow_partial,
    published=published,
  )


def settle(config: ConfigDict) -> None:
  """Fills the keys of SETTINGS that are None with what the weights ask for.

  A run's config so says all that its model and its input need, and the weight
  file need never be seen again. A value that the user gives stands where the
  weights are a file of the user's, or there are none.

  Args:
    config: `config.model`, unlocked.

  Raises:
    UserError: as `resolve`, or a value that contradicts published weights.
  """
  source = resolve(config)
  settings = source.settings if source else SETTINGS
  for key, value in settings.items():
    if config[key] is None:
      config[key] = value
    elif config[key] != value and source and source.published:
      raise UserError(
        f"config.model.{key} is {config[key]}, but the weights {source.name} "
        f"ask for {value}; leave it unset"
      )
  if config.preprocessing not in PREPROCESSING:
    raise UserError(
      "config.model.preprocessing must be one of "
      f"{', '.join(PREPROCESSING)}, got {config.preprocessing!r}"
    )


def weights_directory() -> pathlib.Path:
  """Where downloaded weights are kept."""
  return platformdirs.user_cache_path("mixaug_jax") / "weights"


def _of_model(name: str, model: str, known: Mapping[str, Any]) -> Any:
  if model not in known:
    raise UserError(
      f"config.model.pretrained={name} has no weights for config.model.name="
      f"{model}; it has {', '.join(known)}"
    )
  return known[model]


def _existing(path: pathlib.Path) -> pathlib.Path:
  if not path.is_file():
    raise UserError(
      f"config.model.pretrained: there is no weight file {path}; check its path"
    )
  return path


def _download(url: str, algorithm: str, digest: str) -> pathlib.Path:
  """The file of `url` in the cache, whose hash begins with `digest`."""
  path = weights_directory() / url.rpartition("/")[2]
  if path.exists():
    if not _digest(path, algorithm).startswith(digest):
      raise UserError(
        f"{path} is damaged: its {algorithm} is not {digest}; delete it and "
        f"run again, or fetch {url}"
      )
    return path
  import pooch

  _make_directory(path.parent)
  handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
  os.close(handle)
  try:
    print(f"downloading {url}", file=sys.stderr)
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30)
    try:
      fetch(url, part, None)
    except (OSError, ValueError) as error:  # All of requests' are OSErrors.
      raise _offline({url: path}, error) from error
    if not _digest(pathlib.Path(part), algorithm).startswith(digest):
      raise UserError(
        f"{url} came with another {algorithm} than {digest}; try again, or "
        f"fetch it by other means and put it at {path}"
      )
    os.replace(part, path)
  finally:
    pathlib.Path(part).unlink(missing_ok=True)
  return path


def _timm_settings(name: str) -> dict[str, Any]:
  """What timm's description of a model says of its input."""
  path = _timm_file(name, "config.json")
  try:
    described = json.loads(path.read_text("utf-8"))["pretrained_cfg"]
    mean, std = tuple(described["mean"]), tuple(described["std"])
    size = described.get("test_input_size") or described["input_size"]
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{path} is no description of a timm model; delete it and run again"
    ) from error
  for known, preprocessing in PREPROCESSING.items():
    if Preprocessing(mean, std) == preprocessing:
      return {"preprocessing": known, "test_size": size[-1]}
  raise UserError(
    f"config.model.pretrained=timm/{name} wants images of mean {mean} and "
    f"standard deviation {std}, which is not supported; choose other weights"
  )


def _timm_file(name: str, file: str) -> pathlib.Path:
  """A file of a timm model; from the hub unless it is in the cache."""
  path = weights_directory() / "timm" / name / file
  if path.exists():
    return path
  import huggingface_hub
  from huggingface_hub import errors

  _make_directory(path.parent)
  url = _TIMM_URL.format(name, file)
  repository = f"timm/{name}"
  print(f"downloading {url}", file=sys.stderr)
  huggingface_hub.logging.set_verbosity_error()  # Of every attempt, else.
  try:
    # Into a directory of its own first: what is in the cache is whole.
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
      got = huggingface_hub.hf_hub_download(repository, file, local_dir=aside)
      tag = huggingface_hub.get_hf_file_metadata(url).etag or ""
      if tag not in _tags(pathlib.Path(got)):
        raise UserError(f"{url} came with another hash than {tag}; try again")
      os.replace(got, path)
  except errors.RepositoryNotFoundError:
    raise UserError(
      f"there is no model {repository} on the Hugging Face hub; "
      "see https://huggingface.co/timm"
    ) from None
  except (OSError, ValueError, errors.HfHubHTTPError) as error:
    # All that the run will ask for, not one file after the other.
    wanted = {
      _TIMM_URL.format(name, other): path.with_name(other)
      for other in _TIMM_FILES
      if not path.with_name(other).exists()
    }
    raise _offline(wanted, error) from error
  return path


def _tags(path: pathlib.Path) -> tuple[str, str]:
  """What the hub calls a file of this content: a large one, and a small one."""
  content = path.read_bytes()
  as_blob = b"blob %d\0" % len(content) + content  # As git does.
  return _digest(path, "sha256"), hashlib.sha1(as_blob).hexdigest()


def _offline(wanted: Mapping[str, pathlib.Path], error: Exception) -> UserError:
  """Names what to fetch from where, and where to put it."""
  each = " and ".join(f"{url} to {path}" for url, path in wanted.items())
  return UserError(
    f"cannot download the weights ({type(error).__name__}); fetch by other "
    f"means {each}"
  )


def _make_directory(path: pathlib.Path) -> None:
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"cannot keep downloaded weights in {path}: {error.strerror}; set "
      "XDG_CACHE_HOME to a directory that can be written"
    ) from None


def _digest(path: pathlib.Path, algorithm: str) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, algorithm).hexdigest()


def _new_head(
  entries: Mapping[dialects.Path, dialects.Entry],
  flat: Mapping[dialects.Path, jax.Array],
  head: Iterable[dialects.Path],
  arrays: Mapping[str, np.ndarray],
) -> str | None:
  """Why the head of the file cannot be taken, or None where it can."""
  for key in head:
    array = arrays.get(entries[key].name)
    if array is None:
      return "for the file has none"
    theirs, ours = array.shape, flat[key].shape
    if key[-1] == "bias" and theirs != ours:
      return f"for the file's tells {theirs[0]:,} classes apart"
  return None


def _with_convolutions(
  entries: Mapping[dialects.Path, dialects.Entry],
  arrays: Mapping[str, np.ndarray],
) -> tuple[dict[dialects.Path, dialects.Entry], list[str]]:
  """Takes out batch norms whose convolution the file lacks; and their names."""
  kept, stray = {}, []
  for key, entry in entries.items():
    _, *modules, _ = key
    convolution = (
      "params",
      *modules[:-1],
      modules[-1].replace("bn", "conv"),
      "kernel",
    )
    if "bn" in modules[-1] and entries[convolution].name not in arrays:
      stray.append(entry.name)
    else:
      kept[key] = entry
  return kept, stray


def _finite(array: np.ndarray) -> np.ndarray | None:
  """As float32; None where that is no array of finite numbers."""
  try:
    numbers = np.asarray(array, np.float32)
  except (TypeError, ValueError):  # Of text, say.
    return None
  return numbers if np.isfinite(numbers).all() else None


def _some(names: Iterable[str]) -> str:
  """All names up to a dozen, or ten of them and the count of the others."""
  names = list(names)
  if len(names) <= 12:
    return ", ".join(names)
  return f"{', '.join(names[:10])} and {len(names) - 10} more"
