"""What does it cost to mix as another library does? docs/results.md.

    python -m mixaug_jax.compare --config=benchmarks/presets.py:cutmix \
        --workdir=runs/presets_cutmix
    python -m mixaug_jax.compare --config=benchmarks/presets.py:fashion_cutmix \
        --config.base.data.dir=FOLDER --workdir=runs/presets_fashion_cutmix

`:mixup` and `:fashion_mixup` are the other two. An arm is our mixer on top of
the basic augmentations with one difference that a preset of `mix.preset` makes,
so that each difference has its price. All arms have one recipe, each seed draws
its own images to train on, and differences are paired by seed. FOLDER is that
of benchmarks/fashion_mnist.py.

`:tuned_cutmix` and `:tuned_mixup` tune the arms alike on the digits: the
learning rate of each is the best of three on 399 validation images, with one
seed. Other seeds are tested.
"""

from ml_collections import ConfigDict

from benchmarks import fashion_mnist
from configs import compare

_CUTMIX = {
  "ours": {},
  "unclipped": {"cutmix": {"label": "unclipped"}},  # keras-cv
  "swapped": {"cutmix": {"label": "swapped"}},  # kornia, its default lambda
  "halves": {"cutmix": {"box": "halves"}},  # clovaai, torchvision
  "inside": {"cutmix": {"box": "inside"}},  # kornia
  "independent": {"cutmix": {"box": "independent"}},  # course
  "random_alpha": {"cutmix": {"distribution": "random_alpha"}},  # keras
  "replacement": {"partner": "replacement"},  # course
  "per_batch": {"per_example": False},  # timm, torchvision, clovaai, ...
}
_MIXUP = {
  "ours": {},
  "alpha_1": {"mixup": {"alpha": 1.0}},  # timm, torchvision, kornia, course
  "larger": {"mixup": {"distribution": "larger"}},  # fastai, composer
  "per_batch": {"per_example": False},  # timm, torchvision, composer, ...
}


def get_config(which: str = "cutmix") -> ConfigDict:
  """Returns `cutmix` or `mixup`, or `fashion_` or `tuned_` before one."""
  kind, _, mixer = which.rpartition("_")
  if kind not in ("", "fashion", "tuned") or mixer not in ("cutmix", "mixup"):
    raise ValueError(
      "the comparison must be cutmix or mixup, alone or after fashion_ or "
      "tuned_"
    )
  fashion = kind == "fashion"
  config = fashion_mnist.get_config("20") if fashion else compare.get_config()
  basic = config.arms.basic.to_dict()
  mixed = {"name": mixer, "probability": 1.0, "per_example": True}
  differences = _CUTMIX if mixer == "cutmix" else _MIXUP
  config.arms = ConfigDict(
    {
      name: {**basic, "mix": {**mixed, **difference}}
      for name, difference in differences.items()
    }
  )
  # Smoothed labels belong to the preset of timm.
  config.arms.smoothed = ConfigDict(
    {**basic, "mix": mixed, "loss": {"label_smoothing": 0.1}}
  )
  config.baseline = "ours"
  config.goal = 0.01
  config.views = None
  config.tune.trials = 0
  if kind == "tuned":
    config.base.data.validation_fraction = 0.5
    config.tune.trials = 3
    config.tune.design = "fixed"
    config.tune.space = ConfigDict(
      {"optimizer": {"learning_rate": "times 0.3 3"}}
    )
  config.seeds = 4 if fashion else 6
  config.base.steps = 200
  config.base.checkpoint.every_steps = 200
  return config
