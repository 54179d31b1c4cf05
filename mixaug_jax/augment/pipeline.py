"""From `config.augment` to the augmentation of a train step.

`OPERATIONS` lists the operations in the order in which they are applied: crops,
flips, warps, policies, colour, filters, JPEG, erasing. `GROUPS` lists what
combines some of them. The draws for an example depend only on its key.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, filters, photometric, policies, tone
from mixaug_jax.augment.augmix_policy import augmix_examples
from mixaug_jax.augment.autoaugment import auto_augment_examples
from mixaug_jax.augment.combinators import (
  map_examples,
  random_apply,
  random_choice,
)
from mixaug_jax.augment.crops import center_crop, pad, random_crop
from mixaug_jax.augment.erasing import random_erasing
from mixaug_jax.augment.flips import (
  random_flip_left_right,
  random_flip_up_down,
  random_rot90,
)
from mixaug_jax.augment.jitter import color_jitter
from mixaug_jax.augment.jpeg import random_jpeg_quality
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.resizing import random_resized_crop, resize
from mixaug_jax.augment.warp_affine import random_affine, random_rotation
from mixaug_jax.augment.warp_elastic import random_elastic
from mixaug_jax.augment.warp_perspective import random_perspective


class Operation(NamedTuple):
  """A row of the table of operations.

  Attributes:
    name: name of its group in `config.augment`.
    function: `(keys [B], images [B, H, W, 3], **settings) -> images`, which
      also checks the settings.
    settings: the leaves of its group, first those of `switches`. A leaf
      `enabled` is not passed to `function`.
    switches: the number of leaves without a default. The operation is on if one
      of them is set.
    optional: the settings that may be None if the operation is on; then
      `function` has its own default.
    crops: true if `function` takes a `size` as well and returns images of that
      size.
    moves: true if pixels only change places, so that uint8 images stay uint8.
    clips: true if the result is clipped to [0, 1].
  """

  name: str
  function: Callable[..., jax.Array]
  settings: tuple[str, ...]
  switches: int = 1
  optional: tuple[str, ...] = ()
  crops: bool = False
  moves: bool = False
  clips: bool = False


def _each(function):
  """Maps a function of one key and one image over a batch."""
  return lambda keys, images, **settings: jax.vmap(
    lambda key, image: function(key, image, **settings)
  )(keys, images)


_FACTORS = ("lower", "upper")
OPERATIONS = (
  Operation(
    "pad",
    lambda keys, images, padding, mode, fill: pad(images, padding, mode, fill),
    ("padding", "mode", "fill"),
    moves=True,
  ),
  Operation(
    "resize",
    lambda keys, images, size: resize(images, size),
    ("enabled",),
    crops=True,
  ),
  Operation(
    "random_resized_crop",
    _each(random_resized_crop),
    ("min_area", "max_area", "min_aspect", "max_aspect"),
    crops=True,
  ),
  Operation(
    "random_crop",
    _each(random_crop),
    ("padding", "padding_mode", "fill"),
    crops=True,
    moves=True,
  ),
  Operation(
    "random_flip_left_right",
    _each(random_flip_left_right),
    ("probability",),
    moves=True,
  ),
  Operation(
    "random_flip_up_down",
    _each(random_flip_up_down),
    ("probability",),
    moves=True,
  ),
  Operation("random_rot90", _each(random_rot90), ("probability",), moves=True),
  Operation(
    "random_rotation",
    _each(random_rotation),
    ("max_degrees", "min_degrees", "fill"),
    optional=("min_degrees",),
  ),
  Operation(
    "random_affine",
    _each(random_affine),
    (
      "max_degrees",
      "max_translate",
      "min_scale",
      "max_scale",
      "max_shear",
      "fill",
    ),
    switches=5,
    optional=(
      "max_degrees",
      "max_translate",
      "min_scale",
      "max_scale",
      "max_shear",
    ),
  ),
  Operation(
    "random_perspective",
    _each(random_perspective),
    ("distortion", "probability", "fill"),
  ),
  Operation(
    "random_elastic", _each(random_elastic), ("alpha", "sigma", "fill")
  ),
  Operation("trivial_augment", policies.trivial_augment_examples, ("enabled",)),
  Operation(
    "rand_augment",
    policies.rand_augment_examples,
    ("num_layers", "magnitude"),
  ),
  Operation("auto_augment", auto_augment_examples, ("policy",)),
  Operation(
    "augmix",
    augmix_examples,
    ("severity", "width", "depth", "alpha", "all_operations"),
  ),
  # tf.image leaves floats beyond [0, 1] after brightness and contrast.
  Operation(
    "random_brightness",
    _each(photometric.random_brightness),
    ("max_delta",),
    clips=True,
  ),
  Operation(
    "random_contrast",
    _each(photometric.random_contrast),
    _FACTORS,
    switches=2,
    clips=True,
  ),
  Operation("random_hue", _each(photometric.random_hue), ("max_delta",)),
  Operation(
    "random_saturation",
    _each(photometric.random_saturation),
    _FACTORS,
    switches=2,
  ),
  Operation(
    "color_jitter",
    _each(color_jitter),
    ("brightness", "contrast", "saturation", "hue"),
    switches=4,
    optional=("brightness", "contrast", "saturation", "hue"),
  ),
  Operation(
    "random_gamma", _each(photometric.random_gamma), _FACTORS, switches=2
  ),
  Operation(
    "random_grayscale",
    _each(photometric.random_grayscale),
    ("probability",),
  ),
  Operation("random_invert", _each(tone.random_invert), ("probability",)),
  Operation(
    "random_solarize",
    _each(tone.random_solarize),
    ("probability", "threshold"),
  ),
  Operation(
    "random_posterize", _each(tone.random_posterize), ("probability", "bits")
  ),
  Operation(
    "random_autocontrast", _each(tone.random_autocontrast), ("probability",)
  ),
  Operation("random_equalize", _each(tone.random_equalize), ("probability",)),
  Operation(
    "random_sharpness", _each(filters.random_sharpness), _FACTORS, switches=2
  ),
  Operation(
    "random_gaussian_blur",
    _each(filters.random_gaussian_blur),
    ("kernel_size", "min_sigma", "max_sigma", "probability"),
  ),
  Operation(
    "random_gaussian_noise", _each(filters.random_gaussian_noise), ("stddev",)
  ),
  Operation(
    "random_jpeg_quality",
    _each(random_jpeg_quality),
    ("min_jpeg_quality", "max_jpeg_quality"),
    switches=2,
  ),
  Operation(
    "random_erasing",
    _each(random_erasing),
    (
      "probability",
      "min_area",
      "max_area",
      "min_aspect",
      "max_aspect",
      "fill",
    ),
    optional=("fill",),
  ),
)


# What combines the operations that its `names` lists, such as "a,b".
GROUPS = ("random_apply", "random_choice")


def make_augment(
  config: Any, image_size: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Builds the augmentation of `config.augment`.

  The operations of `random_apply.names` and `random_choice.names`, which must
  be on, are combined. They take the place of the first of them.

  Args:
    config: a group of settings for each operation, as in configs/default.py;
      an operation without a group is off.
    image_size: pixels a side of the output.

  Returns:
    A function `(keys [B], images [B, H, W, 3]) -> [B, image_size, image_size,
    3]` from uint8, or float in [0, 1], to float in [0, 1]. If no operation
    crops, the middle is cut out; images smaller than `image_size` are an error.
    uint8 images give the result of the same images over 255 in less time.

  Raises:
    ValueError: a setting is out of range, or names cannot be combined; the
      message names the operation.
  """
  chain = []
  for row in OPERATIONS:
    if (settings := _settings(row, config)) is not None:
      if row.crops:
        settings["size"] = image_size
      _check(row, settings, image_size)
      chain.append(row._replace(function=_bound(row, settings)))
  crops = any(row.crops for row in chain)
  _check_crops(config, {row.name for row in chain})
  for group in GROUPS:
    chain = _combined(group, getattr(config, group, None), chain)

  @on_any_mesh
  def augment(keys: jax.Array, images: jax.Array) -> jax.Array:
    check.batch(images)
    if not crops:
      images = center_crop(images, image_size)
    for number, row in enumerate(chain):
      # Images stay uint8 as long as pixels only move, which takes a quarter of
      # the memory traffic of float32.
      if not row.moves:
        images = _to_float(images)
      # Keys are folded, not split, so that an operation added at the end does
      # not change the draws of the earlier ones.
      own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
      images = row.function(own, images)
    return _to_float(images)

  return augment


def _check_crops(config: Any, on: set[str]) -> None:
  """Raises ValueError for an operation that would have no effect."""
  windows = on & {"resize", "random_resized_crop"}
  if len(windows) == 2:
    raise ValueError("augment: use only one of resize and random_resized_crop")
  if windows and "random_crop" in on and not config.random_crop.padding:
    raise ValueError(
      f"augment.random_crop: {windows.pop()} leaves nothing to crop; set "
      "padding above 0, or to none"
    )
  if "pad" in on and not windows and "random_crop" not in on:
    raise ValueError(
      "augment.pad: the middle crop would remove the padding; set "
      "augment.random_crop.padding=0, or another crop"
    )


def needs_margin(config: Any) -> bool:
  """Returns whether a crop takes all its pixels from the stored image.

  Such a crop needs stored images that are larger than the network's input. A
  random crop takes the margin from the padding if there is any, and `resize`
  leaves none.

  Args:
    config: as in `make_augment`.
  """
  random_crop = config.random_crop.padding == 0 and not config.pad.padding
  random_resized_crop = config.random_resized_crop.min_area is not None
  return not config.resize.enabled and (random_crop or random_resized_crop)


def without_effect(config: Any, defaults: Any) -> list[str]:
  """Names the settings of operations that are off, such as `pad.fill`.

  Args:
    config: as in `make_augment`.
    defaults: the same with the values that are not reported.
  """
  return [
    f"{row.name}.{key}"
    for row in OPERATIONS
    if not _switched_on(row, config[row.name])
    for key in row.settings[row.switches :]
    if config[row.name][key] != defaults[row.name][key]
  ]


def is_on(config: Any, name: str) -> bool:
  """Returns whether an operation is on.

  Args:
    config: as in `make_augment`.
    name: of the operation.
  """
  rows = [row for row in OPERATIONS if row.name == name]
  return any(_switched_on(row, config[name]) for row in rows)


def _to_float(images):
  return images / 255.0 if images.dtype == jnp.uint8 else images


def _bound(row: Operation, settings: dict[str, Any]):
  """Returns the function `(keys, images) -> images` of an operation."""

  def function(keys, images):
    images = row.function(keys, images, **settings)
    return jnp.clip(images, 0, 1) if row.clips else images

  return function


def _combined(
  group: str, config: Any, chain: Sequence[Operation]
) -> list[Operation]:
  """Returns the chain with the operations of `config.names` in one row."""
  if config is None or config.names is None:
    return list(chain)
  where = f"augment.{group}.names"
  names = [name.strip() for name in config.names.split(",") if name.strip()]
  if not names:
    raise ValueError(f"{where} is empty; set it to none or name operations")
  known = {row.name: row for row in OPERATIONS}
  on = {row.name: row for row in chain}
  abstract = _abstract(64)
  for name in names:
    check.choice(where, name, tuple(known))
    if names.count(name) > 1:
      raise ValueError(f"{where}: {name} occurs twice; name it once")
    if name not in on:
      raise ValueError(
        f"{where}: {name} is off or in another group; set "
        f"augment.{name}.{known[name].settings[0]} and name it in one group"
      )
    result = jax.eval_shape(on[name].function, *abstract)
    if on[name].crops or result.shape != abstract[1].shape:
      raise ValueError(f"{where}: {name} changes the size; leave it out")
  rows = [row for row in chain if row.name in names]
  parts = [_of_one(row.function) for row in rows]
  try:
    one = (
      random_apply(parts, config.probability)
      if group == "random_apply"
      else random_choice(parts)
    )
  except ValueError as error:
    raise ValueError(f"augment.{group}: {error}") from None
  combined = Operation(
    group,
    lambda keys, images: map_examples(one, keys, images),
    (),
    moves=all(row.moves for row in rows),
  )
  place = chain.index(rows[0])
  others = [row for row in chain if row.name not in names]
  return [*others[:place], combined, *others[place:]]


def _of_one(function):
  """Turns a function of a batch and its keys into one of an image."""
  return lambda key, image: function(key[None], image[None])[0]


def _switched_on(row: Operation, group: Any) -> list[str]:
  """Returns the settings that switch an operation on."""
  settings = {key: getattr(group, key) for key in row.settings[: row.switches]}
  return [
    key for key, x in settings.items() if x is not None and x is not False
  ]


def _settings(row: Operation, config: Any) -> dict[str, Any] | None:
  """Returns the settings of an operation, or None if it is off."""
  group = getattr(config, row.name, None)
  if group is None:
    return None
  on = _switched_on(row, group)
  if not on:
    return None
  settings = {key: getattr(group, key) for key in row.settings}
  for key, value in settings.items():
    if value is None and key not in row.optional:
      raise ValueError(
        f"augment.{row.name}: {key} must be set if {on[0]} is set"
      )
  return {
    key: value
    for key, value in settings.items()
    if key != "enabled" and value is not None
  }


def _check(row: Operation, settings: dict[str, Any], size: int) -> None:
  """Lets an operation check its settings by tracing it on abstract arrays."""
  function = lambda *args: row.function(*args, **settings)
  try:
    jax.eval_shape(function, *_abstract(size))
  except ValueError as error:
    raise ValueError(f"augment.{row.name}: {error}") from None


def _abstract(size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
  """Returns a batch of one key and one image without values."""
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
  return keys, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
