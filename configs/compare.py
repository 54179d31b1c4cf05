"""A comparison: arms that differ from one base config, several seeds each.

An arm holds the keys of `base` that it changes, nested as there. Another arm is
another line; `--config.base.KEY=VALUE` changes all arms, and
`--config.arms.ARM.KEY=VALUE` changes one.
"""

from ml_collections import ConfigDict

from configs import basic, cutmix, default, mixup
from mixaug_jax.config import difference


def get_config(dataset: str = "digits") -> ConfigDict:
  config = ConfigDict()
  config.base = default.get_config(dataset)
  config.baseline = "baseline"  # The arm that the others are measured against.
  config.goal = 0.05  # The hoped-for gain in test accuracy.
  # More pairs to compare, "ARM:OTHER,ARM:OTHER"; auto: each arm A+B with A.
  config.pairs = "auto"
  config.seeds = 3  # 0, 1, 2: of initialisation, data order and split.

  base = default.get_config(dataset)
  crops_and_colours = difference(base, basic.get_config(dataset))
  boxes = difference(base, cutmix.get_config(dataset))
  blends = difference(base, mixup.get_config(dataset))
  config.arms = ConfigDict(
    {
      "baseline": {},
      "basic": crops_and_colours,
      "cutmix": boxes,
      "mixup": blends,
      "basic+cutmix": crops_and_colours | boxes,
      "basic+mixup": crops_and_colours | blends,
      # One or the other with equal chance, each with its paper's alpha.
      "basic+mix": crops_and_colours | {"mix": {"name": "cutmix,mixup"}},
    }
  )
  return config
