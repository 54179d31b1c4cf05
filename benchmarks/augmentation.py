"""How fast is augmentation, beside timm, Keras and tf.image?

    pip install --no-deps timm     # Measured only; needs torch.
    python -m benchmarks.augmentation [--rounds=3] [--repeats=20] [--policies]

Every system gets a batch of uint8 images. It returns a float32 batch, cropped
at random out of 4 reflected pixels, mirrored at random, mixed by CutMix or
Mixup (by a coin), normalised by ImageNet's mean, and its soft labels. All run
on the CPU with all its threads, are timed after a warm-up, and alternate in one
process; a figure is the median over several processes.
Mixing alone is measured against the bandwidth of `numpy.copyto` between two
arrays of the batch's size, read and written.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import harness, peers

CLASSES = 100
SIZES = ((64, 224), (256, 32))
IN_PROGRAM = 20  # Mixings a call.
BLOCKS = 5
PACKAGES = ("torch", "timm", "keras", "tensorflow-cpu")

Run = Callable[[], Any]


def ours(images: np.ndarray, classes: np.ndarray, num_classes: int) -> Run:
  import jax
  import jax.numpy as jnp

  from mixaug_jax import augment

  overrides = {
    "augment.random_crop.padding": harness.PADDING,
    "augment.random_flip_left_right.probability": 0.5,
    "mix.name": "cutmix,mixup",
    "mix.per_example": False,
    "mix.probability": 1.0,
  }
  config = harness.config("baseline.py", overrides)
  pipeline = augment.make_augment(config.augment, images.shape[1])
  mixer = augment.make_mixer(config.mix)

  def run(step, images, classes):
    key = jax.random.key(0)
    keys = augment.example_keys(key, step, jnp.arange(len(images)))
    labels = jax.nn.one_hot(classes, num_classes)
    mixing_key = jax.random.fold_in(key, step)
    floats, labels = mixer(mixing_key, pipeline(keys, images), labels)
    return (floats - harness.MEAN) / harness.STD, labels

  return compiled(run, images, classes)


SYSTEMS = {
  "ours": ours,
  "timm": peers.timm_augment,
  "keras": peers.keras_augment,
  "tf_image": peers.tf_image_augment,
}


def mixing(name: str, images: np.ndarray, per_example: bool) -> Run:
  """Returns a mixer alone, inside a compiled program as in a train step.

  There, memory is at hand. A call that only mixes spends most of its time on
  the page faults of its fresh output.
  """
  import jax

  from mixaug_jax import augment

  def run(_, images, labels):
    def mix(step, mixed):
      del mixed  # Its memory is reused.
      key = jax.random.key(step)
      function = getattr(augment, name)
      return function(key, images, labels, per_example=per_example)

    return jax.lax.fori_loop(0, IN_PROGRAM, mix, (images, labels))

  labels = np.eye(CLASSES, dtype=np.float32)[np.arange(len(images)) % CLASSES]
  return compiled(run, np.asarray(images, np.float32) / 255, labels)


def policy(name: str, images: np.ndarray) -> Run:
  import jax

  from mixaug_jax import augment

  function = getattr(augment, name)
  return compiled(lambda step, x: function(jax.random.key(step), x), images)


def compiled(function: Callable[..., Any], *arrays: np.ndarray) -> Run:
  """Returns calls of `function(step, *arrays)`, compiled, with a new step."""
  import jax

  function, arrays = jax.jit(function), jax.device_put(arrays)
  steps = itertools.count()
  return lambda: jax.block_until_ready(function(next(steps), *arrays))


def copying(images: np.ndarray) -> Run:
  source = np.asarray(images, np.float32)
  target = source.copy()
  return lambda: [np.copyto(target, source) for _ in range(IN_PROGRAM)]


def timed(runs: Mapping[str, Run], repeats: int) -> dict[str, float]:
  """Returns the seconds of a call, the best of alternating blocks of calls.

  Blocks, because some systems work ahead between calls.
  """

  def block(name: str) -> float:
    harness.seconds(runs[name], 3)
    return harness.seconds(runs[name], repeats)

  taken = harness.in_turns(BLOCKS, runs, block)
  return {name: min(times) for name, times in taken.items()}


def pipelines(
  count: int, size: int, systems: Sequence[str], repeats: int
) -> dict[str, float]:
  """Returns the seconds of a whole batch by each system."""
  images = harness.random_images(count, size, CLASSES)
  runs = {name: SYSTEMS[name](*images, CLASSES) for name in systems}
  return timed(runs, repeats)


def mixings(count: int, size: int, repeats: int) -> dict[str, float]:
  """Returns the seconds of `copying` and of each mixer alone."""
  images, _ = harness.random_images(count, size, CLASSES)
  runs = {"copy": copying(images)}
  for name in ("mixup", "cutmix", "cutout", "resizemix", "fmix"):
    runs[f"{name}, batch"] = mixing(name, images, False)
    runs[f"{name}, example"] = mixing(name, images, True)
  return timed(runs, max(1, repeats // IN_PROGRAM))


def policies(count: int, size: int, repeats: int) -> dict[str, float]:
  """Returns the seconds of each policy."""
  images, _ = harness.random_images(count, size, CLASSES)
  names = ("trivial_augment", "rand_augment")
  return timed({name: policy(name, images) for name in names}, repeats)


def main() -> None:
  flags = harness.flags(__doc__, rounds=3)
  flags.add_argument("--repeats", type=int, default=20)
  flags.add_argument("--policies", action="store_true")
  arguments = flags.parse_args()
  harness.use_cpu()
  packages = {"timm": "timm", "keras": "keras", "tf_image": "tensorflow"}
  systems = harness.installed(SYSTEMS, packages)
  repeats = arguments.repeats

  def medians(measure: Callable[..., Any], *job: Any) -> dict[str, float]:
    rounds = range(arguments.rounds)
    return harness.medians([harness.child(measure, *job) for _ in rounds])

  print(harness.machine("jax", "numpy", *PACKAGES))
  for count, size in SIZES:
    print(f"\n{count} images of {size}x{size}")
    seconds = medians(pipelines, count, size, systems, repeats)
    harness.header("whole pipeline", "ms", "images/s", "ours is faster by")
    for name, taken in seconds.items():
      rate, factor = count / taken, taken / seconds["ours"]
      harness.row(name, f"{1e3 * taken:.1f}", f"{rate:,.0f}", f"{factor:.2f}")
    seconds = medians(mixings, count, size, repeats)
    array = 4 * count * size**2 * 3 / 1e9 * IN_PROGRAM
    bandwidth = 2 * array / seconds.pop("copy")
    print(f"\ncopy: {bandwidth:.1f} GB/s read and written")
    harness.header("mixing alone", "ms", "GB/s", "of the copy's")
    for name, taken in seconds.items():
      # Two arrays are read and one is written.
      rate, each = 3 * array / taken, 1e3 * taken / IN_PROGRAM
      harness.row(name, f"{each:.2f}", f"{rate:.1f}", f"{rate / bandwidth:.2f}")
    if arguments.policies:
      harness.header("policy", "ms", "images/s")
      for name, taken in medians(policies, count, size, repeats).items():
        harness.row(name, f"{1e3 * taken:.1f}", f"{count / taken:,.0f}")


if __name__ == "__main__":
  main()
