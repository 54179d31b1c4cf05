"""A comparison: arms that differ from one base config, several seeds each.

An arm is the text of its overrides, as on the command line without `--config.`.
Another one is another line; `--config.base.KEY=VALUE` changes all of them.
"""

from ml_collections import ConfigDict

from configs import basic, cutmix, default, mixup
from mixaug_jax.config import as_overrides


def get_config(dataset: str = "digits") -> ConfigDict:
  config = ConfigDict()
  config.base = default.get_config(dataset)
  config.baseline = "baseline"  # The arm that the others are measured by.
  config.goal = 0.05  # The gain in test accuracy that is hoped for.
  config.seeds = 3  # 0, 1, 2: of initialisation, data order and split.

  base = default.get_config(dataset)
  crops_and_colours = as_overrides(base, basic.get_config(dataset))
  boxes = as_overrides(base, cutmix.get_config(dataset))
  blends = as_overrides(base, mixup.get_config(dataset))
  config.arms = ConfigDict(
    {
      "baseline": "",
      "basic": crops_and_colours,
      "cutmix": boxes,
      "mixup": blends,
      "basic+cutmix": f"{crops_and_colours} {boxes}",
      "basic+mixup": f"{crops_and_colours} {blends}",
      # Both, one or the other by equal chance, by the alphas of their papers.
      "basic+mix": f"{crops_and_colours} mix.name=cutmix,mixup",
    }
  )
  return config
