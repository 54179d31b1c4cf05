"""Normalisation of RGB images in [0, 1] for a network."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """`(x - mean) / std`, for a network that takes RGB or BGR images.

  Attributes:
    mean: mean of each channel, in the order of the network's input, for images
      in [0, 1].
    std: standard deviation of each channel, likewise.
    bgr: whether the network takes blue first.
  """

  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  bgr: bool = False

  def __call__(self, images: jax.Array) -> jax.Array:
    """Normalises float RGB images `[..., 3]` in [0, 1]; keeps the dtype."""
    if self.bgr:
      images = images[..., ::-1]
    mean = jnp.asarray(self.mean, images.dtype)
    std = jnp.asarray(self.std, images.dtype)
    return (images - mean) / std


IMAGENET_PREPROCESSING = Preprocessing(
  mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)

# The values of `config.model.preprocessing`.
PREPROCESSING = {
  # For torchvision and most of timm.
  "imagenet": IMAGENET_PREPROCESSING,
  # For Keras's ResNet: BGR in 0..255 minus the means of Caffe's ImageNet.
  "caffe": Preprocessing(
    mean=(103.939 / 255, 116.779 / 255, 123.68 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
    bgr=True,
  ),
  # For some of timm: from [0, 1] to [-1, 1].
  "inception": Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
