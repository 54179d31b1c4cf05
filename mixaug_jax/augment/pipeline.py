"""From a config to the augmentation and the mixer of a train step.

An operation is on when its first setting is not None. The order is that of the
config and of `make_augment`: crops, flips, rotation, policies, colour, JPEG,
erasing. Draws depend on the example's key alone.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, geometric, mixing, photometric, policies
from mixaug_jax.augment.jpeg import random_jpeg_quality


def example_keys(
  seed_key: jax.Array, step: jax.Array, positions: jax.Array
) -> jax.Array:
  """A key for each example of a global batch.

  Args:
    seed_key: one key of the run.
    step: int32 scalar.
    positions: int32 `[B]`, places in the global batch.

  Returns:
    Keys `[B]`, a function of (seed, step, position) and of nothing else.
  """
  # A stream of its own, apart from keys that others fold from seed and step.
  step_key = jax.random.fold_in(jax.random.fold_in(seed_key, step), 0)
  return jax.vmap(jax.random.fold_in, (None, 0))(step_key, positions)


def make_augment(
  config: Any, image_size: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Builds the augmentation of `config.augment`.

  Args:
    config: a sub-config of settings for each operation, as in
      configs/default.py; checked here.
    image_size: pixels a side that come out.

  Returns:
    `(keys [B], images [B, H, W, 3]) -> [B, image_size, image_size, 3]`: uint8,
    or float in [0, 1]; float in [0, 1]. Without an operation that crops, the
    middle is taken; images smaller than `image_size` are an error. The
    result of uint8 images is that of the same images over 255, sooner.

  Raises:
    ValueError: naming the setting that is out of range.
  """
  crops, others = _operations(config, image_size)
  for name, operation in crops + others:
    _check(name, operation, image_size)

  def augment(keys: jax.Array, images: jax.Array) -> jax.Array:
    check.batch(images)
    if not crops:
      images = geometric.central_crop(images, image_size)
    for number, (name, operation) in enumerate(crops + others):
      # uint8 as long as pixels only move: a quarter of the memory traffic.
      if name not in _MOVES:
        images = _to_float(images)
      # Folded by place in the list, not split: adding an operation at the end
      # leaves the draws of those before it.
      own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
      images = operation(own, images)
    return _to_float(images)

  return augment


_MOVES = ("random_crop", "random_flip_left_right", "random_flip_up_down")


def _to_float(images):
  return images / 255.0 if images.dtype == jnp.uint8 else images


def _operations(config, size):
  """Names and operations that are on: those that crop, and the rest."""
  crops, others = [], []

  def add(to, name, function, *settings):
    values = [getattr(getattr(config, name), key) for key in settings]
    if values[0] is not None:
      if None in values:
        unset = settings[values.index(None)]
        raise ValueError(
          f"augment.{name}: {unset} must be set beside {settings[0]}"
        )
      arguments = dict(zip(settings, values, strict=True))
      to.append((name, functools.partial(function, arguments)))

  def resized_crop(arguments, keys, images):
    return jax.vmap(
      lambda key, x: geometric.random_resized_crop(key, x, size, **arguments)
    )(keys, images)

  def crop(arguments, keys, images):
    return geometric.random_crop_examples(keys, images, size, **arguments)

  def each(function):
    return lambda arguments, keys, images: jax.vmap(
      lambda key, x: function(key, x, **arguments)
    )(keys, images)

  # tf.image leaves floats beyond [0, 1] after these two.
  def clipped(function):
    return lambda *args: jnp.clip(each(function)(*args), 0, 1)

  area = ("min_area", "max_area")
  add(
    crops,
    "random_resized_crop",
    resized_crop,
    *area,
    "min_aspect",
    "max_aspect",
  )
  add(crops, "random_crop", crop, "padding")
  for name in ("random_flip_left_right", "random_flip_up_down"):
    add(others, name, each(getattr(geometric, name)), "probability")
  add(others, "random_rotation", each(geometric.random_rotation), "max_degrees")
  if config.trivial_augment.enabled:
    others.append(("trivial_augment", policies.trivial_augment_examples))
  add(
    others,
    "rand_augment",
    lambda arguments, *args: policies.rand_augment_examples(*args, **arguments),
    "num_layers",
    "magnitude",
  )
  factors = ("lower", "upper")
  add(
    others,
    "random_brightness",
    clipped(photometric.random_brightness),
    "max_delta",
  )
  add(others, "random_contrast", clipped(photometric.random_contrast), *factors)
  add(others, "random_hue", each(photometric.random_hue), "max_delta")
  add(
    others, "random_saturation", each(photometric.random_saturation), *factors
  )
  add(
    others,
    "random_grayscale",
    each(photometric.random_grayscale),
    "probability",
  )
  add(
    others,
    "random_jpeg_quality",
    each(random_jpeg_quality),
    "min_jpeg_quality",
    "max_jpeg_quality",
  )
  add(
    others,
    "random_erasing",
    each(geometric.random_erasing),
    "probability",
    *area,
  )
  return crops, others


def _check(name, operation, size):
  """Lets an operation check its settings, on shapes alone."""
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  try:
    jax.eval_shape(operation, keys, images)
  except ValueError as error:
    raise ValueError(f"augment.{name}: {error}") from None


_MIXERS = {
  "mixup": mixing.Mixup,
  "cutmix": mixing.CutMix,
  "cutout": mixing.Cutout,
  "resizemix": mixing.ResizeMix,
  "fmix": mixing.FMix,
}
# What a setting is when nobody set it, and so need not mean anything.
_UNSET = {
  "alpha": None,
  "min_lambda": 0.0,
  "max_lambda": 1.0,
  "min_aspect": 1.0,
  "max_aspect": 1.0,
}


def make_mixer(
  config: Any,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Builds the mixer of `config.mix`.

  Args:
    config: name, weights, alpha and the rest, as in configs/default.py.

  Returns:
    `(key, images, labels, *, enabled=True, shard=Shard()) -> (images, labels)`
    as `augment.mix`; `enabled` may be traced, and False gives the batch as
    it was.

  Raises:
    ValueError: naming the setting that is out of range.
  """
  names = [name.strip() for name in config.name.split(",")]
  if names == ["none"]:
    return _unmixed
  for name in names:
    check.choice("mix.name", name, ("none", *_MIXERS))
  if "none" in names:
    raise ValueError("mix.name: none stands alone; use mix.probability")
  given = {
    key: getattr(config, key)
    for key, unset in _UNSET.items()
    if getattr(config, key) != unset
  }
  fields = {name: _MIXERS[name].__dataclass_fields__ for name in names}
  for key in given:
    if not any(key in known for known in fields.values()):
      raise ValueError(f"mix.{key} means nothing to {config.name}")
  weights = None
  if config.weights is not None:
    try:
      weights = tuple(float(x) for x in str(config.weights).split(","))
    except ValueError:
      raise ValueError(
        f"mix.weights must be numbers such as 0.7,0.3, got {config.weights!r}"
      ) from None
  try:
    mixers = tuple(
      _MIXERS[name](**{k: v for k, v in given.items() if k in fields[name]})
      for name in names
    )
    settings = {
      "probability": config.probability,
      "per_example": config.per_example,
      "partner": config.partner,
    }
    mixing.check_settings(mixers, weights, config.probability, config.partner)
  except ValueError as error:
    raise ValueError(f"mix: {error}") from None

  def mixer(key, images, labels, *, enabled=True, shard=None):
    return mixing.mix(
      key,
      images,
      labels,
      mixers,
      weights,
      enabled=enabled,
      shard=shard,
      **settings,
    )

  return mixer


def _unmixed(key, images, labels, *, enabled=True, shard=None):
  del key, enabled, shard
  return images, labels
