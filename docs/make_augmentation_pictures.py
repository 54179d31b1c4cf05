"""Draws the pictures of docs/augmentations.md.

    python docs/make_augmentation_pictures.py

Each strip shows the original photograph, or two for a mixer, and then draws of
one operation. The photographs are scikit-learn's sample images.
"""

import os
import pathlib
from collections.abc import Callable, Sequence

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn import datasets

from mixaug_jax import augment
from mixaug_jax.augment import policy_operations

OUTPUT = pathlib.Path(__file__).parent / "augmentations"
SIDE, GAP, DRAWS = 128, 4, 6
_SEED = 4


def photographs() -> jax.Array:
  """Returns a palace and a flower, uint8 `[2, SIDE, SIDE, 3]`."""
  images = []
  for name, left in (("china.jpg", 140), ("flower.jpg", 120)):
    image = Image.fromarray(datasets.load_sample_image(name))
    image = image.crop((left, 0, left + 427, 427))
    images.append(np.asarray(image.resize((SIDE, SIDE))))
  return jnp.asarray(np.stack(images))


def strip(name: str, images: Sequence[jax.Array]) -> None:
  """Writes images side by side; smaller ones are centred on white."""
  width = len(images) * (SIDE + GAP) - GAP
  picture = Image.new("RGB", (width, SIDE), "white")
  for number, image in enumerate(images):
    small = Image.fromarray(np.asarray(image))
    left = number * (SIDE + GAP) + (SIDE - small.width) // 2
    picture.paste(small, (left, (SIDE - small.height) // 2))
  picture.save(OUTPUT / f"{name}.jpg", quality=88)


def random(name: str, operation: Callable) -> None:
  """Writes the strip of an operation: one image and draws."""
  image = photographs()[1]
  key = jax.random.key(_SEED)
  strip(name, [image, *operation(key, jnp.stack([image] * DRAWS))])


def mixed(name: str, operation: Callable) -> None:
  """Writes the strip of a mixer: two images and draws for the first one."""
  images, labels = photographs(), jnp.eye(2)
  drawn = [
    operation(jax.random.key(seed), images, labels)[0][0]
    for seed in range(DRAWS - 1)
  ]
  strip(name, [*images, *drawn])


def main() -> None:
  OUTPUT.mkdir(exist_ok=True)
  for name, operation in RANDOM.items():
    random(name, operation)
  for name, operation in MIXERS.items():
    mixed(name, operation)
  images = photographs()
  faded = images[1] // 2 + 64
  toned = [
    augment.invert(images[1]),
    augment.solarize(images[1], 0.5),
    augment.posterize(images[1], 2),
    augment.equalize(images[1]),
    faded,
    augment.autocontrast(faded),
  ]
  strip("tone_operations", [images[1], *toned])
  strength = {"posterize": 3, "solarize": 128, "rotate": 0.5}
  strength |= {"shear_x": 0.3, "shear_y": 0.3}
  strength |= {"translate_x": 24, "translate_y": 24}
  operated = [
    policy_operations.apply_operation(
      images[1], jnp.int32(number), jnp.float32(strength.get(name, 0.8))
    )
    for number, name in enumerate(policy_operations.OPERATIONS)
  ]
  strip("policy_operations_1", operated[:7])
  strip("policy_operations_2", operated[7:])
  for names in augment.VIEWS:
    views = augment.make_views(names, 96)(images[1:])[:, 0]
    strip(f"views_{names}", [images[1], *views])


RANDOM = {
  "random_resized_crop": lambda k, x: augment.random_resized_crop(
    k, x, SIDE, 0.3
  ),
  "random_crop": lambda k, x: augment.random_crop(k, x, SIDE, 24),
  "random_flip_left_right": augment.random_flip_left_right,
  "random_flip_up_down": augment.random_flip_up_down,
  "random_rot90": augment.random_rot90,
  "random_rotation": lambda k, x: augment.random_rotation(k, x, 30),
  "random_affine": lambda k, x: augment.random_affine(
    k, x, 20, 0.1, 0.7, 1.3, 15
  ),
  "random_perspective": lambda k, x: augment.random_perspective(k, x, 0.6, 1),
  "random_elastic": lambda k, x: augment.random_elastic(k, x, 100, 5),
  "random_erasing": lambda k, x: augment.random_erasing(k, x, 1.0),
  "random_brightness": lambda k, x: augment.random_brightness(k, x, 0.4),
  "random_contrast": lambda k, x: augment.random_contrast(k, x, 0.3, 1.8),
  "random_hue": lambda k, x: augment.random_hue(k, x, 0.3),
  "random_saturation": lambda k, x: augment.random_saturation(k, x, 0, 2.5),
  "color_jitter": lambda k, x: augment.color_jitter(k, x, 0.5, 0.5, 0.5, 0.2),
  "random_gamma": lambda k, x: augment.random_gamma(k, x, 0.3, 3),
  "random_grayscale": lambda k, x: augment.random_grayscale(k, x, 0.5),
  "random_sharpness": lambda k, x: augment.random_sharpness(k, x, 0, 6),
  "random_gaussian_blur": lambda k, x: augment.random_gaussian_blur(k, x, 13),
  "random_gaussian_noise": lambda k, x: augment.random_gaussian_noise(
    k, x, 0.08
  ),
  "random_jpeg_quality": lambda k, x: augment.random_jpeg_quality(k, x, 2, 20),
  "trivial_augment": augment.trivial_augment,
  "rand_augment": augment.rand_augment,
  "auto_augment": augment.auto_augment,
  "augmix": augment.augmix,
}


def four(key: jax.Array, images: jax.Array, labels: jax.Array):
  """Returns mosaics of two images and of both upside down."""
  del labels
  images = jnp.concatenate([images, images[:, ::-1]])
  return augment.mosaic(key, images, jnp.eye(4))


def shown(images: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns saliency on a 7x7 grid, where training has the network's maps."""
  del labels
  maps = augment.fine_grained_saliency(images)
  return jax.image.resize(maps, (len(maps), 7, 7), "linear")


NETWORK = {"attention": shown, "class_map": shown}
# Gradients are more concentrated.
NETWORK["saliency"] = lambda *args: shown(*args) ** 4
MIXERS = {
  "mixup": lambda *args: augment.mixup(*args, 1.0),
  "cutmix": augment.cutmix,
  "cutmix_bounded": lambda *args: augment.cutmix(
    *args, min_lambda=0.5, max_lambda=0.8, min_aspect=0.5, max_aspect=2.0
  ),
  "cutout": augment.cutout,
  "resizemix": augment.resizemix,
  "fmix": augment.fmix,
  "gridmix": augment.gridmix,
  "patchmix": lambda *args: augment.patchmix(*args, cells=8),
  "jigsaw": augment.jigsaw,
  "mosaic": four,
  "saliencymix": augment.saliencymix,
  "attentive_cutmix": lambda key, *args: augment.attentive_cutmix(
    key, *args, network=NETWORK, share=jax.random.uniform(key, maxval=0.5)
  ),
  "snapmix": lambda *args: augment.snapmix(*args, network=NETWORK),
  "tokenmix": lambda *args: augment.tokenmix(*args, network=NETWORK, cells=14),
  "puzzlemix": lambda *args: augment.puzzlemix(*args, network=NETWORK),
  "patchup": lambda *args: augment.patchup(*args, block_size=21),
}

if __name__ == "__main__":
  main()
