"""From RGB images in [0, 1] to the numbers a network was trained on."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """`(x - mean) / std` on RGB, or on BGR, images.

  Attributes:
    mean: of each channel, in the order of the network's input, in units of
      images in [0, 1].
    std: likewise.
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

# By name, as in `config.model.preprocessing`.
PREPROCESSING = {
  # torchvision and most of timm.
  "imagenet": IMAGENET_PREPROCESSING,
  # Keras's ResNet: BGR in 0..255 minus the means of Caffe's ImageNet.
  "caffe": Preprocessing(
    mean=(103.939 / 255, 116.779 / 255, 123.68 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
    bgr=True,
  ),
  # Some of timm: [0, 1] to [-1, 1].
  "inception": Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
