"""How other libraries mix: a table of settings of `mix` by their names.

Each entry holds the values that the library itself has by default, so that a
result made with it can be repeated, or the cost of a difference measured.
Random numbers differ; `note` lists all other differences.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from mixaug_jax import hints

Values = Mapping[str, Any]

_EXAMPLE, _BATCH = {"per_example": True}, {"per_example": False}


@dataclasses.dataclass(frozen=True)
class Preset:
  """The mixing of one library.

  Attributes:
    source: repository, files and version that were read.
    partner: value of `mix.partner`.
    mixers: for each mixer, `per_example` and those of its settings that are not
      our defaults.
    name: value of `mix.name` where none is set, if the library has a default.
    label_smoothing: value of `loss.label_smoothing`; None: set elsewhere.
    chooses: whether the library can choose a mixer at random for each batch.
    even: whether the library refuses a batch of odd size.
    fault: what the library is known to get wrong and the preset repeats.
    note: what differs from the library, or varies in it.
  """

  source: str
  partner: str
  mixers: Mapping[str, Values]
  name: str | None = None
  label_smoothing: float | None = None
  chooses: bool = False
  even: bool = False
  fault: str = ""
  note: str = ""


PRESETS: dict[str, Preset] = {
  "timm": Preset(
    source="huggingface/pytorch-image-models 1.0.31, timm/data/mixup.py",
    partner="flip",
    mixers={"cutmix": _BATCH, "mixup": {**_BATCH, "alpha": 1.0}},
    name="cutmix,mixup",  # switch_prob=0.5.
    chooses=True,
    label_smoothing=0.1,
    even=True,
    fault="labels are smoothed unless switched off",
    note="Before 1.0.29, box=halves. Mode batch; elem is per_example.",
  ),
  "torchvision": Preset(
    source="pytorch/vision 0.29.1, torchvision/transforms/v2/_augment.py",
    partner="roll",
    mixers={
      "cutmix": {**_BATCH, "box": "halves"},
      "mixup": {**_BATCH, "alpha": 1.0},
    },
    name="cutmix,mixup",  # RandomChoice in references/classification.
    chooses=True,
    note="The published recipes have mixup.alpha=0.2 and label_smoothing=0.1.",
  ),
  "keras": Preset(
    source="keras-team/keras 3.15.1, layers CutMix and MixUp",
    partner="shuffle",
    mixers={
      "cutmix": {
        **_EXAMPLE,
        "distribution": "random_alpha",
        "box": "inside_real",
        "label": "unclipped",
      },
      "mixup": {**_EXAMPLE, "alpha": 0.2},
    },
    fault="CutMix draws alpha from U(0, factor), which favours 0 and 1; its "
    "label counts fractions of pixels",
    note="factor is alpha.",
  ),
  "keras-cv": Preset(
    source="keras-team/keras-cv 0.9.0, layers CutMix and MixUp, fill_utils.py",
    partner="shuffle",
    mixers={
      "cutmix": {**_EXAMPLE, "label": "unclipped"},
      "mixup": {**_EXAMPLE, "alpha": 0.2},
    },
    fault="the label of CutMix is that of the box before clipping",
  ),
  "kornia": Preset(
    source="kornia/kornia 0.9.0, augmentation/_2d/mix, random_generator/_2d",
    partner="shuffle",
    mixers={
      "cutmix": {**_EXAMPLE, "box": "inside"},
      "mixup": {**_EXAMPLE, "alpha": 1.0},  # lambda_val is uniform.
    },
    note="With use_correct_lambda=False, the default, lambda is the share of "
    "the partner; in the loss of the CutMix paper that is label=swapped.",
  ),
  "openmixup": Preset(
    source="Westlake-AI/openmixup 0.2.9, models/augments/{cutmix,mixup}.py",
    partner="shuffle",
    mixers={
      "cutmix": {**_BATCH, "box": "halves"},
      "mixup": {**_BATCH, "alpha": 1.0},
    },
    name="mixup",
    chooses=True,
    note="0.2.10 on GitHub redraws CutMix's partners until none is itself: "
    "partner=any.",
  ),
  "composer": Preset(
    source="mosaicml/composer 0.32.1, algorithms/cutmix, algorithms/mixup",
    partner="shuffle",
    mixers={
      "cutmix": {**_BATCH, "box": "halves"},
      "mixup": {**_BATCH, "alpha": 0.2, "distribution": "larger"},
    },
    note="interpolate_loss is the same for a loss that is linear in labels.",
  ),
  "fastai": Preset(
    source="fastai/fastai 2.8.12, callback/mixup.py",
    partner="shuffle",
    mixers={
      "cutmix": {**_BATCH, "box": "rounded_halves"},
      "mixup": {**_EXAMPLE, "alpha": 0.4, "distribution": "larger"},
    },
    note="It blends losses, which is the same for a loss that is linear in "
    "labels.",
  ),
  "clovaai": Preset(
    source="clovaai/CutMix-PyTorch 2d8eb68, train.py",
    partner="shuffle",
    mixers={"cutmix": {**_BATCH, "box": "halves"}},
    name="cutmix",
    note="The values are those of its ImageNet command; those of CIFAR have "
    "probability=0.5.",
  ),
  "course": Preset(
    source="the notebook on Stanford Dogs of the AIFFEL course, as copies of "
    "it show it; it has no version",
    partner="replacement",
    mixers={
      "cutmix": {**_EXAMPLE, "box": "independent"},
      "mixup": {**_EXAMPLE, "alpha": 1.0},
    },
    fault="below the centre of the box, half its width stands for half its "
    "height; the sides are drawn independently",
  ),
}

# Our defaults of the settings that a preset decides.
_SETTINGS: dict[str, dict[str, Any]] = {
  "cutmix": {
    **{"alpha": 1.0, "distribution": "beta"},
    **{"box": "centred", "label": "pixels"},
  },
  "mixup": {"alpha": 0.2, "distribution": "beta"},
}
_UNBOUNDED = {
  **{"min_lambda": 0.0, "max_lambda": 1.0},
  **{"min_aspect": 1.0, "max_aspect": 1.0},
}


def find(name: str) -> Preset:
  """Returns a preset; raises ValueError if there is none of this name."""
  if name not in PRESETS:
    near = hints.value(name, PRESETS)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(
      f"mix.preset must be one of {', '.join(PRESETS)}, got {name!r}{hint}"
    )
  return PRESETS[name]


def expand(name: str, mixers: str, batch_size: int) -> dict[str, Any]:
  """Returns the values of a preset by their config keys.

  Args:
    name: a name in PRESETS.
    mixers: `mix.name`; `none` takes the default of the library.
    batch_size: examples of the global batch, among which partners are drawn.

  Raises:
    ValueError: the preset does not describe such mixing, in one sentence.
  """
  preset = find(name)
  known = " or ".join(preset.mixers)
  if mixers == "none":
    if preset.name is None:
      raise ValueError(
        f"mix.preset={name} needs mix.name={known}, because {name} has no "
        "default mixer"
      )
    mixers = preset.name
  names = [each.strip() for each in mixers.split(",")]
  for each in names:
    if each not in preset.mixers:
      raise ValueError(
        f"mix.preset={name} has no mixer {each}; set mix.name={known}, or "
        "mix.preset=none"
      )
  if len(names) > 1 and not preset.chooses:
    raise ValueError(
      f"mix.preset={name} does not choose a mixer at random; set mix.name="
      f"{known}"
    )
  if preset.even and batch_size % 2:
    raise ValueError(
      f"mix.preset={name} needs an even batch_size, got {batch_size}"
    )
  values: dict[str, Any] = {
    "mix.name": mixers,
    "mix.weights": None,
    "mix.probability": 1.0,
    "mix.per_example": preset.mixers[names[0]]["per_example"],
    "mix.partner": preset.partner,
    "mix.group_size": batch_size,
    "mix.alpha": None,
    **{f"mix.{key}": value for key, value in _UNBOUNDED.items()},
  }
  if preset.label_smoothing is not None:
    values["loss.label_smoothing"] = preset.label_smoothing
  for each in names:
    own = {**_SETTINGS[each], **preset.mixers[each]}
    del own["per_example"]
    values |= {f"mix.{each}.{key}": value for key, value in own.items()}
    values |= {f"mix.{each}.{key}": None for key in _UNBOUNDED}
  if "mixup" in names:  # It has no aspect ratio.
    del values["mix.mixup.min_aspect"], values["mix.mixup.max_aspect"]
  return values


def follow(
  before: Values, after: Values, given: Collection[str], plain: Values
) -> dict[str, Any]:
  """Returns what else changes when keys of a config are set.

  A new preset replaces all values that it decides, but for those that are set
  with it. Values that are set later replace those of the preset. If
  `mix.name` or `batch_size` changes later, the values that came from the preset
  follow.

  Args:
    before: the config by dotted keys, before the keys were set.
    after: the same afterwards.
    given: the keys that were set.
    plain: the config without a recipe, whose values stand in for those of a
      preset that is taken back.

  Raises:
    ValueError: as in `expand`.
  """
  name = after["mix.preset"]
  if name is not None and after["mix.name"] == "none" and "mix.name" in given:
    raise ValueError(
      f"mix.preset={name} cannot go with mix.name=none; set mix.preset=none"
    )
  new, old = _values(after), _values(before)
  old.pop("mix.name", None)  # It stays, whatever the preset.
  is_new = name not in (None, before["mix.preset"])
  wanted = {
    key: new.get(key, plain[key])
    for key in (old.keys() | new.keys()) - set(given)
    if (is_new and key in new) or after[key] == old.get(key, plain[key])
  }
  if "mix.alpha" in given and after["mix.alpha"] is not None:
    # The alpha of a mixer would hide it.
    alphas = {"mix.cutmix.alpha", "mix.mixup.alpha"} & new.keys() - set(given)
    wanted |= dict.fromkeys(alphas)
  return {key: x for key, x in wanted.items() if after[key] != x}


def _values(config: Values) -> dict[str, Any]:
  """Returns the values of the preset of a config, if it has one."""
  if config["mix.preset"] is None:
    return {}
  return expand(config["mix.preset"], config["mix.name"], config["batch_size"])
