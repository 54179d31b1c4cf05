"""The sources of pretrained weights, and what each asks of a model."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mixaug_jax.errors import UserError
from mixaug_jax.models.preprocessing import PREPROCESSING, Preprocessing
from mixaug_jax.names import printable
from mixaug_jax.weights import dialects, downloads, formats, hub, loading

# A key of PREPROCESSING by framework, where a source does not name another.
_PREPROCESSING = {"keras": "caffe", "torch": "imagenet"}

# The keys of `config.model` that follow the weights, as they are without any.
DEFAULTS = {
  **dialects.TORCH.architecture,
  "preprocessing": _PREPROCESSING["torch"],
}


class _Published(NamedTuple):
  """Files that a framework's project publishes.

  Attributes:
    framework: a key of the values of `dialects.DIALECTS`.
    url: `{model}` and `{digest}` are fields.
    algorithm: of the hash.
    digests: the hash of each model's file, or its beginning.
  """

  framework: str
  url: str
  algorithm: str
  digests: Mapping[str, str]


_KERAS_URL = (
  "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
  "{model}_weights_tf_dim_ordering_tf_kernels"
)
_TORCHVISION_URL = "https://download.pytorch.org/models/{model}-{digest}.pth"
# The hashes are those of Keras's and torchvision's source code. The latter has
# the first digits of SHA-256, as a part of the file's name.
_PUBLISHED = {
  "keras": _Published(
    "keras",
    f"{_KERAS_URL}.h5",
    "md5",
    {
      "resnet50": "2cb95161c43110f7111970584f804107",
      "resnet101": "f1aeb4b969a6efcfb50fad2f0c20cfc5",
      "resnet152": "100835be76be38e30d865e96f2aaae62",
    },
  ),
  "keras_notop": _Published(
    "keras",
    f"{_KERAS_URL}_notop.h5",
    "md5",
    {
      "resnet50": "4d473c1dd8becc155b73f8504c6f6626",
      "resnet101": "88cf7a10940856eca736dc7b7e228a21",
      "resnet152": "ee4c566cf9a93f14d82f913c2dc6dd0c",
    },
  ),
  "torchvision": _Published(
    "torch",
    _TORCHVISION_URL,
    "sha256",
    {
      "resnet18": "f37072fd",
      "resnet34": "b627a593",
      "resnet50": "0676ba61",
      "resnet101": "63fe2227",
      "resnet152": "394f9c45",
    },
  ),
  "torchvision_v2": _Published(
    "torch",
    _TORCHVISION_URL,
    "sha256",
    {
      "resnet50": "11ad3fa6",
      "resnet101": "cd907fc2",
      "resnet152": "f82ba261",
    },
  ),
}
_HUB_FILES = (hub.CONFIG, hub.WEIGHTS)
_HUB = "hf://"


@dataclasses.dataclass(frozen=True)
class WeightSource:
  """Pretrained weights, and what they ask of the model and its input.

  Attributes:
    name: as in `config.model.pretrained`.
    dialect: of the names in the file.
    settings: the values that the weights ask for of keys of `config.model`.
    fetch: returns the local file, which it downloads if need be; raises
      UserError.
    allow_partial: whether the file may lack arrays or hold others.
    certain: whether the settings are known, and not guessed from the format.
    label_names: the classes of its head, by class id, where they are known.
    class_names: those of the data.
  """

  name: str
  dialect: dialects.Dialect
  settings: Mapping[str, Any]
  fetch: Callable[[], pathlib.Path]
  allow_partial: bool
  certain: bool
  label_names: Sequence[str] | None = None
  class_names: Sequence[str] = ()

  @property
  def preprocessing(self) -> Preprocessing:
    return PREPROCESSING[self.settings["preprocessing"]]

  def load(self, variables: Any) -> tuple[Any, loading.LoadReport]:
    """Loads the weights into `variables`; see `loading.load`.

    If the classes of the head are known, it is loaded for these classes only.
    """
    new_head = None
    if self.label_names is not None:
      new_head = loading.other_classes(
        self.name, self.label_names, self.class_names
      )
    return loading.load(
      self.fetch(),
      self.dialect,
      variables,
      source=self.name,
      allow_partial=self.allow_partial,
      new_head=new_head,
    )


def published(model: str) -> str | None:
  """Returns a source with published weights of a model; None if there is none.

  Of several, it is the one of Keras, whose weights the recipe of
  configs/default.py was found with.
  """
  names = (n for n, each in _PUBLISHED.items() if model in each.digests)
  return next(names, None)


def is_published(pretrained: str) -> bool:
  """Returns whether the text names published weights, and not a path."""
  return pretrained in _PUBLISHED or pretrained.startswith(("timm/", _HUB))


def resolve(
  pretrained: str | None, model: str, allow_partial: bool = False
) -> WeightSource | None:
  """Finds a source of weights; None if `pretrained` is None.

  Reads and downloads nothing except, for `timm/NAME` and `hf://USER/NAME`, a
  description of a few kB.

  Args:
    pretrained: `keras`, `keras_notop`, `torchvision`, `torchvision_v2`,
      `timm/NAME`, `hf://USER/NAME` or the path of a file.
    model: the name of the model.
    allow_partial: whether the file may lack arrays or hold others.

  Raises:
    UserError: no such source, or it has no weights for `model`.
  """
  if pretrained is None:
    return None
  if model not in dialects.DIALECTS:
    raise UserError(
      f"there are no pretrained weights for config.model.name={model}, only "
      f"for {', '.join(dialects.DIALECTS)}; choose one of these, name a run "
      "directory, or unset config.model.pretrained"
    )
  preprocessing, certain, label_names = None, True, None
  if known := _PUBLISHED.get(pretrained):
    framework = known.framework
    if model not in known.digests:
      raise UserError(
        f"config.model.pretrained={pretrained} has no weights for "
        f"config.model.name={model}; it has {', '.join(known.digests)}"
      )
    digest = known.digests[model]
    url = known.url.format(model=model, digest=digest)
    fetch = functools.partial(downloads.from_url, url, known.algorithm, digest)
  elif pretrained.startswith(("timm/", _HUB)):
    repository = _repository(pretrained, model)
    framework = "torch"
    file = functools.partial(
      downloads.from_hub,
      repository,
      wanted=_HUB_FILES,
      newest=pretrained.startswith(_HUB),  # Those of timm do not change.
    )
    preprocessing, label_names = _described(
      pretrained, model, file(name=hub.CONFIG)
    )
    fetch = functools.partial(file, name=hub.WEIGHTS)
  else:
    path = pathlib.Path(os.path.expanduser(pretrained))
    if path.suffix not in formats.READERS:
      raise UserError(
        f"config.model.pretrained must be {', '.join(_PUBLISHED)}, timm/NAME, "
        f"hf://USER/NAME, the path of a {', '.join(formats.READERS)} file or a "
        f"run directory, got {pretrained!r}"
      )
    framework = formats.READERS[path.suffix].framework
    fetch = functools.partial(_existing, path)
    certain = False
  dialect = dialects.DIALECTS[model].get(framework)
  if dialect is None:
    raise UserError(
      f"config.model.pretrained={pretrained} is a file of {framework}, but "
      f"config.model.name={model} loads only those of "
      f"{', '.join(dialects.DIALECTS[model])}; choose another file"
    )
  return WeightSource(
    name=pretrained,
    dialect=dialect,
    settings={
      **dialect.architecture,
      "preprocessing": preprocessing or _PREPROCESSING[framework],
    },
    fetch=fetch,
    allow_partial=allow_partial,
    certain=certain,
    label_names=label_names,
  )


def _existing(path: pathlib.Path) -> pathlib.Path:
  if not path.is_file():
    raise UserError(
      f"config.model.pretrained: there is no weight file {path}; check its path"
    )
  return path


def _repository(pretrained: str, model: str) -> str:
  """Returns the name of a repository; raises UserError."""
  if pretrained.startswith(_HUB):
    if not hub.NAME.fullmatch(pretrained.removeprefix(_HUB)):
      raise UserError(
        f"config.model.pretrained={pretrained} must be hf://USER/NAME"
      )
    return pretrained.removeprefix(_HUB)
  name = pretrained.removeprefix("timm/")
  if "/" in name:  # It becomes the name of a folder.
    raise UserError(
      f"config.model.pretrained={pretrained} must be timm/NAME, without "
      "another /"
    )
  if name.partition(".")[0] != model:
    raise UserError(
      f"config.model.pretrained={pretrained} is not for "
      f"config.model.name={model}; its name must begin with {model}, as "
      f"timm/{model}.a1_in1k does"
    )
  return pretrained


def _described(
  pretrained: str, model: str, path: pathlib.Path
) -> tuple[str, list[str] | None]:
  """Returns what timm's description of a model asks for.

  Returns:
    A key of PREPROCESSING, and the classes of the head if they are named.

  Raises:
    UserError: it is no such description, or is of another model.
  """
  try:
    described = json.loads(path.read_text("utf-8"))
    cfg = described["pretrained_cfg"]
    wanted = Preprocessing(tuple(cfg["mean"]), tuple(cfg["std"]))
    labels = described.get("label_names") or cfg.get("label_names")
    label_names = None if labels is None else list(map(str, labels))
    theirs = described.get("architecture", model)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{path} does not describe a timm model; delete it and run again"
    ) from error
  if theirs != model:
    raise UserError(
      f"config.model.pretrained={pretrained} is not for "
      f"config.model.name={model}, but for {printable(str(theirs))}; set that "
      "name, or choose other weights"
    )
  for name, preprocessing in PREPROCESSING.items():
    if preprocessing == wanted:
      return name, label_names
  raise UserError(
    f"config.model.pretrained={pretrained} wants images of mean {wanted.mean} "
    f"and standard deviation {wanted.std}, which is not supported; choose "
    "other weights"
  )
