"""Do the presets of `mix.preset` draw as the libraries that they name?

    pip install --no-deps timm torchvision kornia kornia_rs keras-cv==0.9.0
    python -m benchmarks.preset_parity [timm torchvision keras keras-cv kornia]

Each library mixes batches whose image i has the value i everywhere, and so do
we. From the results follow, for single examples, the partner, the sides and the
place of the box, the share of its pixels and the weight of the label. The table
has the p-values of two-sample Kolmogorov-Smirnov tests, which no difference
should make small, and how often an example was its own partner.
"""

import importlib
import importlib.util
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from scipy import stats

from mixaug_jax import augment
from mixaug_jax import config as config_lib

BATCH, HEIGHT, WIDTH = 8, 20, 28
_DRAWS = 2000
# Maps images `[B, H, W, 1]` and labels `[B, B]` in NumPy to mixed ones.
Mix = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def batch() -> tuple[np.ndarray, np.ndarray]:
  """Returns images of the values 0, 1, ... and labels of the same classes."""
  values = np.arange(BATCH, dtype=np.float32)
  images = np.broadcast_to(
    values[:, None, None, None], (BATCH, HEIGHT, WIDTH, 1)
  )
  return images.copy(), np.eye(BATCH, dtype=np.float32)


def ours(preset: str, mixer: str, draws: int) -> dict[str, np.ndarray]:
  """Returns what our preset draws, see `seen`."""
  overrides = {"mix.preset": preset, "mix.name": mixer, "batch_size": BATCH}
  config = config_lib.load("baseline", overrides)
  mix = augment.make_mixer(config.mix)
  keys = jax.random.split(jax.random.key(0), draws)
  images, labels = jax.jit(jax.vmap(mix, (0, None, None)))(keys, *batch())
  return seen(np.asarray(images), np.asarray(labels))


def theirs(mix: Mix, draws: int) -> dict[str, np.ndarray]:
  """Returns what a library draws, see `seen`."""
  mixed = [mix(*batch()) for _ in range(draws)]
  return seen(*(np.stack(x) for x in zip(*mixed, strict=True)))


def seen(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the draws that mixed batches `[draws, B, ...]` show.

  Each number is of one example, another one in each batch, since the examples
  of a batch may share their draw. `partner` is the place of the partner after
  that of the example, 0 for itself; the rest is for other partners alone.
  """
  which = np.arange(len(images)) % BATCH
  rows = np.arange(len(images))
  images, labels = images[rows, which, ..., 0], labels[rows, which]
  own = labels[rows, which].copy()
  # A label of the weight 0 may hide the partner, but not all of its pixels.
  others = np.where(np.arange(BATCH) == which[:, None], 0, labels)
  values = np.abs(images - which[:, None, None])
  partner = np.where(
    others.max(1) > 0,
    others.argmax(1),
    np.where(values.max((1, 2)) > 0.5, images.max((1, 2)).astype(int), which),
  )
  found = partner != which
  gap = np.where(found, np.abs(partner - which), 1)
  pasted = values / gap[:, None, None]  # The share of the partner, by pixel.
  result = {"partner": (partner - which) % BATCH, "label": own[found]}
  result["pixels"] = 1 - pasted.mean((1, 2))[found]
  whole = pasted.max((1, 2)) > 0.5
  boxes = (pasted > 0.5)[found & whole]
  if np.isclose(pasted[found], pasted[found].round(), atol=1e-3).all():
    for name, axis in (("height", 2), ("width", 1)):
      lines = boxes.any(axis)
      result[name] = lines.sum(1)
      result[f"start of {name}"] = lines.argmax(1)
  return result


def compared(
  ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> dict[str, float]:
  """Returns the p-value of each quantity, 1 where both never vary."""
  assert ours.keys() == theirs.keys()
  return {
    name: float(
      # Equal numbers may be rounded in different ways.
      stats.ks_2samp(ours[name].round(4), theirs[name].round(4)).pvalue
    )
    for name in ours
  }


def _of_torch(mix: Callable[..., Any]) -> Mix:
  """Returns a function of NumPy from one of `[B, C, H, W]` and labels `[B]`."""
  import torch

  def function(images, labels):
    mixed, weights = mix(
      torch.tensor(images).permute(0, 3, 1, 2), torch.arange(len(labels))
    )
    return mixed.permute(0, 2, 3, 1).numpy(), np.asarray(weights, np.float32)

  return function


def _load_torchvision() -> None:
  """Imports torchvision, also a wheel for GPUs beside a torch for CPUs.

  There its operators do not load. Mixing needs none, so that their names do.
  """
  import torch

  for _ in range(30):
    try:
      importlib.import_module("torchvision")
      return
    except RuntimeError as error:
      missing = re.search(r"torchvision::(\w+) does not exist", str(error))
      if not missing:
        raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(f"{missing[1]}(Tensor x) -> Tensor")
    _KEPT.append(library)
    for name in [x for x in sys.modules if x.startswith("torchvision")]:
      del sys.modules[name]


_KEPT: list[Any] = []  # The end of a library removes its operators.


def _timm(mixer: str) -> Mix:
  _load_torchvision()
  from timm.data.mixup import Mixup

  alphas = {"mixup_alpha": 1.0 if mixer == "mixup" else 0.0}
  alphas["cutmix_alpha"] = 1.0 if mixer == "cutmix" else 0.0
  # Smoothing is a setting of our loss.
  return _of_torch(Mixup(**alphas, label_smoothing=0.0, num_classes=BATCH))


def _torchvision(mixer: str) -> Mix:
  _load_torchvision()
  from torchvision.transforms import v2

  kind = v2.MixUp if mixer == "mixup" else v2.CutMix
  return _of_torch(kind(num_classes=BATCH))


def _kornia(mixer: str) -> Mix:
  import torch
  from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

  keys = {"data_keys": ["input", "class"]}
  mix = RandomMixUpV2(**keys)
  if mixer == "cutmix":
    mix = RandomCutMixV2(**keys, use_correct_lambda=True)

  def function(images, labels):
    mixed, rows = mix(images, labels)
    rows = rows.reshape(-1, 3)
    other = rows[:, 2] if mixer == "mixup" else 1 - rows[:, 2]
    eye = torch.eye(BATCH)
    first, second = eye[rows[:, 0].long()], eye[rows[:, 1].long()]
    return mixed, (1 - other[:, None]) * first + other[:, None] * second

  return _of_torch(function)


def _keras(mixer: str) -> Mix:
  import keras

  layers = keras.layers
  layer = layers.MixUp(seed=0) if mixer == "mixup" else layers.CutMix(seed=0)

  def function(images, labels):
    mixed = layer({"images": images, "labels": labels}, training=True)
    return tuple(np.asarray(mixed[name]) for name in ("images", "labels"))

  return function


def _keras_cv(mixer: str) -> Mix:
  """The layers from their files, because the package wants an old Keras."""
  import tensorflow as tf

  layer = _keras_cv_layer("MixUp" if mixer == "mixup" else "CutMix")
  step = tf.function(
    lambda images, labels: layer._batch_augment(
      {"images": images, "labels": labels}
    )
  )

  def function(images, labels):
    mixed = step(tf.constant(images), tf.constant(labels))
    return mixed["images"].numpy(), mixed["labels"].numpy()

  return function


def _keras_cv_layer(name: str) -> Any:
  """Returns a layer of keras-cv without its base class."""
  spec = importlib.util.find_spec("keras_cv")
  if spec is None or not spec.submodule_search_locations:
    raise ImportError("keras_cv is not installed")
  root = pathlib.Path(spec.submodule_search_locations[0], "src")

  class Base:
    compute_dtype = "float32"

    def __init__(self, **_: Any):
      pass

  def to_corners(boxes, source, target):
    import tensorflow as tf

    assert (source, target) == ("center_xywh", "xyxy")
    x, y, width, height = tf.split(boxes, 4, axis=-1)
    corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return tf.concat(corners, axis=-1)

  def run(path: str, **known: Any) -> dict[str, Any]:
    lines = (root / path).read_text(encoding="utf-8").splitlines()
    keep = "\n".join(x for x in lines if not x.startswith("from keras_cv"))
    keep = keep.replace("    BaseImageAugmentationLayer,\n)\n", "")
    values = dict(known)
    exec(compile(keep, path, "exec"), values)
    return values

  box = types.SimpleNamespace(convert_format=to_corners)
  fill = run("utils/fill_utils.py", bounding_box=box)
  values = run(
    f"layers/preprocessing/{'mix_up' if name == 'MixUp' else 'cut_mix'}.py",
    BaseImageAugmentationLayer=Base,
    keras_cv_export=lambda _: lambda kind: kind,
    fill_utils=types.SimpleNamespace(**fill),
  )
  return values[name]()


LIBRARIES = {
  "timm": _timm,
  "torchvision": _torchvision,
  "keras": _keras,
  "keras-cv": _keras_cv,
  "kornia": _kornia,
}


def main(argv: Sequence[str]) -> None:
  os.environ.setdefault("KERAS_BACKEND", "tensorflow")
  for name in argv or LIBRARIES:
    for mixer in ("cutmix", "mixup"):
      try:
        mix = LIBRARIES[name](mixer)
      except ImportError as error:
        print(f"{name} {mixer}: not installed ({error})")
        continue
      here, there = ours(name, mixer, _DRAWS), theirs(mix, _DRAWS)
      own = [np.mean(x["partner"] == 0) for x in (here, there)]
      values = ", ".join(
        f"{key} {p:.3f}" for key, p in compared(here, there).items()
      )
      print(f"{name} {mixer}: self {own[0]:.3f} and {own[1]:.3f}; p: {values}")


if __name__ == "__main__":
  main(sys.argv[1:])
