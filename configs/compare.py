"""A comparison: arms that differ from one base config, tuned alike.

An arm holds the keys of `base` that it changes, nested as there. Another arm is
another line; `--config.base.KEY=VALUE` changes all arms, and
`--config.arms.ARM.KEY=VALUE` changes one.

With `tune.trials`, every arm gets the same number of trials on the same values
of the hyperparameters that it shares with the others. Trials leave the test set
unread. The best of them on validation is trained again with another seed, and
tested. `--config.tune.trials=0` gives all arms the recipe of `base`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from mixaug_jax.config import difference
from mixaug_jax.configs import basic, default


def get_config(dataset: str = "digits") -> ConfigDict:
  config = ConfigDict()
  config.base = default.get_config(dataset)
  config.baseline = "baseline"  # The arm that the others are measured against.
  config.goal = 0.05  # The hoped-for gain in test accuracy.
  # More pairs to compare, "ARM:OTHER,ARM:OTHER"; auto: each arm A+B with A.
  config.pairs = "auto"
  # Test-time augmentation, measured on every arm: the mean over these views.
  config.views = placeholder(str)
  config.views = "shifts" if dataset == "digits" else "identity,flip"
  config.seeds = 5  # 0, 1, ...: of initialisation, data order and split.

  # Without alpha, which is that of the paper unless it is tuned: a key that an
  # arm sets itself is not tuned in it.
  crops_and_colours = difference(config.base, basic.get_config(dataset))
  boxes, blends = {"mix": {"name": "cutmix"}}, {"mix": {"name": "mixup"}}
  config.arms = ConfigDict(
    {
      "baseline": {},
      "basic": crops_and_colours,
      "cutmix": boxes,
      "mixup": blends,
      "basic+cutmix": crops_and_colours | boxes,
      "basic+mixup": crops_and_colours | blends,
      # One or the other with equal chance.
      "basic+mix": crops_and_colours | {"mix": {"name": "cutmix,mixup"}},
    }
  )

  config.tune = tune = ConfigDict()
  tune.trials = 20 if dataset == "digits" else 0  # An arm; 0: one recipe.
  # studies: each seed has a tuning of its own, with its share of the trials, so
  # that the intervals include the noise of tuning. fixed: one for all seeds.
  tune.design = "studies"
  # log LOW HIGH, uniform LOW HIGH, choice VALUE VALUE ... or times LOW HIGH, a
  # log range around the value in base; any key of base. Those of mix apply to
  # the arms that mix.
  tune.space = ConfigDict(
    {
      "optimizer": {
        "learning_rate": "log 0.01 1"
        if dataset == "digits"
        else "times 0.1 10",
        "weight_decay": "log 0.0001 0.1",
      },
      "mix": {
        "alpha": "uniform 0.2 1.5",
        "probability": "uniform 0.3 1",
        "per_example": "choice true false",
      },
    }
  )
  if dataset == "digits":
    # A run of seconds needs few checkpoints to resume from.
    config.base.checkpoint.every_steps = config.base.steps
    tune.space.steps = "choice 200 400"
    tune.space.model = ConfigDict({"zero_init_residual": "choice true false"})
  return config
