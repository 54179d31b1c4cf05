"""Activation maps as pictures."""

import numpy as np

from mixaug_jax.analysis import cam
from mixaug_jax.classifier import Classifier

_LEAST = 96  # Pixels a side, so that a map over them is smooth.


def enlarged(images: np.ndarray) -> np.ndarray:
  """Enlarges small images `[B, H, H, 3]` by whole factors."""
  factor = max(1, _LEAST // images.shape[1])
  return images.repeat(factor, axis=1).repeat(factor, axis=2)


def over(
  network: Classifier, images: np.ndarray, class_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Lays the activation map of a class over each image.

  Args:
    network: the network.
    images: stored images, uint8 `[B, S, S, 3]`.
    class_ids: the class of each map, int `[B]`.

  Returns:
    What the network sees, without and with the map, uint8 `[B, H, H, 3]`.

  Raises:
    NoActivationMaps: the model has none.
  """
  maps = network.activation_maps(images, class_ids)
  shown = enlarged(network.shown(images))
  return shown, cam.overlay(shown, cam.heatmap(maps, shown.shape[1]))
