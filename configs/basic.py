"""The random augmentations of tf.image, each example drawing for itself."""

from ml_collections import ConfigDict

from mixaug_jax.configs import default


def get_config(dataset: str = "digits") -> ConfigDict:
  config = default.get_config(dataset)
  augment = config.augment
  if dataset == "digits":  # A mirrored digit is another digit, or none.
    augment.random_crop.padding = 2
    return config
  augment.random_resized_crop.min_area = 0.5
  augment.random_flip_left_right.probability = 0.5  # Dogs never up-down.
  augment.random_brightness.max_delta = 0.2
  augment.random_contrast.lower, augment.random_contrast.upper = 0.8, 1.2
  augment.random_hue.max_delta = 0.05
  augment.random_saturation.lower, augment.random_saturation.upper = 0.8, 1.2
  augment.random_jpeg_quality.min_jpeg_quality = 50
  augment.random_jpeg_quality.max_jpeg_quality = 100
  return config
