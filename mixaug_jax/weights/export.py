"""Writes the variables of a ResNet as files of other frameworks."""

import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from mixaug_jax.errors import UserError
from mixaug_jax.models.resnet import ResNet
from mixaug_jax.weights import dialects, formats


class Format(NamedTuple):
  """A kind of file.

  Attributes:
    suffix: of the file.
    dialect: of the names in it.
    write: `(path, arrays by name, model)`.
    loads: an expression of the framework that loads it; `{name}`, `{classes}`
      and `{path}` are fields.
  """

  suffix: str
  dialect: dialects.Dialect
  write: Callable[[pathlib.Path, dict[str, np.ndarray], ResNet], None]
  loads: str


FORMATS = {
  "torchvision": Format(
    ".pth",
    dialects.TORCH,
    lambda path, arrays, _: formats.write_pth(path, arrays),
    "torchvision.models.{name}(num_classes={classes}).load_state_dict("
    "torch.load('{path}'))",
  ),
  "safetensors": Format(
    ".safetensors",
    dialects.TORCH,
    lambda path, arrays, _: formats.write_safetensors(path, arrays),
    "timm.create_model('{name}', num_classes={classes}, "
    "checkpoint_path='{path}')",
  ),
  "keras": Format(
    ".h5",
    dialects.KERAS,
    lambda path, arrays, model: formats.write_keras_h5(
      path, arrays, dialects.keras_layers(model.stage_sizes)
    ),
    "keras.applications.{keras_name}(weights='{path}', classes={classes}, "
    "classifier_activation=None)",
  ),
}


def export(
  path: pathlib.Path, kind: str, name: str, model: ResNet, variables: Any
) -> str:
  """Writes `variables` for another framework, to give the same logits there.

  Args:
    path: of the new file, which ends as FORMATS says.
    kind: a key of FORMATS.
    name: of the model, as in `config.model.name`.
    model: whose variables they are.
    variables: `params` and `batch_stats`.

  Returns:
    The expression that loads the file in that framework.

  Raises:
    UserError: the framework has no such network, or the file cannot be
      written.
  """
  target = FORMATS[kind]
  _check_architecture(kind, name, model)
  flat = traverse_util.flatten_dict(variables)
  arrays = {
    entry.name: entry.export(np.asarray(flat[key], np.float32))
    for key, entry in dialects.entries(target.dialect, variables).items()
  }
  # Aside first: a file that is there is whole. Opened here, as each library
  # has errors of its own for a place that cannot be written.
  aside = path.with_name(f"{path.name}.part")
  try:
    aside.open("wb").close()
    try:
      target.write(aside, arrays, model)
      os.replace(aside, path)
    finally:
      aside.unlink(missing_ok=True)
  except OSError as error:
    raise UserError(
      f"cannot write {path}: {error.strerror or error}; name another --output"
    ) from None
  return target.loads.format(
    name=name,
    keras_name=name.replace("resnet", "ResNet"),
    classes=model.num_classes,
    path=path,
  )


def _check_architecture(kind: str, name: str, model: ResNet) -> None:
  """Raises UserError where the framework has no network of this kind."""
  fitting = [other for other in FORMATS if _has(FORMATS[other].dialect, model)]
  if kind in fitting:
    return
  raise UserError(
    f"--format={kind}: that framework has no network like this run's {name} "
    f"{model.version}; "
    + (f"choose --format={' or '.join(fitting)}" if fitting else "none has")
  )


def _has(dialect: dialects.Dialect, model: ResNet) -> bool:
  """Whether a framework has a network that gives the same logits."""
  if model.small_images or len(model.stage_sizes) < 4:
    return False
  wanted = dict(dialect.architecture)
  if not model.bottleneck:  # Two versions of these there are not,
    del wanted["version"]
    if dialect is dialects.KERAS:  # and none at all in Keras.
      return False
  return all(getattr(model, key) == value for key, value in wanted.items())
