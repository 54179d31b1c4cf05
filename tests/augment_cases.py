"""A call of every public function of mixaug_jax.augment, for test_library_use.

Each call takes a key, a batch of images `[B, 16, 16, 3]` and soft labels, and
returns an array or a tree of arrays.
"""

from mixaug_jax import augment as A

MIXERS = {
  "mixup": lambda k, x, y: A.mixup(k, x, y),
  "mixup, per example": lambda k, x, y: A.mixup(k, x, y, per_example=True),
  "cutmix": lambda k, x, y: A.cutmix(k, x, y, 0.5),
  "cutmix, per example": lambda k, x, y: A.cutmix(k, x, y, per_example=True),
  "cutmix, bounded": lambda k, x, y: A.cutmix(k, x, y, min_lambda=0.3),
  "cutmix, other class": lambda k, x, y: A.cutmix(
    k, x, y, partner="other_class"
  ),
  "cutout": lambda k, x, y: A.cutout(k, x, y),
  "resizemix": lambda k, x, y: A.resizemix(k, x, y),
  "fmix": lambda k, x, y: A.fmix(k, x, y),
  "mix": lambda k, x, y: A.mix(
    k, x, y, [A.CutMix(), A.Mixup(0.3), A.ResizeMix()], per_example=True
  ),
}
PHOTOMETRIC = {
  "adjust_brightness": lambda k, x, y: A.adjust_brightness(x, 0.2),
  "adjust_contrast": lambda k, x, y: A.adjust_contrast(x, 1.4),
  "adjust_hue": lambda k, x, y: A.adjust_hue(x, 0.2),
  "adjust_jpeg_quality": lambda k, x, y: A.adjust_jpeg_quality(x, 50),
  "adjust_saturation": lambda k, x, y: A.adjust_saturation(x, 1.5),
  "random_brightness": lambda k, x, y: A.random_brightness(k, x, 0.2),
  "random_contrast": lambda k, x, y: A.random_contrast(k, x, 0.5, 1.5),
  "random_grayscale": lambda k, x, y: A.random_grayscale(k, x, 0.5),
  "random_hue": lambda k, x, y: A.random_hue(k, x, 0.2),
  "random_jpeg_quality": lambda k, x, y: A.random_jpeg_quality(k, x, 10, 90),
  "random_saturation": lambda k, x, y: A.random_saturation(k, x, 0.5, 1.5),
  "rgb_to_grayscale": lambda k, x, y: A.rgb_to_grayscale(x),
}
# These keep any dtype.
GEOMETRIC = {
  "central_crop": lambda k, x, y: A.central_crop(x, 12),
  "crop_and_resize": lambda k, x, y: A.crop_and_resize(x, 2, 3, 9, 8, 12),
  "flip_left_right": lambda k, x, y: A.flip_left_right(x),
  "flip_up_down": lambda k, x, y: A.flip_up_down(x),
  "random_crop": lambda k, x, y: A.random_crop(k, x, 12, padding=2),
  "random_erasing": lambda k, x, y: A.random_erasing(k, x),
  "random_flip_left_right": lambda k, x, y: A.random_flip_left_right(k, x),
  "random_flip_up_down": lambda k, x, y: A.random_flip_up_down(k, x),
  "random_resized_crop": lambda k, x, y: A.random_resized_crop(k, x, 12),
  "random_rotation": lambda k, x, y: A.random_rotation(k, x, 20),
  "rotate": lambda k, x, y: A.rotate(x, 20),
}
POLICIES = {
  "augmix": lambda k, x, y: A.augmix(k, x, depth=2),
  "auto_augment": lambda k, x, y: A.auto_augment(k, x),
  "compose": lambda k, x, y: A.compose(
    A.random_flip_left_right, A.flip_up_down, A.rand_augment
  )(k, x),
  "rand_augment": lambda k, x, y: A.rand_augment(k, x),
  "random_apply": lambda k, x, y: A.random_apply(
    [A.random_flip_up_down, A.flip_left_right]
  )(k, x),
  "random_choice": lambda k, x, y: A.random_choice(
    [A.random_flip_up_down, A.random_grayscale], [1, 2]
  )(k, x),
  "trivial_augment": lambda k, x, y: A.trivial_augment(k, x),
}
CASES = MIXERS | PHOTOMETRIC | GEOMETRIC | POLICIES
# Not functions of images and keys alone, or tested elsewhere.
BUILDERS = {
  "devices_in_group",
  "draw_partners",
  "example_keys",
  "make_augment",
  "make_mixer",
  "make_views",
  "needs_margin",
  "partner_group_size",
  "step_keys",
}
