"""A call of every public function of mixaug_jax.augment, for test_library_use.

Each call takes a key, a batch of images `[B, 16, 16, 3]` and soft labels, and
returns an array or a tree of arrays.
"""

import jax.numpy as jnp

from mixaug_jax import augment as A

# Maps that a network might show, of integers so that they have no ties that
# rounding decides.
NETWORK = {
  name: lambda x, y: (255 * x[:, ::4, ::4].astype(jnp.float32)).mean(-1)
  for name in ("attention", "class_map", "saliency")
}
MIXERS = {
  "mixup": lambda k, x, y: A.mixup(k, x, y),
  "mixup, per example": lambda k, x, y: A.mixup(k, x, y, per_example=True),
  "cutmix": lambda k, x, y: A.cutmix(k, x, y, 0.5),
  "cutmix, per example": lambda k, x, y: A.cutmix(k, x, y, per_example=True),
  "cutmix, bounded": lambda k, x, y: A.cutmix(k, x, y, min_lambda=0.3),
  "cutmix, other class": lambda k, x, y: A.cutmix(
    k, x, y, partner="other_class"
  ),
  "cutmix, as keras": lambda k, x, y: A.cutmix(
    k,
    x,
    y,
    distribution="random_alpha",
    box="inside_real",
    label="unclipped",
    partner="shuffle",
    per_example=True,
  ),
  "cutmix, as the course": lambda k, x, y: A.cutmix(
    k, x, y, box="independent", partner="replacement", per_example=True
  ),
  "cutmix, halves": lambda k, x, y: A.cutmix(
    k, x, y, box="halves", label="swapped", partner="roll"
  ),
  "mixup, larger": lambda k, x, y: A.mixup(
    k, x, y, distribution="larger", partner="flip"
  ),
  "cutout": lambda k, x, y: A.cutout(k, x, y),
  "resizemix": lambda k, x, y: A.resizemix(k, x, y),
  "fmix": lambda k, x, y: A.fmix(k, x, y),
  "gridmix": lambda k, x, y: A.gridmix(k, x, y),
  "patchmix": lambda k, x, y: A.patchmix(k, x, y, 0.5, per_example=True),
  "jigsaw": lambda k, x, y: A.jigsaw(k, x, y),
  "mosaic": lambda k, x, y: A.mosaic(k, x, y),
  "saliencymix": lambda k, x, y: A.saliencymix(k, x, y, 0.5),
  "attentive_cutmix": lambda k, x, y: A.attentive_cutmix(
    k, x, y, network=NETWORK
  ),
  "snapmix": lambda k, x, y: A.snapmix(k, x, y, network=NETWORK),
  "tokenmix": lambda k, x, y: A.tokenmix(k, x, y, network=NETWORK),
  "puzzlemix": lambda k, x, y: A.puzzlemix(k, x, y, network=NETWORK, cells=4),
  "manifold_mixup": lambda k, x, y: A.manifold_mixup(k, x, y),
  "patchup": lambda k, x, y: A.patchup(k, x, y, block_size=3),
  "mix, of all kinds": lambda k, x, y: A.mix(
    k,
    x,
    y,
    [A.CutMix(), A.Mosaic(), A.SaliencyMix(), A.SnapMix(), A.Jigsaw()],
    network=NETWORK,
  ),
  "mix": lambda k, x, y: A.mix(
    k, x, y, [A.CutMix(), A.Mixup(0.3), A.ResizeMix()], per_example=True
  ),
}
PHOTOMETRIC = {
  "adjust_brightness": lambda k, x, y: A.adjust_brightness(x, 0.2),
  "adjust_contrast": lambda k, x, y: A.adjust_contrast(x, 1.4),
  "adjust_gamma": lambda k, x, y: A.adjust_gamma(x, 1.4),
  "adjust_hue": lambda k, x, y: A.adjust_hue(x, 0.2),
  "adjust_jpeg_quality": lambda k, x, y: A.adjust_jpeg_quality(x, 50),
  "adjust_saturation": lambda k, x, y: A.adjust_saturation(x, 1.5),
  "adjust_sharpness": lambda k, x, y: A.adjust_sharpness(x, 1.5),
  "autocontrast": lambda k, x, y: A.autocontrast(x),
  "color_jitter": lambda k, x, y: A.color_jitter(k, x, 0.4, 0.4, 0.4, 0.1),
  "equalize": lambda k, x, y: A.equalize(x),
  "gaussian_blur": lambda k, x, y: A.gaussian_blur(x, 5, 1.2),
  "invert": lambda k, x, y: A.invert(x),
  "posterize": lambda k, x, y: A.posterize(x, 3),
  "random_autocontrast": lambda k, x, y: A.random_autocontrast(k, x),
  "random_brightness": lambda k, x, y: A.random_brightness(k, x, 0.2),
  "random_contrast": lambda k, x, y: A.random_contrast(k, x, 0.5, 1.5),
  "random_equalize": lambda k, x, y: A.random_equalize(k, x),
  "random_gamma": lambda k, x, y: A.random_gamma(k, x, 0.5, 1.5),
  "random_gaussian_blur": lambda k, x, y: A.random_gaussian_blur(k, x, 5),
  "random_gaussian_noise": lambda k, x, y: A.random_gaussian_noise(k, x),
  "random_grayscale": lambda k, x, y: A.random_grayscale(k, x, 0.5),
  "random_hue": lambda k, x, y: A.random_hue(k, x, 0.2),
  "random_invert": lambda k, x, y: A.random_invert(k, x),
  "random_jpeg_quality": lambda k, x, y: A.random_jpeg_quality(k, x, 10, 90),
  "random_posterize": lambda k, x, y: A.random_posterize(k, x, 3),
  "random_saturation": lambda k, x, y: A.random_saturation(k, x, 0.5, 1.5),
  "random_sharpness": lambda k, x, y: A.random_sharpness(k, x, 0.5, 1.5),
  "random_solarize": lambda k, x, y: A.random_solarize(k, x),
  "rgb_to_grayscale": lambda k, x, y: A.rgb_to_grayscale(x),
  "solarize": lambda k, x, y: A.solarize(x, 0.5),
}
# These keep any dtype.
GEOMETRIC = {
  "affine": lambda k, x, y: A.affine(x, 20, (2, -1), 1.2, (5, 10)),
  "affine, per example": lambda k, x, y: A.affine(
    x, jnp.arange(4), jnp.ones((4, 2)), jnp.ones(4), jnp.ones((4, 2))
  ),
  "center_crop": lambda k, x, y: A.center_crop(x, 12),
  "central_crop": lambda k, x, y: A.central_crop(x, 0.7),
  "elastic": lambda k, x, y: A.elastic(
    x, jnp.full((*x.shape[1:3], 2), 0.3, jnp.float32)
  ),
  "five_crops": lambda k, x, y: A.five_crops(x, 12),
  "flip_left_right": lambda k, x, y: A.flip_left_right(x),
  "flip_up_down": lambda k, x, y: A.flip_up_down(x),
  "pad": lambda k, x, y: A.pad(x, (1, 2), fill=0.5),
  "perspective": lambda k, x, y: A.perspective(
    x, [(0, 0), (16, 0), (16, 16), (0, 16)], [(1, 2), (15, 0), (12, 16), (3, 9)]
  ),
  "random_affine": lambda k, x, y: A.random_affine(
    k, x, 20, 0.2, 0.8, 1.2, 10.0
  ),
  "random_crop": lambda k, x, y: A.random_crop(k, x, 12, 2, "constant"),
  "random_crop, reflect": lambda k, x, y: A.random_crop(k, x, 12, padding=2),
  "random_elastic": lambda k, x, y: A.random_elastic(k, x, 20, 2),
  "random_erasing": lambda k, x, y: A.random_erasing(k, x),
  "random_erasing, grey": lambda k, x, y: A.random_erasing(k, x, fill=0.5),
  "random_flip_left_right": lambda k, x, y: A.random_flip_left_right(k, x),
  "random_flip_up_down": lambda k, x, y: A.random_flip_up_down(k, x),
  "random_perspective": lambda k, x, y: A.random_perspective(k, x),
  "random_resized_crop": lambda k, x, y: A.random_resized_crop(k, x, 12),
  "random_rot90": lambda k, x, y: A.random_rot90(k, x),
  "random_rotation": lambda k, x, y: A.random_rotation(k, x, 20),
  "resize": lambda k, x, y: A.resize(x, (12, 20)),
  "resized_crop": lambda k, x, y: A.resized_crop(x, 2, 3, 9, 8, 12),
  "rot90": lambda k, x, y: A.rot90(x, 2),
  "rotate": lambda k, x, y: A.rotate(x, 20),
  "ten_crops": lambda k, x, y: A.ten_crops(x, 12),
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
  "between_stages",
  "check_size",
  "devices_in_group",
  "draw_partners",
  "example_keys",
  "fine_grained_saliency",
  "keeps_mass",
  "looks_at_network",
  "make_augment",
  "make_mixer",
  "make_views",
  "needs_margin",
  "partner_group_size",
  "step_keys",
  "with_class_counts",
}
