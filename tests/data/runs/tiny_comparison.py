"""The comparison of the stored runs: two arms of a few steps."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.base = base = default.get_config("digits")
  base.model.name = "tiny_model:Tiny"
  base.data.classes = "3"
  base.data.examples_per_class = 12
  base.data.image_size = 8
  # As in the recipe of the version that wrote the runs.
  base.data.validation_fraction = 0.5
  base.evaluate.checkpoint = "best"
  base.batch_size = 12
  base.mix.per_example, base.mix.probability = True, 0.5
  base.optimizer.learning_rate = 0.3
  base.evaluate.every_epochs = 40.0
  base.epochs, base.steps = None, 6
  base.log.writers = ""
  base.checkpoint.keep = 1
  config.baseline = "baseline"
  config.goal = 0.05
  config.seeds = 1
  cutmix = {"mix": {"name": "cutmix"}}
  config.arms = ConfigDict({"baseline": {}, "cutmix": cutmix})
  return config
