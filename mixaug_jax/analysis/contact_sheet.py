"""Contact sheets: training images before and after augmentation."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from mixaug_jax import augment, data
from mixaug_jax.analysis import fonts
from mixaug_jax.data import label_sets
from mixaug_jax.data.class_names import readable
from mixaug_jax.errors import UserError
from mixaug_jax.training.step import Devices, network_input

_COLUMNS = 8
_TILE = 160  # Pixels a side of the smallest picture in the sheet.
_FONT = 13
_CAPTION = 2 * (_FONT + 3)
_GAP = 6


@dataclasses.dataclass(frozen=True)
class _Inputs:
  """As `step.Inputs`."""

  augment: Callable[[jax.Array, jax.Array], jax.Array]
  mixer: Callable[..., tuple[jax.Array, jax.Array]]
  num_classes: int
  mix_until: float


# Stored images uint8 `[B, S, S, 3]` and their classes; what the network sees,
# float32 in [0, 1] `[B, H, W, 3]`, and its soft labels in words.
Batch = tuple[np.ndarray, list[str], np.ndarray, list[str]]


def needs_network(config: ConfigDict) -> bool:
  """Returns whether only a network in training can make the batches."""
  return augment.looks_at_network(augment.make_mixer(config.mix))


def training_batch(config: ConfigDict, step: int) -> Batch:
  """Returns the batch of a training step, see `training_batches`."""
  return training_batches(config, range(step, step + 1))[0]


def training_batches(config: ConfigDict, steps: range) -> list[Batch]:
  """Returns batches of training, by its code and keys.

  Args:
    config: resolved and checked.
    steps: consecutive training steps.

  Raises:
    UserError: a mistake in the config or the data, or `needs_network`.
  """
  try:
    augmentation = augment.make_augment(config.augment, config.data.image_size)
    mixer = augment.make_mixer(config.mix)
  except ValueError as error:
    raise UserError(f"config: {error}") from error
  if needs_network(config):
    raise UserError(
      f"config.mix.name={config.mix.name} needs the network in training, so "
      "its batches cannot be shown without one; set config.mix.name=none"
    )
  stream = config.data.placement == "stream"
  datasets = data.load(
    config.data, config.seed, placement="stream" if stream else "host"
  )
  names = readable(datasets.class_names)
  batches = data.train_batches(
    datasets.train,
    batch_size=config.batch_size,
    seed=config.seed,
    start_step=steps.start,
  )
  stored = list(itertools.islice(batches, len(steps)))
  batches.close()
  off = config.mix.off_after_epoch
  per_epoch = data.steps_per_epoch(datasets.train, config.batch_size)
  recipe = _Inputs(
    augment=augmentation,
    mixer=augment.with_class_counts(mixer, datasets.class_counts),
    num_classes=len(names),
    mix_until=np.inf if off is None else off * per_epoch,
  )
  seed = jnp.uint32(config.seed)
  feed = jax.jit(
    lambda step, images, class_ids: network_input(
      recipe, seed, step, images, class_ids, Devices()
    )
  )
  sets = label_sets.key(config.data) is not None
  made = []
  for step, batch in zip(steps, stored, strict=True):
    images, class_ids = batch["image"], batch["label"]
    seen, labels = feed(step, images, class_ids)
    words = [in_words(label, names, sets) for label in np.asarray(labels)]
    classes = label_sets.in_words(class_ids, names)
    made.append((images, classes, np.asarray(seen), words))
  return made


def in_words(
  label: np.ndarray, names: Sequence[str], sets: bool = False
) -> str:
  """Returns a label as `0.62 Chihuahua + 0.38 Pug`, or `Pug` if it is hard.

  Args:
    label: float `[C]`.
    names: the class names.
    sets: whether it is a label set, as in `Chihuahua + 0.38 Pug`.
  """
  order = np.argsort(-label, kind="stable")
  parts = [(label[i], names[int(i)]) for i in order if label[i] >= 0.005]
  if sets:
    shares = ("" if x >= 0.995 else f"{x:.2f} " for x, _ in parts)
    shown = (f"{x}{name}" for x, (_, name) in zip(shares, parts, strict=True))
    return " + ".join(shown) or "no label"
  if len(parts) == 1:
    return parts[0][1]
  return " + ".join(f"{share:.2f} {name}" for share, name in parts)


def sheet(
  before: np.ndarray,
  classes: Sequence[str],
  after: np.ndarray,
  labels: Sequence[str],
  count: int,
) -> Image.Image:
  """Draws stored images, and below each what the network is trained on.

  Args:
    before: stored images, uint8 `[B, S, S, 3]`.
    classes: the class of each.
    after: augmented images in [0, 1], `[B, H, W, 3]`.
    labels: the soft label of each, in words.
    count: the number of images to draw; all where there are fewer.
  """
  count = min(count, len(before))
  # Small images grow by whole factors, so that pixels stay squares.
  size = after.shape[1]
  tile = size * math.ceil(_TILE / size)
  columns = min(count, _COLUMNS)
  rows = 2 * -(-count // columns)
  step_x, step_y = tile + _GAP, tile + _CAPTION + _GAP
  width = columns * step_x + _GAP
  picture = Image.new("RGB", (width, rows * step_y + _GAP), "white")
  draw = ImageDraw.Draw(picture)
  levels = np.round(255 * np.clip(after, 0, 1)).astype(np.uint8)
  for number in range(count):
    row, column = divmod(number, columns)
    pairs = ((before, classes), (levels, labels))
    for below, (images, words) in enumerate(pairs):
      x, y = _GAP + column * step_x, _GAP + (2 * row + below) * step_y
      small = Image.fromarray(images[number])
      whole = tile % small.width == 0
      how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
      picture.paste(small.resize((tile, tile), how), (x, y))
      draw.font = ImageFont.truetype(fonts.file(words[number]), _FONT)
      caption = _wrapped(draw, words[number], tile)
      draw.text((x, y + tile + 1), caption, fill="black")
  return picture


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
  """Breaks a label that is wider than its image: one class on each line."""
  if draw.textlength(text) <= width:
    return text
  lines = text.replace(" + ", "\n+ ").splitlines()
  for number, line in enumerate(lines):
    while draw.textlength(lines[number]) > width:
      line = line[:-1]
      lines[number] = f"{line}…"
  return "\n".join(lines[:2])
