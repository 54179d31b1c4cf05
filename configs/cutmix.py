"""CutMix (Yun et al., 2019, arXiv:1905.04899): a box of another image."""

from ml_collections import ConfigDict

from mixaug_jax.configs import default


def get_config(dataset: str = "digits") -> ConfigDict:
  config = default.get_config(dataset)
  config.mix.name = "cutmix"
  config.mix.alpha = 1.0
  return config
