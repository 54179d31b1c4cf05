"""Linen ResNets, and the ImageNet weights that fit them."""

from mixaug_jax.models.preprocessing import (
  IMAGENET_PREPROCESSING,
  PREPROCESSING,
  Preprocessing,
)
from mixaug_jax.models.resnet import NAMES, ResNet, create_model

__all__ = [
  "IMAGENET_PREPROCESSING",
  "NAMES",
  "PREPROCESSING",
  "Preprocessing",
  "ResNet",
  "create_model",
]
