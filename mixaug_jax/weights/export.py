"""Writing the variables of a ResNet as weight files of other frameworks."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from mixaug_jax import files
from mixaug_jax.errors import UserError
from mixaug_jax.models.protocol import Model
from mixaug_jax.models.resnet import ResNet
from mixaug_jax.weights import dialects, formats


class Format(NamedTuple):
  """A kind of weight file.

  Attributes:
    framework: its name.
    suffix: of the file.
    dialect: of the names in it.
    write: called with the path, the arrays by name, and the model.
    loads: Python code whose `network` is the framework's, with the weights of
      the file; `{name}`, `{keras_name}`, `{classes}` and `{path}`, in quotes,
      are fields.
  """

  framework: str
  suffix: str
  dialect: dialects.Dialect
  write: Callable[[pathlib.Path, dict[str, np.ndarray], ResNet], None]
  loads: str


FORMATS = {
  "torchvision": Format(
    "torchvision",
    ".pth",
    dialects.TORCH,
    lambda path, arrays, _: formats.write_pth(path, arrays),
    "network = torchvision.models.{name}(num_classes={classes})\n"
    "network.load_state_dict(torch.load({path}))",
  ),
  "safetensors": Format(
    "timm",
    ".safetensors",
    dialects.TORCH,
    lambda path, arrays, _: formats.write_safetensors(path, arrays),
    "network = timm.create_model('{name}', num_classes={classes}, "
    "checkpoint_path={path})",
  ),
  "keras": Format(
    "Keras",
    ".h5",
    dialects.KERAS,
    lambda path, arrays, model: formats.write_keras_h5(
      path, arrays, dialects.keras_layers(model.stage_sizes)
    ),
    "network = keras.applications.{keras_name}(weights={path}, "
    "classes={classes}, classifier_activation=None)",
  ),
}


def export(
  path: pathlib.Path, kind: str, name: str, model: Model, variables: Any
) -> str:
  """Writes `variables` for another framework, to give the same logits there.

  Args:
    path: of the new file, with the suffix of its format.
    kind: a key of FORMATS.
    name: of the model, as in `config.model.name`.
    model: the module of the variables.
    variables: `params` and `batch_stats`.

  Returns:
    The Python code that loads the file in that framework as `network`.

  Raises:
    UserError: the framework has no such network, or a package that writes the
      format is not installed.
    OSError: the file cannot be written.
  """
  target = FORMATS[kind]
  _check_architecture(kind, name, model)
  assert isinstance(model, ResNet)  # No framework has another one.
  flat = traverse_util.flatten_dict(variables)
  arrays = {
    entry.name: entry.export(np.asarray(flat[key], np.float32))
    for key, entry in dialects.entries(target.dialect, variables).items()
  }
  with files.replacing(path) as part:
    # Each library has its own error for a path that cannot be written.
    part.open("wb").close()
    target.write(part, arrays, model)
  return target.loads.format(
    name=name,
    keras_name=name.replace("resnet", "ResNet"),
    classes=model.num_classes,
    path=repr(str(path)),
  )


def _check_architecture(kind: str, name: str, model: Model) -> None:
  """Raises UserError if the framework has no network of this kind."""
  fitting = [other for other in FORMATS if _has(FORMATS[other].dialect, model)]
  if kind in fitting:
    return
  # Only bottleneck blocks have versions.
  if isinstance(model, ResNet) and model.bottleneck:
    name = f"network like {name} {model.version}"
  raise UserError(
    f"{FORMATS[kind].framework} has no {name}; "
    + (f"choose {' or '.join(fitting)}" if fitting else "no framework has")
  )


def _has(dialect: dialects.Dialect, model: Model) -> bool:
  """Returns whether a framework has a network that gives the same logits."""
  if not isinstance(model, ResNet):
    return False
  if model.small_images or len(model.stage_sizes) < 4:
    return False
  wanted = dict(dialect.architecture)
  if not model.bottleneck:  # Their two versions are the same network.
    del wanted["version"]
    if dialect is dialects.KERAS:  # Keras publishes none of these.
      return False
  return all(getattr(model, key) == value for key, value in wanted.items())
