"""Image augmentation as pure functions of a key, to be jitted and vmapped.

    from mixaug_jax import augment

    images, labels = augment.cutmix(key, images, labels, alpha=1.0)
    images = augment.random_brightness(key, images, max_delta=0.2)

This package depends only on JAX and NumPy.
"""

from mixaug_jax.augment.attentive import (
  AttentiveCutMix,
  SnapMix,
  TokenMix,
  attentive_cutmix,
  snapmix,
  tokenmix,
)
from mixaug_jax.augment.augmix_policy import augmix
from mixaug_jax.augment.autoaugment import auto_augment
from mixaug_jax.augment.combinators import compose, random_apply, random_choice
from mixaug_jax.augment.crops import (
  center_crop,
  central_crop,
  five_crops,
  pad,
  random_crop,
  ten_crops,
)
from mixaug_jax.augment.erasing import random_erasing
from mixaug_jax.augment.filters import (
  adjust_sharpness,
  gaussian_blur,
  random_gaussian_blur,
  random_gaussian_noise,
  random_sharpness,
)
from mixaug_jax.augment.flips import (
  flip_left_right,
  flip_up_down,
  random_flip_left_right,
  random_flip_up_down,
  random_rot90,
  rot90,
)
from mixaug_jax.augment.grids import (
  GridMix,
  Jigsaw,
  Mosaic,
  PatchMix,
  gridmix,
  jigsaw,
  mosaic,
  patchmix,
)
from mixaug_jax.augment.jitter import color_jitter
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
from mixaug_jax.augment.mixing import Drawn, Mixer, Pair, Weights, mix
from mixaug_jax.augment.mixture import (
  check_size,
  keeps_mass,
  looks_at_network,
  make_mixer,
  with_class_counts,
)
from mixaug_jax.augment.partners import (
  Shard,
  devices_in_group,
  draw_partners,
  partner_group_size,
)
from mixaug_jax.augment.photometric import (
  adjust_brightness,
  adjust_contrast,
  adjust_gamma,
  adjust_hue,
  adjust_saturation,
  random_brightness,
  random_contrast,
  random_gamma,
  random_grayscale,
  random_hue,
  random_saturation,
  rgb_to_grayscale,
)
from mixaug_jax.augment.pipeline import make_augment, needs_margin
from mixaug_jax.augment.policies import rand_augment, trivial_augment
from mixaug_jax.augment.puzzle import PuzzleMix, puzzlemix
from mixaug_jax.augment.remix import Remix
from mixaug_jax.augment.resizing import (
  random_resized_crop,
  resize,
  resized_crop,
)
from mixaug_jax.augment.saliency import (
  SaliencyMix,
  fine_grained_saliency,
  saliencymix,
)
from mixaug_jax.augment.stage_mixers import (
  ManifoldMixup,
  PatchUp,
  between_stages,
  manifold_mixup,
  patchup,
)
from mixaug_jax.augment.tone import (
  autocontrast,
  equalize,
  invert,
  posterize,
  random_autocontrast,
  random_equalize,
  random_invert,
  random_posterize,
  random_solarize,
  solarize,
)
from mixaug_jax.augment.views import VIEWS, make_views
from mixaug_jax.augment.warp_affine import (
  affine,
  random_affine,
  random_rotation,
  rotate,
)
from mixaug_jax.augment.warp_elastic import elastic, random_elastic
from mixaug_jax.augment.warp_perspective import perspective, random_perspective

__all__ = [
  "MIXERS",
  "VIEWS",
  "AttentiveCutMix",
  "CutMix",
  "Cutout",
  "Drawn",
  "FMix",
  "GridMix",
  "Jigsaw",
  "ManifoldMixup",
  "Mixer",
  "Mixup",
  "Mosaic",
  "Pair",
  "PatchMix",
  "PatchUp",
  "PuzzleMix",
  "Remix",
  "ResizeMix",
  "SaliencyMix",
  "Shard",
  "SnapMix",
  "StepKeys",
  "TokenMix",
  "Weights",
  "adjust_brightness",
  "adjust_contrast",
  "adjust_gamma",
  "adjust_hue",
  "adjust_jpeg_quality",
  "adjust_saturation",
  "adjust_sharpness",
  "affine",
  "attentive_cutmix",
  "augmix",
  "auto_augment",
  "autocontrast",
  "between_stages",
  "center_crop",
  "central_crop",
  "check_size",
  "color_jitter",
  "compose",
  "cutmix",
  "cutout",
  "devices_in_group",
  "draw_partners",
  "elastic",
  "equalize",
  "example_keys",
  "fine_grained_saliency",
  "five_crops",
  "flip_left_right",
  "flip_up_down",
  "fmix",
  "gaussian_blur",
  "gridmix",
  "invert",
  "jigsaw",
  "keeps_mass",
  "looks_at_network",
  "make_augment",
  "make_mixer",
  "make_views",
  "manifold_mixup",
  "mix",
  "mixup",
  "mosaic",
  "needs_margin",
  "pad",
  "partner_group_size",
  "patchmix",
  "patchup",
  "perspective",
  "posterize",
  "puzzlemix",
  "rand_augment",
  "random_affine",
  "random_apply",
  "random_autocontrast",
  "random_brightness",
  "random_choice",
  "random_contrast",
  "random_crop",
  "random_elastic",
  "random_equalize",
  "random_erasing",
  "random_flip_left_right",
  "random_flip_up_down",
  "random_gamma",
  "random_gaussian_blur",
  "random_gaussian_noise",
  "random_grayscale",
  "random_hue",
  "random_invert",
  "random_jpeg_quality",
  "random_perspective",
  "random_posterize",
  "random_resized_crop",
  "random_rot90",
  "random_rotation",
  "random_saturation",
  "random_sharpness",
  "random_solarize",
  "resize",
  "resized_crop",
  "resizemix",
  "rgb_to_grayscale",
  "rot90",
  "rotate",
  "saliencymix",
  "snapmix",
  "solarize",
  "step_keys",
  "ten_crops",
  "tokenmix",
  "trivial_augment",
  "with_class_counts",
]
