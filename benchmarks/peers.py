"""The peers that the benchmarks measure against: PyTorch, timm, Keras, tf.data.

Each is imported by the function that needs it, since any may be missing.
"""

import functools
import importlib.util
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks import harness
from benchmarks.harness import MEAN, PADDING, STD

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LEARNING_RATE, WEIGHT_DECAY = 0.05, 5e-4
SGD = {"momentum": 0.9, "nesterov": True, "weight_decay": WEIGHT_DECAY}
DIGITS = ("small_resnet", 50, 16, 10)  # Model, batch, pixels, classes.
DONE = "the steps are done"
WORKERS = 2  # Processes of the DataLoader.
# Blocks of each stage, bottlenecks, channels of the stem, small images.
_NETWORKS = {
  "small_resnet": ((1, 1, 1), False, 16, True),
  "resnet18": ((2, 2, 2, 2), False, 64, False),
  "resnet50": ((3, 4, 6, 3), True, 64, False),
}

Run = Callable[[], Any]
Steps = Callable[[int], None]


def torch_steps(
  model: str,
  batch: int,
  size: int,
  num_classes: int,
  *,
  augment: bool = False,
  compiled: bool = False,
  checkpoint: bool = False,
  parts: int = 1,
  wrap: Callable[[Any], Any] = lambda net: net,
) -> Steps:
  """Returns PyTorch's `run(steps)` on random images.

  channels_last, fused SGD and, on a GPU, autocast to bfloat16. `augment` adds
  random crop, mirroring, CutMix and normalisation; `checkpoint` computes the
  inside of every block a second time; the `parts` of a batch are computed one
  after the other; `wrap` is applied to the network.
  """
  import torch
  from torch.utils.checkpoint import checkpoint as compute_again

  from tests import pytorch_resnet

  torch.set_flush_denormal(True)  # As XLA does.
  gpu = torch.cuda.is_available()
  device = "cuda" if gpu else "cpu"
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision("high")
  blocks, bottleneck, width, small = _NETWORKS[model]
  net = pytorch_resnet.make(blocks, bottleneck, num_classes, width, small)
  net = net.train().to(device, memory_format=torch.channels_last)
  if checkpoint:
    for block in [m for m in net.modules() if type(m).__name__ == "Block"]:
      block.forward = functools.partial(
        compute_again, block.forward, use_reentrant=False
      )
  net = wrap(net)
  kernels = [p for p in net.parameters() if p.ndim > 1]
  others = [p for p in net.parameters() if p.ndim == 1]
  groups = [{"params": kernels}, {"params": others, "weight_decay": 0}]
  optimizer = torch.optim.SGD(groups, LEARNING_RATE, fused=True, **SGD)
  images, classes = harness.random_images(batch, size, num_classes)
  images = torch.from_numpy(images).to(device).chunk(parts)
  classes = torch.from_numpy(classes).long().to(device).chunk(parts)
  mean, std = (
    torch.tensor(x, device=device).view(3, 1, 1) for x in (MEAN, STD)
  )
  example = torch.arange(batch // parts, device=device)[:, None, None]
  line = torch.arange(size, device=device)

  def shifted() -> torch.Tensor:
    shape = (len(example), 1)
    shift = torch.randint(-PADDING, PADDING + 1, shape, device=device)
    return size - 1 - (size - 1 - (line + shift).abs()).abs()

  def augmented(images, classes):
    """Crops and mirrors by one gather, then mixes as torchvision does."""
    rows, columns = shifted(), shifted()
    coins = torch.rand(len(images), 1, device=device) < 0.5
    columns = torch.where(coins, columns.flip(1), columns)
    images = images[example, rows[:, :, None], columns[:, None, :]]
    images = images.permute(0, 3, 1, 2).float().div_(255)
    labels = torch.nn.functional.one_hot(classes, num_classes).float()
    lam = np.random.beta(1.0, 1.0)
    centre = np.random.randint(0, size, 2)
    half = int(0.5 * (1 - lam) ** 0.5 * size)
    top, left = np.clip(centre - half, 0, size)
    bottom, right = np.clip(centre + half, 0, size)
    box = (..., slice(top, bottom), slice(left, right))
    images[box] = images.roll(1, 0)[box]
    lam = 1 - (bottom - top) * (right - left) / size**2
    labels = lam * labels + (1 - lam) * labels.roll(1, 0)
    return images.sub_(mean).div_(std), labels

  def plain(images, classes):
    return images.permute(0, 3, 1, 2).float().div_(255), classes

  def loss(images, labels):
    with torch.autocast(device, torch.bfloat16, enabled=gpu):
      logits = net(images)[-1]
    return torch.nn.functional.cross_entropy(logits.float(), labels)

  prepare = augmented if augment else plain
  if compiled:
    loss = torch.compile(loss)

  def run(steps: int) -> None:
    for _ in range(steps):
      for part in zip(images, classes, strict=True):
        (loss(*prepare(*part)) / parts).backward()
      optimizer.step()
      optimizer.zero_grad()
    if gpu:
      torch.cuda.synchronize()

  return run


def torch_digits(steps: int) -> str:
  """Trains the digits' network on random images, by PyTorch."""
  torch_steps(*DIGITS)(steps)
  return DONE


def keras_digits(steps: int) -> str:
  """Trains the digits' network on random images, by Keras on TensorFlow."""
  k = _keras("tensorflow")

  def conv_bn(x, width, size, stride=1):
    x = k.layers.Conv2D(width, size, stride, "same", use_bias=False)(x)
    return k.layers.BatchNormalization()(x)

  images, classes = harness.random_images(*DIGITS[1:])
  inputs = k.Input(images.shape[1:])
  x = k.layers.ReLU()(conv_bn(inputs, 16, 3))
  for width, stride in ((16, 1), (32, 2), (64, 2)):
    shortcut = x if stride == 1 else conv_bn(x, width, 1, stride)
    x = k.layers.ReLU()(conv_bn(x, width, 3, stride))
    x = k.layers.ReLU()(conv_bn(x, width, 3) + shortcut)
  x = k.layers.GlobalAveragePooling2D()(x)
  net = k.Model(inputs, k.layers.Dense(DIGITS[-1])(x))
  net.compile(
    k.optimizers.SGD(LEARNING_RATE, **SGD),
    k.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  images = images.astype(np.float32) / 255
  for _ in range(steps):
    net.train_on_batch(images, classes)
  return DONE


def _keras(backend: str):
  """Imports Keras on a backend, which holds for the whole process."""
  os.environ["KERAS_BACKEND"] = backend
  import keras

  return keras


def _keras_layers(k, size: int) -> tuple[Callable, Callable]:
  """Returns crop and flip; a translation crops, as RandomCrop does not pad."""
  shift = PADDING / size
  crop = k.layers.RandomTranslation(shift, shift, interpolation="nearest")
  return crop, k.layers.RandomFlip("horizontal")


def _keras_resnet50(k, size: int, num_classes: int):
  """Returns Keras's ResNet-50 (v1) and its optimizer."""
  net = k.applications.ResNet50(
    weights=None,
    input_shape=(size, size, 3),
    classes=num_classes,
    classifier_activation=None,
  )
  optimizer = k.optimizers.SGD(LEARNING_RATE, **SGD)
  optimizer.build(net.trainable_variables)
  return net, optimizer


def keras_steps(batch: int, size: int, num_classes: int) -> Steps:
  """Returns the `run(steps)` of Keras on JAX, for its ResNet-50 (v1).

  Layers that draw hold their seeds; the jitted function threads them.
  """
  k = _keras("jax")
  import jax
  import jax.numpy as jnp

  if jax.default_backend() != "cpu":
    k.mixed_precision.set_global_policy("mixed_bfloat16")
  net, optimizer = _keras_resnet50(k, size, num_classes)
  crop, flip = _keras_layers(k, size)
  mixer = k.layers.CutMix(1.0)
  normalise = k.layers.Normalization(mean=255 * MEAN, variance=(255 * STD) ** 2)
  drawing = [x.generator.state for x in (crop, flip, mixer)]
  loss_of = k.losses.CategoricalCrossentropy(from_logits=True)

  def augmented(seeds, images, classes):
    mapping = list(zip(drawing, seeds, strict=True))
    with k.StatelessScope(state_mapping=mapping) as scope:
      x = crop(images.astype(jnp.float32), training=True)
      x = flip(x, training=True)
      labels = jax.nn.one_hot(classes, num_classes)
      mixed = mixer({"images": x, "labels": labels}, training=True)
      x = normalise(mixed["images"])
    seeds = [scope.get_current_value(variable) for variable in drawing]
    return x, mixed["labels"], seeds

  def forward(params, others, images, labels):
    logits, others = net.stateless_call(params, others, images, training=True)
    return loss_of(labels, logits.astype(jnp.float32)), others

  @jax.jit(donate_argnums=0)
  def step(state, images, classes):
    params, others, moments, seeds = state
    images, labels, seeds = augmented(seeds, images, classes)
    gradient = jax.grad(forward, has_aux=True)
    gradients, others = gradient(params, others, images, labels)
    params, moments = optimizer.stateless_apply(moments, gradients, params)
    return params, others, moments, seeds

  variables = (
    *(net.trainable_variables, net.non_trainable_variables),
    *(optimizer.variables, drawing),
  )
  state = tuple([jnp.copy(v.value) for v in some] for some in variables)
  arrays = map(jnp.asarray, harness.random_images(batch, size, num_classes))
  images, classes = arrays

  def run(steps: int) -> None:
    nonlocal state
    for _ in range(steps):
      state = step(state, images, classes)
    jax.block_until_ready(state)

  return run


def keras_program(
  size: int, num_classes: int, mean: Callable[[Any], Any]
) -> tuple[Callable[..., Any], Any]:
  """Returns a step of Keras's ResNet-50 in bfloat16, and its state.

  Args:
    size: pixels a side.
    num_classes: outputs of the network.
    mean: averages a tree over the devices.

  Returns:
    `step(state, images, class ids) -> (state, loss)`, without augmentation,
    and the state.
  """
  k = _keras("jax")
  import jax
  import jax.numpy as jnp

  k.mixed_precision.set_global_policy("mixed_bfloat16")
  net, optimizer = _keras_resnet50(k, size, num_classes)
  loss_of = k.losses.SparseCategoricalCrossentropy(from_logits=True)

  def forward(params, others, images, classes):
    logits, others = net.stateless_call(params, others, images, training=True)
    return loss_of(classes, logits.astype(jnp.float32)), others

  def step(state, images, classes):
    params, others, moments = state
    gradient = jax.value_and_grad(forward, has_aux=True)
    (loss, others), gradients = gradient(params, others, images, classes)
    gradients, others, loss = mean((gradients, others, loss))
    params, moments = optimizer.stateless_apply(moments, gradients, params)
    return (params, others, moments), loss

  variables = (
    *(net.trainable_variables, net.non_trainable_variables),
    optimizer.variables,
  )
  return step, tuple([v.value for v in some] for some in variables)


def linen_program(
  size: int, num_classes: int, mean: Callable[[Any], Any]
) -> tuple[Callable[..., Any], Any]:
  """Returns a step as in Flax's ImageNet example, and its abstract state.

  ResNet-50 (v1.5) of `nn.Conv` and `nn.BatchNorm` in bfloat16, weight decay in
  the loss, SGD with Nesterov momentum; each device keeps its own statistics of
  batch norm. Arguments and results are those of `keras_program`.
  """
  import jax
  import jax.numpy as jnp
  import optax
  from flax import linen as nn

  class ResNet50(nn.Module):
    @nn.compact
    def __call__(self, x):
      conv = functools.partial(nn.Conv, use_bias=False, dtype=jnp.bfloat16)
      norm = functools.partial(
        nn.BatchNorm,
        use_running_average=False,
        momentum=0.9,
        dtype=jnp.bfloat16,
      )
      x = conv(64, (7, 7), 2, padding=3)(x)
      x = nn.relu(norm()(x))
      x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
      for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
          stride = 2 if stage and block == 0 else 1
          y = nn.relu(norm()(conv(width, (1, 1))(x)))
          y = nn.relu(norm()(conv(width, (3, 3), stride)(y)))
          y = conv(4 * width, (1, 1))(y)
          y = norm(scale_init=nn.initializers.zeros)(y)
          if x.shape != y.shape:
            x = norm()(conv(4 * width, (1, 1), stride)(x))
          x = nn.relu(x + y)
      return nn.Dense(num_classes, dtype=jnp.bfloat16)(x.mean((1, 2)))

  net = ResNet50()
  schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, 5, 100)
  optimizer = optax.sgd(schedule, momentum=0.9, nesterov=True)

  def forward(params, statistics, images, classes):
    logits, changed = net.apply(
      {"params": params, "batch_stats": statistics},
      images,
      mutable=["batch_stats"],
    )
    labels = jax.nn.one_hot(classes, num_classes)
    loss = optax.softmax_cross_entropy(logits, labels).mean()
    kernels = [x for x in jax.tree.leaves(params) if x.ndim > 1]
    decay = WEIGHT_DECAY / 2 * sum(jnp.sum(x**2) for x in kernels)
    return loss + decay, (changed["batch_stats"], logits)

  def step(state, images, classes):
    params, statistics, moments = state
    gradient = jax.value_and_grad(forward, has_aux=True)
    (loss, aux), gradients = gradient(params, statistics, images, classes)
    statistics, logits = aux
    accuracy = jnp.mean(jnp.argmax(logits, -1) == classes)
    gradients, measured = mean((gradients, (loss, accuracy)))
    updates, moments = optimizer.update(gradients, moments, params)
    params = optax.apply_updates(params, updates)
    return (params, statistics, moments), measured

  def create():
    images = jnp.zeros((1, size, size, 3), jnp.bfloat16)
    variables = net.init(jax.random.key(0), images)
    params = variables["params"]
    return params, variables["batch_stats"], optimizer.init(params)

  return step, jax.eval_shape(create)


def timm_augment(
  images: np.ndarray, classes: np.ndarray, num_classes: int
) -> Run:
  """timm's Mixup class; crop and flip by torch, as timm leaves them to PIL."""
  import torch

  # By its file: the package needs torchvision, and this file does not.
  package = importlib.util.find_spec("timm").submodule_search_locations[0]
  spec = importlib.util.spec_from_file_location(
    "timm_mixup", f"{package}/data/mixup.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  mixup = module.Mixup(
    mixup_alpha=0.2,
    cutmix_alpha=1.0,
    label_smoothing=0.0,
    num_classes=num_classes,
  )
  count, size = images.shape[:2]
  batch = torch.from_numpy(images).permute(0, 3, 1, 2)
  batch = batch.contiguous(memory_format=torch.channels_last)
  classes = torch.from_numpy(classes).long()
  mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
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


def keras_augment(
  images: np.ndarray, classes: np.ndarray, num_classes: int
) -> Run:
  """Keras's layers on TensorFlow."""
  k = _keras("tensorflow")
  import tensorflow as tf

  crop, flip = _keras_layers(k, images.shape[1])

  def pipeline(mixer):
    @tf.function(jit_compile=False)
    def run(images, classes):
      floats = tf.cast(images, tf.float32) / 255
      floats = flip(crop(floats, training=True), training=True)
      labels = tf.one_hot(classes, num_classes)
      mixed = mixer({"images": floats, "labels": labels}, training=True)
      return (mixed["images"] - MEAN) / STD, mixed["labels"]

    return run

  runs = [pipeline(k.layers.CutMix(1.0)), pipeline(k.layers.MixUp(0.2))]
  images, classes = tf.constant(images), tf.constant(classes)
  generator = np.random.default_rng(0)

  def run():
    out, _ = runs[generator.integers(2)](images, classes)
    return float(out[0, 0, 0, 0])

  return run


def tf_image_augment(
  images: np.ndarray, classes: np.ndarray, num_classes: int
) -> Run:
  """tf.image an example, mixing a batch, in tf.data with all its threads."""
  import tensorflow as tf

  size = images.shape[1]
  around = [[PADDING] * 2, [PADDING] * 2, [0, 0]]

  def example(image, label):
    image = tf.cast(image, tf.float32) / 255
    image = tf.pad(image, around, "REFLECT")
    image = tf.image.random_crop(image, (size, size, 3))
    image = tf.image.random_flip_left_right(image)
    return image, tf.one_hot(label, num_classes)

  def beta(alpha):
    first, second = tf.unstack(tf.random.gamma([2], alpha))
    return first / (first + second)

  def mixed(images, labels):
    if tf.random.uniform([]) < 0.5:  # tf.data makes it a tf.cond.
      lam = beta(0.2)
      images = lam * images + (1 - lam) * images[::-1]
    else:
      side = tf.sqrt(1 - beta(1.0)) * size / 2
      centre = tf.random.uniform([2], 0, size)
      grid = tf.range(size, dtype=tf.float32)
      rows = tf.abs(grid - centre[0]) < side
      columns = tf.abs(grid - centre[1]) < side
      box = (rows[:, None] & columns)[..., None]
      lam = 1 - tf.reduce_mean(tf.cast(box, tf.float32))
      images = tf.where(box, images[::-1], images)
    labels = lam * labels + (1 - lam) * labels[::-1]
    return (images - MEAN) / STD, labels

  stream = tf.data.Dataset.from_tensor_slices((images, classes)).repeat()
  stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE)
  stream = stream.batch(len(images), drop_remainder=True)
  batches = iter(stream.map(mixed).prefetch(1))
  return lambda: next(batches)


def tf_data_epochs(
  folder: pathlib.Path, size: int, batch: int
) -> Iterator[int]:
  """tf.data over a folder: yields the images of each epoch."""
  import tensorflow as tf

  def example(path, label):
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    side = tf.minimum(height, width)
    image = tf.image.crop_to_bounding_box(
      image, (height - side) // 2, (width - side) // 2, side, side
    )
    image = tf.image.resize(image, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8), label

  def epochs() -> Iterator[int]:
    paths, labels = _listing(folder)
    stream = tf.data.Dataset.from_tensor_slices((paths, labels))
    stream = stream.shuffle(len(paths), reshuffle_each_iteration=True)
    stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    stream = stream.batch(batch).prefetch(tf.data.AUTOTUNE)
    while True:
      yield sum(len(images) for images, _ in stream)

  return epochs()


def data_loader_epochs(
  folder: pathlib.Path, size: int, batch: int
) -> Iterator[int]:
  """PyTorch's DataLoader over a folder: yields the images of each epoch."""
  import torch

  class Photographs(torch.utils.data.Dataset):
    def __init__(self):
      self.paths, self.labels = _listing(folder)

    def __len__(self):
      return len(self.paths)

    def __getitem__(self, index):
      picture = Image.open(self.paths[index]).convert("RGB")
      picture = ImageOps.fit(picture, (size, size), Image.BILINEAR)
      return torch.from_numpy(np.array(picture)), self.labels[index]

  def epochs() -> Iterator[int]:
    loader = torch.utils.data.DataLoader(
      Photographs(),
      batch,
      shuffle=True,
      num_workers=WORKERS,
      persistent_workers=True,
    )
    while True:
      yield sum(len(images) for images, _ in loader)

  return epochs()


def _listing(folder: pathlib.Path) -> tuple[list[str], list[int]]:
  paths = sorted((folder / "train").glob("*/*.jpg"))
  return [str(p) for p in paths], [int(p.parent.name[-1]) for p in paths]
