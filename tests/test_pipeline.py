import dataclasses
import functools
import pathlib
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import basic, cutmix, default
from mixaug_jax import augment
from mixaug_jax import config as config_lib
from mixaug_jax.augment.pipeline import GROUPS, OPERATIONS, without_effect

DOCS = pathlib.Path(__file__).parents[1] / "docs"
KEY = jax.random.key(1)
IMAGES = jax.random.uniform(KEY, (6, 20, 20, 3))
LABELS = jnp.eye(6)
# A setting that switches each operation on, and one that is out of range.
SETTINGS = {
  "pad": ({"padding": 2}, {"padding": 2, "mode": "zeros"}),
  "resize": ({"enabled": True}, None),
  "random_resized_crop": ({"min_area": 0.5}, {"min_area": 0.0}),
  "random_crop": ({"padding": 2}, {"padding": 2, "fill": -1.0}),
  "random_flip_left_right": ({"probability": 0.5}, {"probability": 1.2}),
  "random_flip_up_down": ({"probability": 0.5}, {"probability": -0.2}),
  "random_rot90": ({"probability": 0.5}, {"probability": 1.2}),
  "random_rotation": (
    {"max_degrees": 20.0},
    {"max_degrees": 20.0, "min_degrees": 21.0},
  ),
  "random_affine": (
    {"max_degrees": 20.0, "max_translate": 0.1},
    {"max_degrees": 20.0, "min_scale": 2.0},
  ),
  "random_perspective": ({"distortion": 0.5}, {"distortion": 1.5}),
  "random_elastic": ({"alpha": 20.0}, {"alpha": 20.0, "sigma": 0.0}),
  "trivial_augment": ({"enabled": True}, None),
  "rand_augment": ({"num_layers": 1}, {"num_layers": 0}),
  "auto_augment": ({"policy": "svhn"}, {"policy": "mnist"}),
  "augmix": ({"severity": 5, "width": 1, "depth": 1}, {"severity": 11}),
  "random_brightness": ({"max_delta": 0.4}, {"max_delta": -0.1}),
  "random_contrast": (
    {"lower": 0.5, "upper": 1.5},
    {"lower": 1.5, "upper": 0.5},
  ),
  "random_hue": ({"max_delta": 0.2}, {"max_delta": 0.6}),
  "random_saturation": (
    {"lower": 0.5, "upper": 1.5},
    {"lower": 0.5, "upper": None},
  ),
  "color_jitter": ({"brightness": 0.4, "hue": 0.1}, {"brightness": -0.1}),
  "random_gamma": ({"lower": 0.5, "upper": 2.0}, {"lower": -1.0, "upper": 2.0}),
  "random_grayscale": ({"probability": 0.5}, {"probability": 2.0}),
  "random_invert": ({"probability": 0.5}, {"probability": 2.0}),
  "random_solarize": (
    {"probability": 0.5},
    {"probability": 0.5, "threshold": 128.0},
  ),
  "random_posterize": ({"probability": 0.5}, {"probability": 0.5, "bits": 9}),
  "random_autocontrast": ({"probability": 0.5}, {"probability": 2.0}),
  "random_equalize": ({"probability": 0.5}, {"probability": 2.0}),
  "random_sharpness": (
    {"lower": 0.5, "upper": 1.5},
    {"lower": 1.5, "upper": 0.5},
  ),
  "random_gaussian_blur": ({"kernel_size": 5}, {"kernel_size": 4}),
  "random_gaussian_noise": ({"stddev": 0.1}, {"stddev": -0.1}),
  "random_jpeg_quality": (
    {"min_jpeg_quality": 20, "max_jpeg_quality": 60},
    {"min_jpeg_quality": 20, "max_jpeg_quality": 101},
  ),
  "random_erasing": ({"probability": 0.5}, {"probability": 0.5, "min_area": 2}),
}


FIXED = ("pad", "resize")  # The same for every example.


def configured(**operations):
  config = default.get_config().augment
  for name, settings in operations.items():
    config[name].update(settings)
  return config


def keys(positions=range(6), step=3):
  return augment.example_keys(KEY, step, jnp.asarray(positions))


@functools.cache
def everything():
  config = configured(**{name: on for name, (on, _) in SETTINGS.items()})
  config.trivial_augment.enabled = False  # It compiles what RandAugment does.
  config.auto_augment.policy = None  # As well.
  config.resize.enabled = False  # random_resized_crop takes its place.
  return jax.jit(augment.make_augment(config, 16))


def test_every_operation_of_the_config_is_tested():
  assert {*SETTINGS, *GROUPS} == set(default.get_config().augment)


def test_the_table_of_operations_has_their_order_and_leaves():
  assert [row.name for row in OPERATIONS] == list(SETTINGS)
  config = default.get_config().augment
  for row in OPERATIONS:
    assert set(row.settings) == set(config[row.name])


@pytest.mark.parametrize("name", [x for x in SETTINGS if x not in FIXED])
def test_each_operation_is_switched_on_by_its_setting(name):
  images = jnp.broadcast_to(IMAGES[0], IMAGES.shape)
  run = augment.make_augment(configured(**{name: SETTINGS[name][0]}), 16)
  augmented = jax.jit(run)(keys(), images)
  assert augmented.shape == (6, 16, 16, 3)
  assert len({np.asarray(x).tobytes() for x in augmented}) > 1
  assert -1e-6 <= augmented.min() <= augmented.max() <= 1 + 1e-6


def test_resizing_shows_the_whole_stored_image():
  run = augment.make_augment(configured(resize={"enabled": True}), 16)
  expected = augment.resize(IMAGES, 16)
  np.testing.assert_array_equal(run(keys(), IMAGES), expected)


def test_padding_is_what_the_crops_take_from():
  """Padding apart from the crop is that of the crop."""
  crop = {"padding": 3, "padding_mode": "constant", "fill": 0.5}
  alone = augment.make_augment(configured(random_crop=crop), 16)
  pad = {"padding": 3, "fill": 0.5}
  config = configured(pad=pad, random_crop={"padding": 0})
  after = augment.make_augment(config, 16)
  shapes = [jax.eval_shape(run, keys(), IMAGES).shape for run in (alone, after)]
  assert shapes == [(6, 16, 16, 3)] * 2
  config.resize.enabled, config.random_crop.padding = True, None
  resized = augment.make_augment(config, 16)(keys(), IMAGES)
  expected = augment.resize(augment.pad(IMAGES, 3, fill=0.5), 16)
  np.testing.assert_array_equal(resized, expected)
  with pytest.raises(ValueError, match=r"augment.pad: the middle crop would"):
    augment.make_augment(configured(pad=pad), 16)


def test_the_usual_crop_of_cifar_is_one_setting_away():
  config = configured(random_crop={"padding": 8})
  for mode, black in (("reflect", False), ("constant", True)):
    config.random_crop.padding_mode = mode
    images = augment.make_augment(config, 20)(keys(), IMAGES)
    assert bool((images == 0).all(-1).any()) == black


def test_optional_settings_reach_their_operation():
  config = configured(random_erasing={"probability": 1.0, "fill": 0.25})
  images = augment.make_augment(config, 20)(keys(), IMAGES)
  erased = (images != IMAGES).any(-1)
  assert erased.any((1, 2)).all()
  assert (images[erased] == 0.25).all()
  range_of = {"max_degrees": 91.0, "min_degrees": 89.0}
  config = configured(random_rotation=range_of)
  images = augment.make_augment(config, 20)(keys(), IMAGES)
  turned = jnp.rot90(IMAGES, 1, (1, 2))
  assert jnp.abs(images - turned)[:, 8:12, 8:12].max() < 0.3


@pytest.mark.parametrize(
  ("operations", "margin"),
  [
    ({}, False),
    ({"random_crop": {"padding": 0}}, True),
    ({"random_crop": {"padding": 2}}, False),
    ({"random_crop": {"padding": 0}, "pad": {"padding": 2}}, False),
    ({"random_crop": {"padding": 0}, "resize": {"enabled": True}}, False),
    ({"random_resized_crop": {"min_area": 0.5}}, True),
    (
      {"random_resized_crop": {"min_area": 0.5}, "random_crop": {"padding": 2}},
      True,
    ),
    (
      {"random_resized_crop": {"min_area": 0.5}, "resize": {"enabled": True}},
      False,
    ),
    ({"resize": {"enabled": True}}, False),
  ],
)
def test_a_margin_is_needed_where_a_crop_takes_stored_pixels(
  operations, margin
):
  assert augment.needs_margin(configured(**operations)) == margin


def test_augmentation_on_a_mesh_with_explicit_axes():
  run = augment.make_augment(configured(random_crop={"padding": 2}), 16)
  kinds = (jax.sharding.AxisType.Explicit,)
  mesh = jax.make_mesh((2,), ("data",), axis_types=kinds)
  over = jax.NamedSharding(mesh, jax.P("data"))
  sharded = run(*jax.device_put((keys(), IMAGES), over))
  np.testing.assert_array_equal(sharded, run(keys(), IMAGES))


@pytest.mark.parametrize(
  "name", [name for name, (_, wrong) in SETTINGS.items() if wrong]
)
def test_a_setting_out_of_range_names_its_operation(name):
  config = configured(**{name: SETTINGS[name][1]})
  with pytest.raises(ValueError, match=f"augment.{name}: ") as caught:
    augment.make_augment(config, 16)
  assert "\n" not in str(caught.value)


def test_nothing_on_takes_the_middle():
  run = augment.make_augment(default.get_config().augment, 16)
  np.testing.assert_array_equal(run(keys(), IMAGES), IMAGES[:, 2:18, 2:18])


def test_images_too_small_are_reported():
  run = augment.make_augment(default.get_config().augment, 24)
  with pytest.raises(ValueError, match="does not fit"):
    run(keys(), IMAGES)


def test_draws_depend_on_seed_step_and_position_alone():
  """Not on the neighbours, nor on the place within this device's share."""
  run = everything()
  together = run(keys(), IMAGES)
  chex.assert_trees_all_equal(run(keys(), IMAGES), together)
  order = np.array([3, 0, 5, 1, 4, 2])
  shuffled = run(keys(order), IMAGES[order])
  chex.assert_trees_all_equal(shuffled, together[order])
  for other in (
    keys(step=4),
    augment.example_keys(jax.random.key(2), 3, jnp.arange(6)),
  ):
    changed = (run(other, IMAGES) != together).any((1, 2, 3))
    assert changed.all()


def test_uint8_images_are_augmented_as_the_same_floats():
  levels = jnp.round(255 * IMAGES).astype(jnp.uint8)
  names = ("random_crop", "random_flip_left_right", "random_contrast")
  config = configured(**{name: SETTINGS[name][0] for name in names})
  run = jax.jit(augment.make_augment(config, 16))
  chex.assert_trees_all_close(
    run(keys(), levels), run(keys(), levels / 255.0), atol=1e-6
  )
  bare = augment.make_augment(default.get_config().augment, 16)
  assert bare(keys(), levels).dtype == jnp.float32


def combined(group, names, **settings):
  """Returns the augmentation with the operations of `names` on, in a group."""
  on = {
    name.strip(): SETTINGS[name.strip()][0]
    for name in names.split(",")
    if name.strip() in SETTINGS
  }
  return augment.make_augment(
    configured(**on, **{group: {"names": names, **settings}}), 20
  )


def test_operations_are_applied_together_or_not_at_all():
  """An image is upside down if and only if its brightness has changed."""
  names = "random_flip_up_down, random_brightness"
  config = configured(
    random_flip_up_down={"probability": 1.0},
    random_brightness={"max_delta": 0.3},
    random_apply={"names": names, "probability": 0.5},
  )
  run = jax.jit(augment.make_augment(config, 20))
  many = augment.example_keys(KEY, 0, jnp.arange(200))
  images = jnp.broadcast_to(IMAGES[0] / 2 + 0.25, (200, 20, 20, 3))
  augmented = run(many, images)
  same = np.asarray((augmented == images).all((1, 2, 3)))
  assert abs(same.mean() - 0.5) < 5 * 0.5 / np.sqrt(200)
  shift = np.asarray(augmented - images[:, ::-1])[~same]
  shift -= shift.mean((1, 2, 3), keepdims=True)
  clipped = np.asarray((augmented == 0) | (augmented == 1))[~same]
  np.testing.assert_allclose(np.where(clipped, 0, shift), 0, atol=0.1)


def test_one_of_several_operations_is_applied():
  config = configured(
    random_flip_up_down={"probability": 1.0},
    random_flip_left_right={"probability": 1.0},
    random_choice={"names": "random_flip_up_down,random_flip_left_right"},
  )
  run = jax.jit(augment.make_augment(config, 20))
  images = jnp.broadcast_to(IMAGES[0], (200, 20, 20, 3))
  augmented = run(augment.example_keys(KEY, 0, jnp.arange(200)), images)
  is_ = lambda other: np.asarray((augmented == other).all((1, 2, 3)))
  upside_down, mirrored = is_(images[:, ::-1]), is_(images[:, :, ::-1])
  assert (upside_down ^ mirrored).all()
  assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(200)
  # Pixels only move, so that uint8 images stay uint8 until the end.
  levels = jnp.round(255 * images).astype(jnp.uint8)
  chex.assert_trees_all_close(
    run(augment.example_keys(KEY, 0, jnp.arange(200)), levels),
    jnp.round(255 * augmented) / 255,
    atol=1e-6,
  )


def test_combined_operations_take_the_place_of_the_first():
  """Others keep their order; the count of operations numbers the draws."""
  settings = {
    name: SETTINGS[name][0]
    for name in ("random_flip_up_down", "random_brightness", "random_hue")
  }
  names = "random_flip_up_down,random_hue"
  run = augment.make_augment(
    configured(**settings, random_apply={"names": names, "probability": 0.0}),
    20,
  )
  fold = lambda number: jax.vmap(jax.random.fold_in, (0, None))(keys(), number)
  bright = jax.vmap(lambda k, x: augment.random_brightness(k, x, 0.4))
  np.testing.assert_allclose(
    run(keys(), IMAGES), jnp.clip(bright(fold(1), IMAGES), 0, 1), atol=1e-6
  )


@pytest.mark.parametrize(
  ("group", "names", "words"),
  [
    ("random_apply", "random_hues", "names must be one of pad, resize"),
    ("random_choice", "random_crop,random_hue", "random_crop changes the size"),
    ("random_choice", "random_hue,random_hue", "random_hue occurs twice"),
    ("random_choice", "", "names is empty"),
  ],
)
def test_names_that_cannot_be_combined_are_reported(group, names, words):
  with pytest.raises(ValueError, match=f"augment.{group}.*{words}") as caught:
    combined(group, names)
  assert "\n" not in str(caught.value)


def test_an_operation_of_a_group_must_be_on_and_in_no_other():
  settings = {"random_hue": {"max_delta": 0.2}}
  off = configured(random_apply={"names": "random_hue"})
  twice = configured(
    random_apply={"names": "random_hue"},
    random_choice={"names": "random_hue"},
    **settings,
  )
  for config in (off, twice):
    with pytest.raises(ValueError, match="random_hue is off or in another gr"):
      augment.make_augment(config, 16)
  with pytest.raises(ValueError, match="random_apply: probability must be in"):
    combined("random_apply", "random_hue", probability=1.5)


def test_a_config_from_before_an_operation_is_read():
  config = configured(random_contrast=SETTINGS["random_contrast"][0])
  expected = augment.make_augment(config, 16)(keys(), IMAGES)
  with config.unlocked():
    for name in ("auto_augment", "augmix", *GROUPS):
      del config[name]
  run = augment.make_augment(config, 16)
  chex.assert_trees_all_equal(run(keys(), IMAGES), expected)


def test_keys_are_those_of_the_position():
  raw = jax.random.key_data(keys())
  assert len({x.tobytes() for x in np.asarray(raw)}) == 6
  chex.assert_trees_all_equal(raw[2:4], jax.random.key_data(keys([2, 3])))


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (5, 17), (2**31 - 1, 4)])
def test_the_keys_of_a_step(seed, step):
  """Another formula would change every recorded run."""
  fold = jax.random.fold_in
  root = fold(jax.random.key(seed), step)
  positions = jnp.arange(4, 8)
  run = jax.jit(lambda *args: augment.step_keys(*args, positions))
  keys = run(jnp.uint32(seed), jnp.int32(step))
  expected = augment.StepKeys(
    augment=jnp.stack([fold(fold(root, 0), place) for place in range(4, 8)]),
    mix=fold(root, 1),
    dropout=fold(root, 2),
  )
  chex.assert_trees_all_equal(
    jax.tree.map(jax.random.key_data, keys),
    jax.tree.map(jax.random.key_data, expected),
  )


@pytest.mark.parametrize("dataset", default.DATASETS)
def test_the_recipe_of_tf_image_runs(dataset):
  run = augment.make_augment(basic.get_config(dataset).augment, 16)
  assert jax.eval_shape(run, keys(), IMAGES).shape == (6, 16, 16, 3)


def mixing(**settings):
  config = default.get_config("folder").mix
  with config.unlocked():
    config.update(settings)
  return config


def test_the_mixer_is_that_of_its_functions():
  config = mixing(name="cutmix", per_example=True, max_lambda=0.5)
  mixed = augment.make_mixer(config)(KEY, IMAGES, LABELS)
  expected = augment.cutmix(
    KEY, IMAGES, LABELS, per_example=True, max_lambda=0.5
  )
  chex.assert_trees_all_equal(mixed, expected)


def test_no_alpha_means_the_papers():
  mixer = augment.make_mixer(mixing(name="mixup"))
  chex.assert_trees_all_equal(
    mixer(KEY, IMAGES, LABELS), augment.mixup(KEY, IMAGES, LABELS, 0.2)
  )


def test_several_mixers_by_weight():
  config = mixing(name="cutmix, mixup", weights="0,1", alpha=1.0)
  mixed = augment.make_mixer(config)(KEY, IMAGES, LABELS)
  assert len(np.unique(np.round(mixed[1].max(1), 5))) == 1
  np.testing.assert_allclose(
    mixed[0], np.einsum("ij,jhwc->ihwc", mixed[1], IMAGES), atol=1e-5
  )


def mixers_of(config):
  return augment.make_mixer(config).keywords["mixers"]


def test_every_setting_of_every_mixer_can_be_set():
  for name, kind in augment.MIXERS.items():
    for field in dataclasses.fields(kind):
      factor = 1.5 if field.name == "max_aspect" else 0.7
      config = mixing(name=name)
      if isinstance(field.default, str):
        value = {"beta": "larger", "centred": "halves", "pixels": "swapped"}
        value = value[field.default]
      elif isinstance(field.default, int):
        value = field.default - 1
      else:
        value = factor * field.default + 0.05
      config[name][field.name] = value
      assert mixers_of(config) == (kind(**{field.name: value}),)


def test_in_a_mixture_each_mixer_has_its_own_settings():
  config = mixing(name="cutmix,mixup,cutout", alpha=0.5, max_lambda=0.9)
  config.mixup.alpha = 0.3
  config.mixup.max_lambda = 0.8
  config.cutout.size = 0.25
  expected = (
    augment.CutMix(0.5, max_lambda=0.9),
    augment.Mixup(0.3, max_lambda=0.8),
    augment.Cutout(0.25),
  )
  assert mixers_of(config) == expected
  chex.assert_trees_all_equal(
    augment.make_mixer(config)(KEY, IMAGES, LABELS),
    augment.mix(KEY, IMAGES, LABELS, expected),
  )


@dataclasses.dataclass(frozen=True)
class LeftMix(augment.Mixer):
  """The left part of the partner."""

  share: float = 0.5
  alpha: float = 1.0

  def __post_init__(self):
    if not 0 <= self.share <= 1:
      raise ValueError(f"share must be in [0, 1], got {self.share}")

  def draw(self, key, height, width):
    keep = jnp.arange(width)[:, None] >= round(self.share * width)
    keep = jnp.broadcast_to(keep, (height, width, 1))
    return augment.Drawn(keep, jnp.mean(keep, dtype=jnp.float32))


def test_a_new_mixer_is_a_class_and_a_line(monkeypatch):
  monkeypatch.setitem(augment.MIXERS, "leftmix", LeftMix)
  config = mixing(name="leftmix")
  config.leftmix.share = 0.25
  mixed, labels = augment.make_mixer(config)(KEY, IMAGES, LABELS)
  np.testing.assert_array_equal(mixed[:, :, 5:], IMAGES[:, :, 5:])
  assert (mixed[:, :, :5] != IMAGES[:, :, :5]).any((1, 2, 3)).all()
  np.testing.assert_allclose(jnp.diagonal(labels), 0.75)


@dataclasses.dataclass(frozen=True)
class BatchMix(LeftMix):
  """Its names are its own, and it needs the draw of the batch."""

  share: float | None = None

  def __post_init__(self):
    pass

  def for_batch(self, key):
    return dataclasses.replace(self, share=0.5)

  def draw(self, key, rows, columns):
    return super().draw(key, rows, columns)


def test_a_mixer_of_any_form_passes_the_check_of_the_size(monkeypatch):
  monkeypatch.setitem(augment.MIXERS, "batchmix", BatchMix)
  augment.check_size(augment.make_mixer(mixing(name="batchmix")), 8)


def test_the_mixer_of_the_docs_is_found_in_its_module(tmp_path, monkeypatch):
  page = (DOCS / "extending.md").read_text("utf-8")
  code = page.split("```python\n# my_mixers.py\n")[1].split("```")[0]
  (tmp_path / "my_mixers.py").write_text(code)
  monkeypatch.syspath_prepend(tmp_path)
  config = mixing(name="my_mixers:BandMix")
  (mixer,) = mixers_of(config)
  assert mixer == sys.modules.pop("my_mixers").BandMix(0.5)
  with config.unlocked():
    config.name = f"cutmix,{config.name}"
    config.BandMix = {"max_share": 0.25}
  boxes, bands = mixers_of(config)
  assert (boxes, bands.max_share) == (augment.CutMix(), 0.25)
  own = jnp.diagonal(augment.mix(KEY, IMAGES, LABELS, (bands,))[1])
  assert ((own >= 0.75) & (own < 1)).all()
  sys.modules.pop("my_mixers")


def test_the_docs_list_every_setting_of_every_mixer():
  page = (DOCS / "augmentations.md").read_text("utf-8")
  for name, kind in augment.MIXERS.items():
    settings = dataclasses.fields(kind)
    keys = ", ".join(f"`.{x.name}`" for x in settings)
    keys = keys.replace("`.", f"`mix.{name}.", 1)
    shown = (x.default for x in settings)
    defaults = ", ".join(x if isinstance(x, str) else f"{x:g}" for x in shown)
    assert f"| {name} | {keys} | {defaults} |" in page


def test_a_config_from_before_the_groups_of_the_mixers_is_read():
  config = mixing(name="cutmix", alpha=0.5)
  with config.unlocked():
    for name in augment.MIXERS:
      del config[name]
  assert mixers_of(config) == (augment.CutMix(0.5),)


@pytest.mark.parametrize("name", ["none", "cutmix", "cutmix,mixup"])
def test_mixing_switched_off_really_stops(name):
  """By a traced step, as in training, and to the last bit."""
  mixer = augment.make_mixer(mixing(name=name))
  run = jax.jit(lambda step: mixer(KEY, IMAGES, LABELS, enabled=step < 10))
  chex.assert_trees_all_equal(run(10), (IMAGES, LABELS))
  changed = not np.array_equal(run(9)[0], IMAGES)
  assert changed == (name != "none")


def test_the_recipe_of_cutmix_mixes():
  mixer = augment.make_mixer(cutmix.get_config("folder").mix)
  assert (mixer(KEY, IMAGES, LABELS)[1].max(1) < 1).all()


@pytest.mark.parametrize(
  ("settings", "words"),
  [
    ({"name": "cutmax"}, "mix.name must be one of none, mixup, cutmix"),
    ({"name": "none,cutmix"}, "none cannot be combined with a mixer"),
    ({"name": "cutmix", "alpha": 0.0}, "mix: alpha must be above 0"),
    ({"name": "cutmix", "probability": 1.2}, "mix: probability"),
    ({"name": "cutmix", "partner": "all"}, "mix: partner"),
    ({"name": "cutmix", "min_lambda": 0.9, "max_lambda": 0.1}, "min_lambda"),
    ({"name": "cutmix,mixup", "weights": "1"}, "mix: weights has 1"),
    ({"name": "cutmix,mixup", "weights": "a,b"}, "mix.weights must be numb"),
    ({"name": "cutout", "alpha": 1.0}, "mix.alpha is not a setting of cutout"),
    (
      {"name": "mixup", "max_aspect": 2.0},
      "mix.max_aspect is not a setting of mix",
    ),
    ({"name": "mixup,cutmx"}, "got 'cutmx'; did you mean 'cutmix'?"),
    (
      {"name": "mixup", "cutmix": {"alpha": 1.0}},
      "mix.cutmix.alpha has no effect on mixup; add cutmix to mix.name or set "
      "mix.cutmix.alpha to none",
    ),
    ({"name": "cutmix,mixup", "mixup": {"alpha": 0.0}}, "mix.mixup: alpha"),
    ({"name": "no_such_module:X"}, "there is no module 'no_such_module'"),
    ({"name": "math:pi"}, "mix.name=math:pi is not a class derived from"),
    (
      {"name": f"{__name__}:LeftMix", "LeftMix": {"shore": 1.0}},
      "mix.LeftMix.shore is not a setting of LeftMix, which has share, alpha",
    ),
    (
      {"name": f"{__name__}:LeftMix", "LeftMix": {"share": "half"}},
      "mix.LeftMix: ",
    ),
  ],
)
def test_settings_of_mixing_out_of_range_are_reported(settings, words):
  with pytest.raises(ValueError, match=words) as caught:
    augment.make_mixer(mixing(**settings))
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    ("color_jitter", {"contrast": 0.9}),
    ("random_affine", {"max_shear": 40.0}),
  ],
)
def test_any_setting_without_a_default_switches_an_operation_on(name, settings):
  images = IMAGES[:, :16, :16]
  run = augment.make_augment(configured(**{name: settings}), 16)
  assert not np.allclose(run(keys(), images), images, atol=1e-3)


@pytest.mark.parametrize(
  ("operations", "words"),
  [
    ({"random_contrast": {"upper": 1.5}}, "lower must be set if upper is set"),
    ({"random_apply": {"names": ","}}, "augment.random_apply.names is empty"),
    (
      {"resize": {"enabled": True}, "random_resized_crop": {"min_area": 0.5}},
      "use only one of resize and random_resized_crop",
    ),
    (
      {"resize": {"enabled": True}, "random_crop": {"padding": 0}},
      "augment.random_crop: resize leaves nothing to crop",
    ),
  ],
)
def test_operations_without_effect_are_refused(operations, words):
  with pytest.raises(ValueError, match=words):
    augment.make_augment(configured(**operations), 16)


def test_settings_of_operations_that_are_off_are_named():
  config = default.get_config().augment
  config.random_gaussian_blur.min_sigma = 1.0
  config.random_erasing.fill = 0.5
  config.rand_augment.magnitude = 5
  config.rand_augment.num_layers = 2
  assert without_effect(config, default.get_config().augment) == [
    "random_gaussian_blur.min_sigma",
    "random_erasing.fill",
  ]


def test_settings_of_mixing_that_is_off_are_named():
  config = config_lib.load("configs/baseline.py", {"mix.cutmix.alpha": "0.5"})
  assert config_lib.without_effect(config) == [
    "config.mix.cutmix.alpha has no effect, because config.mix.name=none"
  ]
  config = config_lib.load("configs/baseline.py")
  assert not config_lib.without_effect(config)
  with config.unlocked():
    config.mix.BandMix = {"width": 3}
  assert "config.mix.BandMix.width has no effect, because" in str(
    config_lib.without_effect(config)
  )
