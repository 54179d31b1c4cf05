"""Image augmentation as pure functions of a key, to be jitted and vmapped.

    from mixaug_jax import augment

    images, labels = augment.cutmix(key, images, labels, alpha=1.0)
    images = augment.random_brightness(key, images, max_delta=0.2)

This package depends only on JAX and NumPy.
"""

from mixaug_jax.augment.augmix_policy import augmix
from mixaug_jax.augment.autoaugment import auto_augment
from mixaug_jax.augment.combinators import compose, random_apply, random_choice
from mixaug_jax.augment.geometric import (
  central_crop,
  crop_and_resize,
  flip_left_right,
  flip_up_down,
  random_crop,
  random_erasing,
  random_flip_left_right,
  random_flip_up_down,
  random_resized_crop,
  random_rotation,
  rotate,
)
from mixaug_jax.augment.jpeg import adjust_jpeg_quality, random_jpeg_quality
from mixaug_jax.augment.keys import StepKeys, example_keys, step_keys
from mixaug_jax.augment.mixers import (
  MIXERS,
  CutMix,
  Cutout,
  FMix,
  Mixup,
  ResizeMix,
  cutmix,
  cutout,
  fmix,
  mixup,
  resizemix,
)
from mixaug_jax.augment.mixing import Drawn, Mixer, mix
from mixaug_jax.augment.mixture import make_mixer
from mixaug_jax.augment.partners import (
  Shard,
  devices_in_group,
  draw_partners,
  partner_group_size,
)
from mixaug_jax.augment.photometric import (
  adjust_brightness,
  adjust_contrast,
  adjust_hue,
  adjust_saturation,
  random_brightness,
  random_contrast,
  random_grayscale,
  random_hue,
  random_saturation,
  rgb_to_grayscale,
)
from mixaug_jax.augment.pipeline import make_augment, needs_margin
from mixaug_jax.augment.policies import rand_augment, trivial_augment
from mixaug_jax.augment.views import VIEWS, make_views

__all__ = [
  "MIXERS",
  "VIEWS",
  "CutMix",
  "Cutout",
  "Drawn",
  "FMix",
  "Mixer",
  "Mixup",
  "ResizeMix",
  "Shard",
  "StepKeys",
  "adjust_brightness",
  "adjust_contrast",
  "adjust_hue",
  "adjust_jpeg_quality",
  "adjust_saturation",
  "augmix",
  "auto_augment",
  "central_crop",
  "compose",
  "crop_and_resize",
  "cutmix",
  "cutout",
  "devices_in_group",
  "draw_partners",
  "example_keys",
  "flip_left_right",
  "flip_up_down",
  "fmix",
  "make_augment",
  "make_mixer",
  "make_views",
  "mix",
  "mixup",
  "needs_margin",
  "partner_group_size",
  "rand_augment",
  "random_apply",
  "random_brightness",
  "random_choice",
  "random_contrast",
  "random_crop",
  "random_erasing",
  "random_flip_left_right",
  "random_flip_up_down",
  "random_grayscale",
  "random_hue",
  "random_jpeg_quality",
  "random_resized_crop",
  "random_rotation",
  "random_saturation",
  "resizemix",
  "rgb_to_grayscale",
  "rotate",
  "step_keys",
  "trivial_augment",
]
