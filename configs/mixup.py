"""Mixup (Zhang et al., 2018, arXiv:1710.09412): a blend of two images."""

from ml_collections import ConfigDict

from mixaug_jax.configs import default


def get_config(dataset: str = "digits") -> ConfigDict:
  config = default.get_config(dataset)
  config.mix.name = "mixup"
  config.mix.alpha = 0.4
  return config
