"""No augmentation at all: what the other arms are measured against."""

from ml_collections import ConfigDict

from mixaug_jax.configs import default


def get_config(dataset: str = "digits") -> ConfigDict:
  return default.get_config(dataset)
