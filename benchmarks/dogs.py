"""The course's arms on small photographs of dogs: docs/results.md.

    python -m mixaug_jax.compare --config=benchmarks/dogs.py:trunk \
        --config.base.data.dir=DOGS --config.base.model.pretrained=TRUNK.npz \
        --workdir=runs/dogs_trunk --jobs=2
    python -m mixaug_jax.compare --config=benchmarks/dogs.py:scratch \
        --config.base.data.dir=DOGS --workdir=runs/dogs_scratch --jobs=2

DOGS holds train/<class>/* and test/<class>/*. `trunk` fine-tunes a ResNet-50
that ends at stage3, which is conv4, on 20 breeds; TRUNK.npz holds the weights
of `keras.applications.ResNet50` up to there. `scratch` trains a ResNet-18 from
random weights on ten breeds. Both see 64 px. The learning rate of each arm is
the best of three on validation, with one seed; three other seeds are tested.
"""

from ml_collections import ConfigDict

from configs import compare

_ARMS = ("baseline", "basic", "basic+cutmix", "basic+mixup", "basic+mix")


def get_config(start: str = "trunk") -> ConfigDict:
  """Returns the comparison from a trunk's weights or from random ones."""
  if start not in ("trunk", "scratch"):
    raise ValueError("the start must be trunk or scratch")
  trunk = start == "trunk"
  config = compare.get_config("stanford_dogs" if trunk else "folder")
  for name in set(config.arms) - set(_ARMS):
    del config.arms[name]
  base = config.base
  base.data.name = "folder"
  base.data.classes = "20" if trunk else "10"
  base.data.examples_per_class = 60
  base.data.validation_fraction = 0.2
  base.data.image_size = 64
  base.data.cache_size = 64
  base.batch_size = 20
  base.evaluate.batch_size = 79
  if trunk:
    base.epochs = 12.0
    base.model.last_stage = "stage3"
    base.model.allow_partial = True
    base.model.version = "v1"
    base.model.conv_bias = True
  else:
    base.epochs = 30.0
    base.model.name = "resnet18"
    base.model.pretrained = None
    base.evaluate.every_epochs = 5.0
  config.seeds = 3
  config.tune.trials = 3
  config.tune.design = "fixed"
  config.tune.space = ConfigDict(
    {"optimizer": {"learning_rate": "times 0.3 3"}}
  )
  return config
