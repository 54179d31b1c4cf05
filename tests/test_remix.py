"""Remix: the labels of pairs of rare and common classes."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mixaug_jax import augment
from mixaug_jax import config as config_lib
from mixaug_jax.analysis import contact_sheet
from mixaug_jax.configs import default
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment

KEY = jax.random.key(3)
BATCH = 16
# Every example has a class of its own, so that the label names the partner.
COUNTS = np.array([1, 2, 3, 4, 6, 9, 12, 27] * 2)
IMAGES = jnp.asarray(
  np.random.default_rng(0).random((BATCH, 8, 8, 3), np.float32)
)
LABELS = jnp.eye(BATCH, dtype=jnp.float32)
UNDEFINED = ("cutout", "jigsaw", "mosaic", "snapmix", "tokenmix")
NETWORK = {
  name: lambda images, labels: jnp.mean(images, axis=-1)[:, ::4, ::4]
  for name in ("attention", "class_map", "saliency")
}


def by_the_paper(lam, own, other, kappa=3.0, tau=0.5):
  """The rule of one pair in Python, from equation 8 of the paper."""
  if own / other >= kappa and lam < tau:
    return 0.0
  if own / other <= 1 / kappa and 1 - lam < tau:
    return 1.0
  return lam


def expected_labels(labels, **settings):
  """Applies the rule to labels that were mixed without it."""
  wanted = np.zeros_like(labels)
  for row, label in enumerate(labels):
    others = np.flatnonzero((label > 0) & (np.arange(BATCH) != row))
    other = others[0] if len(others) else row
    lam = label[row]
    if other != row:
      lam = by_the_paper(lam, COUNTS[row], COUNTS[other], **settings)
      wanted[row, other] = 1 - lam
    wanted[row, row] = lam
  return wanted


@pytest.mark.parametrize(
  ("lam", "own", "other", "wanted"),
  [
    (0.4, 9, 3, 0.0),  # The rare partner takes the label,
    (0.5, 9, 3, 0.5),  # not if the common image has half of the pixels,
    (0.4, 8, 3, 0.4),  # and not at a smaller ratio.
    (0.6, 3, 9, 1.0),  # The rare image keeps the label.
    (0.5, 3, 9, 0.5),
    (0.6, 3, 8, 0.6),
    (0.3, 3, 9, 0.3),
    (1.0, 9, 1, 1.0),  # An example that is not mixed stays as it is.
    (1.0, 1, 9, 1.0),
  ],
)
def test_the_rule(lam, own, other, wanted):
  remix = augment.Remix(np.array([own, other]))
  found = remix.lam(jnp.float32([lam]), jnp.array([0]), jnp.array([1]))
  np.testing.assert_allclose(found, [wanted], rtol=1e-6)
  assert by_the_paper(lam, own, other) == wanted


@pytest.mark.parametrize(("kappa", "tau"), [(3, 0.5), (1.5, 1.0), (27, 0.8)])
def test_labels_follow_the_rule_and_images_stay(kappa, tau):
  settings = {"per_example": True, "probability": 0.9}
  mixers = (augment.Mixup(1.0), augment.Cutout())
  changed = 0
  for seed in range(8):
    arguments = (jax.random.key(seed), IMAGES, LABELS, mixers)
    plain = augment.mix(*arguments, **settings)
    remix = augment.Remix(COUNTS, kappa, tau)
    images, labels = augment.mix(*arguments, **settings, remix=remix)
    chex.assert_trees_all_equal(images, plain[0])
    wanted = expected_labels(np.asarray(plain[1]), kappa=kappa, tau=tau)
    np.testing.assert_allclose(labels, wanted, atol=1e-6)
    changed += (np.asarray(labels) != plain[1]).any()
  assert changed


@pytest.mark.parametrize("name", sorted({*augment.MIXERS} - {*UNDEFINED}))
def test_every_mixer_of_one_lambda_a_pair_follows_the_rule(name):
  mixers = (augment.MIXERS[name](),)
  mix = lambda tau: augment.mix(
    *(KEY, IMAGES, LABELS, mixers),
    network=NETWORK,
    remix=augment.Remix(COUNTS, tau=tau),
  )
  plain, found = mix(0.0), mix(0.5)  # No weight is below 0.
  chex.assert_trees_all_equal(found[0], plain[0])
  wanted = expected_labels(np.asarray(plain[1]))
  np.testing.assert_allclose(found[1], wanted, atol=1e-6)


def settings_of(**values):
  config = default.get_config().mix
  config.update(values)
  return config


@pytest.mark.parametrize("name", UNDEFINED)
def test_other_mixers_are_refused(name):
  with pytest.raises(ValueError, match=r"^mix\.remix_kappa .* leave it unset"):
    augment.make_mixer(settings_of(name=name, remix_kappa=3.0))


@pytest.mark.parametrize(
  ("values", "sentence"),
  [
    ({"remix_kappa": 0.9}, "mix.remix_kappa must be at least 1"),
    ({"remix_kappa": 3.0, "remix_tau": 1.5}, "mix.remix_tau must be"),
  ],
)
def test_wrong_settings_are_refused_before_data_are_read(values, sentence):
  overrides = {f"mix.{key}": x for key, x in values.items()}
  config = config_lib.load("cutmix", {**overrides, "data.dir": "absent"})
  with pytest.raises(UserError, match=sentence):
    experiment.check(config)


def test_counts_must_be_those_of_the_classes():
  for counts, sentence in (
    (None, "needs class_counts"),
    (COUNTS[:-1], "the shape"),
    (-COUNTS, "negative"),
  ):
    remix = augment.Remix(counts)
    with pytest.raises(ValueError, match=sentence):
      augment.mix(KEY, IMAGES, LABELS, (augment.Mixup(),), remix=remix)


def test_a_tau_without_kappa_is_reported():
  config = config_lib.load("cutmix", {"mix.remix_tau": "0.4"})
  assert config_lib.without_effect(config) == [
    "config.mix.remix_tau has no effect, because config.mix.remix_kappa is "
    "unset"
  ]


@pytest.mark.parametrize(
  ("how", "group"), [("pmap", 8), ("shard_map", 4), ("explicit", 8)]
)
def test_the_number_of_devices_changes_nothing(how, group):
  mixers, remix = (augment.Mixup(1.0),), augment.Remix(COUNTS)
  settings = {"per_example": True, "group_size": group, "remix": remix}
  alone = augment.mix(KEY, IMAGES, LABELS, mixers, **settings)
  assert (np.sort(np.asarray(alone[1]), 1)[:, -1] == 1).any()

  def of_share(images, labels):
    shard = augment.Shard.over("data")
    return augment.mix(KEY, images, labels, mixers, shard=shard, **settings)

  if how == "pmap":
    split = lambda x: x.reshape(4, -1, *x.shape[1:])
    found = jax.pmap(of_share, "data")(split(IMAGES), split(LABELS))
    found = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
  else:
    kind = AxisType.Explicit if how == "explicit" else AxisType.Auto
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    spec = PartitionSpec("data")
    arrays = jax.device_put((IMAGES, LABELS), NamedSharding(mesh, spec))
    if how == "shard_map":
      specs = {"in_specs": (spec, spec), "out_specs": (spec, spec)}
      run = jax.jit(jax.shard_map(of_share, mesh=mesh, **specs))
    else:
      run = lambda x, y: augment.mix(KEY, x, y, mixers, **settings)
    found = run(*arrays)
  chex.assert_trees_all_close(found, alone, atol=1e-6)


def test_a_mixer_between_stages_follows_the_rule():
  values = {"name": "manifold_mixup", "remix_kappa": 3.0, "alpha": 1.0}
  mixer = augment.with_class_counts(
    augment.make_mixer(settings_of(**values)), COUNTS
  )
  del values["remix_kappa"]
  plain = augment.make_mixer(settings_of(**values))
  stages, mix_after = augment.between_stages(mixer)
  _, plain_after = augment.between_stages(plain)
  for seed in range(6):
    key, results = jax.random.key(seed), []
    for at_input, after in ((plain, plain_after), (mixer, mix_after)):
      x, labels = at_input(key, IMAGES, LABELS)
      for place in range(1, stages + 1):
        x, labels = after(place, key, x, labels)
      results.append(labels)
    wanted = expected_labels(np.asarray(results[0]))
    np.testing.assert_allclose(results[1], wanted, atol=1e-6)


def test_a_run_uses_the_counts_of_its_training_images():
  values = {
    "data.examples_per_class": "60",
    "data.imbalance_factor": "20",
    "mix.remix_kappa": "3",
  }
  exp = experiment.build(config_lib.load("cutmix", values))
  counts = np.bincount(exp.datasets.train.labels)
  remix = exp.recipe.mixer.keywords["remix"]
  np.testing.assert_array_equal(remix.class_counts, counts)
  arguments = [x.tolist() for x in exp.recipe.hyperparameters()]
  assert counts.tolist() in arguments  # Not a constant of the program.


def test_the_preview_shows_the_labels_of_remix():
  values = {
    "data.examples_per_class": "20",
    "data.imbalance_factor": "10",
    "mix.probability": "1",
  }
  shown = lambda **more: contact_sheet.training_batch(
    config_lib.load("cutmix", {**values, **more}), 0
  )
  plain, remixed = shown(), shown(**{"mix.remix_kappa": "3"})
  np.testing.assert_array_equal(plain[2], remixed[2])
  assert sum("+" in x for x in remixed[3]) < sum("+" in x for x in plain[3])


def test_off_means_no_counts_and_no_change():
  mixer = augment.make_mixer(settings_of(name="cutmix"))
  assert augment.with_class_counts(mixer, COUNTS) is mixer
  assert "remix" not in mixer.keywords
  assert dataclasses.fields(augment.Remix)[0].default is None
