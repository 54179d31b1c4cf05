"""Image classifiers in Linen: a registry, and the protocol that all satisfy."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mixaug_jax import registry
from mixaug_jax.models import resnet, vit
from mixaug_jax.models.head import linear_head
from mixaug_jax.models.preprocessing import (
  IMAGENET_PREPROCESSING,
  PREPROCESSING,
  Preprocessing,
)
from mixaug_jax.models.protocol import Model, run_stages
from mixaug_jax.models.resnet import ResNet
from mixaug_jax.models.vit import VisionTransformer

# Each value makes a `Model` from `num_classes` and the settings that it has.
MODELS: dict[str, Callable[..., Model]] = {
  **resnet.MODELS,
  **vit.MODELS,
}

# The defaults of the settings that a model may lack. A model accepts the
# default of a setting that it lacks, and no other value.
_DEFAULTS = {
  "last_stage": None,
  "dropout": 0.0,
  "remat": False,
  "head_init": "lecun_normal",
  "zero_init_residual": True,
  "freeze_batch_norm": False,
  "bn_axis_name": None,
  "version": "v1.5",
  "conv_bias": False,
  "bn_epsilon": 1e-5,
}
# The config keys of settings whose name differs from that in `config.model`.
_KEYS = {"bn_axis_name": "model.sync_batch_norm", "frozen": "optimizer.freeze"}

__all__ = [
  "IMAGENET_PREPROCESSING",
  "MODELS",
  "PREPROCESSING",
  "Model",
  "Preprocessing",
  "ResNet",
  "VisionTransformer",
  "abstract_variables",
  "create_model",
  "linear_head",
  "run_stages",
]


def create_model(name: str, num_classes: int, **settings: Any) -> Model:
  """Makes a model by name.

  Args:
    name: a key of MODELS, or `package.module:Name` for a class or function of
      the user's that makes a `Model`.
    num_classes: the number of logits.
    **settings: keyword arguments of the model, such as attributes of `ResNet`.

  Raises:
    ValueError: an unknown name, a value that is not allowed, or a setting that
      the model does not have.
  """
  build = registry.find("model.name", name, MODELS)
  if not callable(build):
    raise ValueError(f"model.name={name} is not a class or a function")
  parameters = inspect.signature(build).parameters
  takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  given = {}
  for setting, value in settings.items():
    if takes_all or setting in parameters:
      given[setting] = value
    elif setting not in _DEFAULTS or value != _DEFAULTS[setting]:
      key = _KEYS.get(setting, f"model.{setting}")
      raise ValueError(
        f"{key} means nothing to the model {name}; leave it at its default"
      )
  model = build(num_classes=num_classes, **given)
  if not isinstance(model, Model):
    names = (name for name in vars(Model) if not name.startswith("_"))
    lacking = sorted(name for name in names if not hasattr(model, name))
    raise ValueError(
      f"model.name={name} is not a model: it lacks {', '.join(lacking)}; see "
      "mixaug_jax.models.Model"
    )
  if unknown := set(model.frozen) - set(model.stages):
    raise ValueError(
      f"optimizer.freeze: {name} has no {', '.join(sorted(unknown))}; it has "
      f"{', '.join(model.stages)}"
    )
  return model


def abstract_variables(model: Model, image_size: int) -> Any:
  """Returns the shapes and dtypes of a model's variables.

  Raises:
    ValueError: the model does not take images of `image_size` pixels a side.
  """
  images = jnp.zeros((1, image_size, image_size, 3))
  return jax.eval_shape(
    lambda: model.init(jax.random.key(0), images, train=False)
  )
