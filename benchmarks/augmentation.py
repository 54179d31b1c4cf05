"""How fast is augmentation, beside timm, Keras and tf.image?

    pip install --no-deps timm     # Measured only; torch must be there.
    python benchmarks/augmentation.py [--repeats=20] [--policies]

One batch of uint8 images in; out comes a float32 batch, cropped at random out
of 4 reflected pixels, mirrored at random, mixed by CutMix or Mixup (by a
coin), normalised by ImageNet's mean, and its soft labels. Every system does
that on the CPU with all its threads and is timed after a warm-up, in turns, so
that a busy moment hits all. The yardstick of mixing alone is the bandwidth of
`numpy.copyto` between two arrays of the batch's size, read and written.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from mixaug_jax import augment

PADDING, CLASSES = 4, 100
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SIZES = ((64, 224), (256, 32))
IN_PROGRAM = 20  # Mixings a call.


def ours(images: np.ndarray, classes: np.ndarray) -> Callable[[], None]:
  config = default.get_config()
  config.augment.random_crop.padding = PADDING
  config.augment.random_flip_left_right.probability = 0.5
  config.mix.name = "cutmix,mixup"
  config.mix.per_example, config.mix.probability = False, 1.0
  pipeline = augment.make_augment(config.augment, images.shape[1])
  mixer = augment.make_mixer(config.mix)

  @jax.jit
  def run(step, images, classes):
    key = jax.random.key(0)
    keys = augment.example_keys(key, step, jnp.arange(len(images)))
    floats = pipeline(keys, images)
    floats, labels = mixer(
      jax.random.fold_in(key, step), floats, jax.nn.one_hot(classes, CLASSES)
    )
    return (floats - MEAN) / STD, labels

  images, classes = jnp.asarray(images), jnp.asarray(classes)
  steps = iter(range(10**9))
  return lambda: jax.block_until_ready(run(next(steps), images, classes))


def timm(images: np.ndarray, classes: np.ndarray) -> Callable[[], None]:
  """timm's Mixup class; crop and flip by torch, as timm leaves them to PIL."""
  import torch

  # By its file: the package wants torchvision, this file does not.
  package = importlib.util.find_spec("timm")
  if package is None:
    raise ImportError("timm is missing")
  path = os.path.join(package.submodule_search_locations[0], "data/mixup.py")
  spec = importlib.util.spec_from_file_location("timm_mixup", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  mixup = module.Mixup(
    mixup_alpha=0.2, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=CLASSES
  )
  module.one_hot.__defaults__ = (1.0, 0.0)
  batch = torch.from_numpy(images).permute(0, 3, 1, 2)
  batch = batch.contiguous(memory_format=torch.channels_last)
  classes = torch.from_numpy(classes).long()
  mean = torch.tensor(MEAN).view(1, 3, 1, 1)
  std = torch.tensor(STD).view(1, 3, 1, 1)
  count, size = len(images), images.shape[1]
  pad = torch.nn.functional.pad

  def run():
    floats = batch.float().div_(255)
    padded = pad(floats, (PADDING,) * 4, mode="reflect")
    out = torch.empty_like(floats)
    tops, lefts = torch.randint(0, 2 * PADDING + 1, (2, count)).tolist()
    coins = (torch.rand(count) < 0.5).tolist()
    for i, (top, left, coin) in enumerate(zip(tops, lefts, coins, strict=True)):
      crop = padded[i, :, top : top + size, left : left + size]
      out[i] = crop.flip(-1) if coin else crop
    out, labels = mixup(out, classes)
    return out.sub_(mean).div_(std), labels

  return run


def keras(images: np.ndarray, classes: np.ndarray) -> Callable[[], None]:
  """keras.layers; its random crop has no padding, so a translation does it."""
  import keras as k
  import tensorflow as tf

  shift = PADDING / images.shape[1]
  crop = k.layers.RandomTranslation(shift, shift, interpolation="nearest")
  flip = k.layers.RandomFlip("horizontal")
  mixers = [
    k.layers.CutMix(1.0),
    k.layers.MixUp(0.2),
  ]

  def pipeline(mixer):
    @tf.function(jit_compile=False)
    def run(images, classes):
      floats = tf.cast(images, tf.float32) / 255
      floats = flip(crop(floats, training=True), training=True)
      labels = tf.one_hot(classes, CLASSES)
      mixed = mixer({"images": floats, "labels": labels}, training=True)
      return (mixed["images"] - MEAN) / STD, mixed["labels"]

    return run

  runs = [pipeline(mixer) for mixer in mixers]
  images, classes = tf.constant(images), tf.constant(classes)
  generator = np.random.default_rng(0)

  def run():
    out, _ = runs[generator.integers(2)](images, classes)
    return float(out[0, 0, 0, 0])

  return run


def tf_image(images: np.ndarray, classes: np.ndarray) -> Callable[[], None]:
  """tf.image an example, mixing a batch, in tf.data with all its threads."""
  import tensorflow as tf

  size = images.shape[1]
  around = [[PADDING] * 2, [PADDING] * 2, [0, 0]]

  def example(image, label):
    image = tf.cast(image, tf.float32) / 255
    image = tf.pad(image, around, "REFLECT")
    image = tf.image.random_crop(image, (size, size, 3))
    return tf.image.random_flip_left_right(image), tf.one_hot(label, CLASSES)

  def beta(alpha):
    first, second = tf.unstack(tf.random.gamma([2], alpha))
    return first / (first + second)

  def blend(images, labels):
    lam = beta(0.2)
    return (
      lam * images + (1 - lam) * images[::-1],
      lam * labels + (1 - lam) * labels[::-1],
    )

  def paste(images, labels):
    side = tf.sqrt(1 - beta(1.0)) * size / 2
    centre = tf.random.uniform([2], 0, size)
    grid = tf.range(size, dtype=tf.float32)
    rows = tf.abs(grid - centre[0]) < side
    columns = tf.abs(grid - centre[1]) < side
    box = (rows[:, None] & columns)[..., None]
    lam = 1 - tf.reduce_mean(tf.cast(box, tf.float32))
    return (
      tf.where(box, images[::-1], images),
      lam * labels + (1 - lam) * labels[::-1],
    )

  def batch(images, labels):
    coin = tf.random.uniform([]) < 0.5
    images, labels = tf.cond(
      coin, lambda: blend(images, labels), lambda: paste(images, labels)
    )
    return (images - MEAN) / STD, labels

  stream = tf.data.Dataset.from_tensor_slices((images, classes)).repeat()
  stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE)
  stream = stream.batch(len(images), drop_remainder=True)
  batches = iter(stream.map(batch).prefetch(1))
  return lambda: next(batches)


def mixing(name: str, images: np.ndarray, per_example: bool):
  """A mixer alone, as in a train step: inside of a compiled program.

  There, memory is at hand. A call that only mixes spends most of its time on
  the page faults of its fresh output.
  """
  images = jnp.asarray(images, jnp.float32) / 255
  labels = jax.nn.one_hot(jnp.arange(len(images)) % CLASSES, CLASSES)
  function = getattr(augment, name)

  @jax.jit
  def run(images, labels):
    def again(step, _):  # Each into the memory of the one before.
      key = jax.random.key(step)
      return function(key, images, labels, per_example=per_example)

    return jax.lax.fori_loop(0, IN_PROGRAM, again, (images, labels))

  return lambda: jax.block_until_ready(run(images, labels))


def copying(images: np.ndarray):
  source = np.asarray(images, np.float32)
  target = source.copy()

  def run():
    for _ in range(IN_PROGRAM):
      np.copyto(target, source)

  return run


def policy(name: str, images: np.ndarray):
  function = jax.jit(getattr(augment, name))
  images = jnp.asarray(images)
  steps = iter(range(10**9))
  return lambda: jax.block_until_ready(
    function(jax.random.key(next(steps)), images)
  )


def timed(runs: dict[str, Callable], repeats: int) -> dict[str, float]:
  """Seconds a call, the best of five blocks each, the systems in turns.

  Blocks, because some systems work ahead between calls.
  """
  seconds = {name: [] for name in runs}
  for _ in range(5):
    for name, run in runs.items():
      for _ in range(3):
        run()
      begin = time.perf_counter()
      for _ in range(repeats):
        run()
      seconds[name].append((time.perf_counter() - begin) / repeats)
  return {name: min(times) for name, times in seconds.items()}


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--repeats", type=int, default=20)
  flags.add_argument("--policies", action="store_true")
  arguments = flags.parse_args()
  generator = np.random.default_rng(0)
  for count, size in SIZES:
    shape = (count, size, size, 3)
    images = generator.integers(0, 256, shape, np.uint8)
    classes = generator.integers(0, CLASSES, count).astype(np.int32)
    print(f"\n{count} images of {size}x{size}, {os.cpu_count()} CPU threads")
    runs = {}
    for system in (ours, timm, keras, tf_image):
      try:
        runs[system.__name__] = system(images, classes)
      except ImportError as error:
        print(f"  {system.__name__}: left out, {error}", file=sys.stderr)
    seconds = timed(runs, arguments.repeats)
    print("  whole pipeline            ms   images/s   ours is faster by")
    for name, time_taken in seconds.items():
      print(
        f"  {name:18}{1e3 * time_taken:10.1f}{count / time_taken:11,.0f}"
        f"{time_taken / seconds['ours']:9.2f}"
      )
    runs = {"copy": copying(images)}
    for name in ("mixup", "cutmix", "cutout", "resizemix", "fmix"):
      for per_example in (False, True):
        label = f"{name}, {'example' if per_example else 'batch'}"
        runs[label] = mixing(name, images, per_example)
    seconds = timed(runs, max(1, arguments.repeats // IN_PROGRAM))
    array = 4 * images.size / 1e9
    bandwidth = 2 * array * IN_PROGRAM / seconds.pop("copy")
    print(f"  copy: {bandwidth:.1f} GB/s read and written")
    print("  mixing alone              ms     GB/s   of the copy's")
    for name, time_taken in seconds.items():
      # Two arrays are read and one is written.
      rate = 3 * array * IN_PROGRAM / time_taken
      print(
        f"  {name:18}{1e3 * time_taken / IN_PROGRAM:10.2f}{rate:9.1f}"
        f"{rate / bandwidth:10.2f}"
      )
    if arguments.policies:
      names = ("trivial_augment", "rand_augment")
      runs = {name: policy(name, images) for name in names}
      for name, time_taken in timed(runs, arguments.repeats).items():
        print(
          f"  {name:18}{1e3 * time_taken:10.1f}{count / time_taken:11,.0f}"
          " images/s"
        )


if __name__ == "__main__":
  main()
