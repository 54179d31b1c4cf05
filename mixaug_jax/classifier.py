"""A trained network: its logits on views of images, its features, its maps."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import augment, models
from mixaug_jax.analysis import cam, likelihood
from mixaug_jax.data import decode, label_sets
from mixaug_jax.errors import NoActivationMaps, UserError
from mixaug_jax.training import checkpoint as checkpoint_lib
from mixaug_jax.training import parallel


@dataclasses.dataclass(frozen=True)
class Classifier:
  """A trained network.

  Stored images are what the cache of a data set holds, uint8 `[B, S, S, 3]`.

  Attributes:
    config: the config of its run.
    model: the module.
    variables: `params`, and `batch_stats` if the model has any.
  """

  config: ConfigDict
  model: models.Model
  variables: Any

  @property
  def square(self) -> decode.Settings:
    """How an image file becomes a stored image."""
    return decode.settings(self.config.data)

  @property
  def preprocessing(self) -> models.Preprocessing:
    return models.PREPROCESSING[self.config.model.preprocessing]

  def preprocess(self, images: jax.Array) -> jax.Array:
    """Crops and normalises stored images for the network, unaugmented."""
    size = self.config.data.image_size
    images = augment.center_crop(images, size)
    return self.preprocessing(images.astype(jnp.float32) / 255)

  def probabilities(self, images: jax.Array) -> jax.Array:
    """Returns the probabilities of stored images, float32 `[B, C]`.

    It is a pure function for tracing, such as by `jax.export`; `predictor` is
    the one for computing.
    """
    sets = label_sets.key(self.config.data) is not None
    kind = likelihood.of_loss(self.config.loss.name, sets).kind
    logits = self.model.apply(
      self.variables, self.preprocess(images), train=False
    )
    normalise = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[kind]
    return normalise(logits.astype(jnp.float32))

  def describe_stored(self) -> str:
    """Describes how an image file becomes a stored image, line by line."""
    size = self.square.size
    return _numbered(
      f"its input, uint8 [b, {size}, {size}, 3], is made of images like this:",
      self._storing(),
    )

  def _storing(self) -> list[str]:
    stored = self.square.size
    how = {
      "crop": f"scale the short side to {stored} px and keep the middle square",
      "squash": f"scale both sides to {stored} px, whatever the shape",
      "pad": f"scale the long side to {stored} px and add black on both sides",
    }
    return [
      "turn it upright by its EXIF orientation, into RGB of 8 bits",
      f"{how[self.square.resize]} (bilinear, antialiased)",
    ]

  def describe_input(self) -> str:
    """Describes how an image file becomes the network's input, line by line."""
    seen, lines = self.config.data.image_size, self._storing()
    if self.square.size != seen:
      lines.append(f"keep the middle {seen} x {seen} px of it")
    if self.preprocessing.bgr:
      lines.append("reverse the channels, to BGR")
    numbers = lambda x: f"({', '.join(f'{value:.6g}' for value in x)})"
    order = "BGR" if self.preprocessing.bgr else "RGB"
    lines.append(
      f"divide by 255, subtract the mean {numbers(self.preprocessing.mean)}, "
      f"and divide by the std {numbers(self.preprocessing.std)}, in {order}"
    )
    return _numbered(
      f"its input, {seen} x {seen} px, is made of an image like this:", lines
    )

  def shown(self, images: np.ndarray) -> np.ndarray:
    """Returns the crops that the network sees, uint8 `[B, H, H, 3]`."""
    size = self.config.data.image_size
    return np.asarray(augment.center_crop(jnp.asarray(images), size))

  def activation_maps(
    self, images: np.ndarray, class_ids: np.ndarray, stage: str | None = None
  ) -> np.ndarray:
    """Returns the activation map of a class for each image.

    Args:
      images: stored images.
      class_ids: the class of each map, int `[B]`.
      stage: as in `cam.class_activation_map`.

    Returns:
      float32 `[B, h, w]`.

    Raises:
      NoActivationMaps: the model has no such stage, or no map of this stage.
    """
    try:
      maps = cam.class_activation_map(
        self.model,
        self.variables,
        self.preprocess(jnp.asarray(images)),
        class_ids,
        stage,
      )
    except ValueError as error:
      raise NoActivationMaps(str(error)) from None
    return np.asarray(maps)

  def predictor(self, views: str = "identity") -> Callable[..., np.ndarray]:
    """Returns `logits(images uint8 [B, S, S, 3]) -> float32 [V, B, C]`.

    V is the number of views that the names in `views` make, see
    `augment.make_views`. The batch is spread over the local devices. It may
    have any size; each new size compiles.

    Raises:
      UserError: unknown views.
    """
    size = self.config.data.image_size
    try:
      augment.make_views(views, size)
    except ValueError as error:
      raise UserError(str(error)) from None
    variables = parallel.replicate(self.variables)

    def logits(images: np.ndarray) -> np.ndarray:
      padded = _logits(
        *(self.model, self.preprocessing, views, size),
        *(variables, parallel.spread(images)),
      )
      return jax.device_get(padded)[:, : len(images)]

    return logits

  def features(self) -> Callable[[np.ndarray], np.ndarray]:
    """Returns `features(images uint8 [B, S, S, 3]) -> float32 [B, c]`.

    Features are the mean over the image of the activations before the head. The
    batch is as in `predictor`.
    """
    size = self.config.data.image_size
    variables = parallel.replicate(self.variables)

    def features(images: np.ndarray) -> np.ndarray:
      padded = _features(
        *(self.model, self.preprocessing, size),
        *(variables, parallel.spread(images)),
      )
      return jax.device_get(padded)[: len(images)]

    return features


def _numbered(title: str, lines: Sequence[str]) -> str:
  steps = [f"  {number}. {line}" for number, line in enumerate(lines, 1)]
  return "\n".join([title, *steps])


# The networks of all runs with an equal model share a compiled program.
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _logits(model, preprocessing, views, size, variables, images):
  seen = augment.make_views(views, size)(images).astype(jnp.float32) / 255
  flat = preprocessing(seen.reshape(-1, *seen.shape[2:]))
  logits = model.apply(variables, flat, train=False)
  return logits.reshape(*seen.shape[:2], -1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _features(model, preprocessing, size, variables, images):
  seen = augment.center_crop(images, size).astype(jnp.float32) / 255
  activations = model.apply(
    variables, preprocessing(seen), train=False, stop=model.stages[-2]
  )
  return activations.astype(jnp.float32).mean(axis=(1, 2))


def read_variables(
  checkpoint: pathlib.Path, model: models.Model, image_size: int, average: bool
) -> Any:
  """Reads the variables of a model from a checkpoint.

  Args:
    checkpoint: directory of the checkpoint.
    model: the module.
    image_size: pixels a side of its training images.
    average: whether to read the moving averages instead.

  Returns:
    `params`, and `batch_stats` if the model has any, as numpy arrays.

  Raises:
    UserError: the checkpoint is damaged or does not fit the model.
  """
  variables = checkpoint_lib.read_variables(checkpoint, average)
  like = models.abstract_variables(model, image_size)
  shapes = lambda tree: jax.tree.map(np.shape, tree)
  if shapes(variables) != shapes(like):
    raise UserError(
      f"the checkpoint {checkpoint} is not one of this run: its arrays do not "
      "fit the model"
    )
  return variables
