import dataclasses
import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mixaug_jax import augment

# What a network might show: the mean of the channels in four rows and columns.
NETWORK = {
  name: lambda x, y: jax.image.resize(
    x.astype(jnp.float32).mean(-1), (len(x), 4, 4), "linear"
  )
  for name in ("attention", "class_map")
}


def looking(mixer):
  return functools.wraps(mixer)(functools.partial(mixer, network=NETWORK))


MIXERS = (
  augment.mixup,
  augment.cutmix,
  augment.cutout,
  augment.resizemix,
  augment.fmix,
)
# The pixels of each source weigh as much as its label.
MASKS = (augment.cutmix, augment.resizemix, augment.fmix)
NEW_MASKS = (
  augment.gridmix,
  augment.patchmix,
  augment.mosaic,
  augment.saliencymix,
  looking(augment.attentive_cutmix),
  augment.patchup,
)
# Those whose labels have weights of their own come last.
OTHERS = (
  augment.manifold_mixup,
  looking(augment.snapmix),
  looking(augment.tokenmix),
)
ALL = (
  augment.CutMix(),
  augment.Mixup(),
  augment.ResizeMix(),
  augment.FMix(),
  augment.Cutout(),
)
seeds = st.integers(0, 2**31 - 1)
# Few shapes, also in other tests, for each compiles again. B = 1; odd sides.
shapes = st.sampled_from([(1, 8, 8), (5, 16, 7)])
both = pytest.mark.parametrize("per_example", [False, True])
every_mixer = pytest.mark.parametrize("mixer", MIXERS)


def constant_images(shape, dtype=jnp.float32):
  """Image i holds i + 1 everywhere, so a pixel identifies its source."""
  values = jnp.arange(1, shape[0] + 1, dtype=dtype)
  return jnp.broadcast_to(values[:, None, None, None], (*shape, 3))


def noise_images(shape, dtype=jnp.float32, seed=0):
  levels = np.random.default_rng(seed).integers(0, 256, (*shape, 3))
  if dtype == jnp.uint8:
    return jnp.asarray(levels, dtype)
  return jnp.asarray(levels / 255, dtype)


def one_hot(batch):
  return jnp.eye(batch)


@hypothesis.given(seeds, shapes, st.booleans(), st.sampled_from(MASKS))
def test_label_mass_equals_pixel_mass(seed, shape, per_example, mixer):
  dtype = jnp.uint8 if shape[0] > 1 else jnp.float32
  images = constant_images(shape, dtype)
  mixed, labels = mixer(
    jax.random.key(seed), images, one_hot(shape[0]), per_example=per_example
  )
  assert mixed.dtype == dtype
  sources = np.round(mixed[..., 0]).astype(int) - 1
  shares = np.stack([(sources == i).mean((1, 2)) for i in range(shape[0])], 1)
  np.testing.assert_allclose(labels, shares, atol=1e-6)


@hypothesis.given(seeds, shapes, st.booleans())
def test_mixup_blends_images_as_labels(seed, shape, per_example):
  images = noise_images(shape)
  mixed, labels = augment.mixup(
    jax.random.key(seed),
    images,
    one_hot(shape[0]),
    1.0,
    per_example=per_example,
  )
  expected = np.einsum("ij,jhwc->ihwc", labels, images)
  np.testing.assert_allclose(mixed, expected, atol=1e-5)


@pytest.mark.parametrize("mixer", NEW_MASKS)
@both
def test_each_label_weighs_as_much_as_its_pixels(mixer, per_example):
  images = constant_images((5, 16, 12))
  mixed, labels = mixer(
    jax.random.key(1), images, one_hot(5), per_example=per_example
  )
  levels = np.arange(1, 6)[:, None, None, None, None]
  shares = (np.asarray(mixed)[None] == levels).mean((2, 3, 4)).T
  np.testing.assert_allclose(labels, shares, atol=1e-6)
  assert (np.asarray(labels).max(1) < 1).sum() >= 3


@pytest.mark.parametrize("mixer", [*NEW_MASKS, *OTHERS])
def test_levels_stay_levels_and_one_image_stays_alone(mixer):
  images = noise_images((5, 16, 7), jnp.uint8)
  mixed, labels = mixer(jax.random.key(2), images, one_hot(5))
  assert (mixed.shape, mixed.dtype) == (images.shape, images.dtype)
  assert (labels.shape, labels.dtype) == ((5, 5), jnp.float32)
  if mixer in OTHERS[1:]:
    assert (np.abs(labels.sum(1) - 1) > 1e-3).any()
  else:
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
  assert labels.min() >= 0
  alone = images[:1], jnp.array([[0.3, 0.7]])
  chex.assert_trees_all_equal(mixer(jax.random.key(0), *alone), alone)


@every_mixer
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8])
def test_labels_stay_probabilities_and_pixels_in_range(mixer, dtype):
  labels = np.random.default_rng(0).dirichlet(np.ones(5), 5)
  labels = jnp.asarray(labels, jnp.float32)
  images = noise_images((5, 16, 7), dtype)
  mixed, soft = mixer(jax.random.key(0), images, labels, per_example=True)
  assert (mixed.shape, mixed.dtype) == (images.shape, images.dtype)
  assert (soft.shape, soft.dtype) == (labels.shape, labels.dtype)
  np.testing.assert_allclose(soft.sum(1), 1, atol=1e-5)
  assert soft.min() >= 0
  if dtype != jnp.uint8:
    assert 0 <= mixed.min() <= mixed.max() <= 1 + 1e-6


@every_mixer
def test_a_key_decides_everything(mixer):
  images, labels = noise_images((5, 16, 7), jnp.uint8), one_hot(5)
  run = lambda key: mixer(key, images, labels)
  chex.assert_trees_all_equal(run(jax.random.key(3)), run(jax.random.key(3)))
  assert not np.array_equal(
    run(jax.random.key(3))[0], run(jax.random.key(4))[0]
  )
  if mixer is augment.cutmix:
    raw = run(jax.random.PRNGKey(3))
    chex.assert_trees_all_equal(raw, run(jax.random.key(3)))


def test_one_class_alone_is_left_unmixed():
  images, labels = noise_images((4, 8, 8)), jnp.eye(3)[jnp.zeros(4, int)]
  mixed, soft = augment.mixup(
    jax.random.key(0), images, labels, partner="other_class"
  )
  chex.assert_trees_all_equal((mixed, soft), (images, labels))


@pytest.mark.parametrize("mixer", [augment.mixup, *MASKS])
def test_a_batch_of_one_is_unchanged(mixer):
  images, labels = noise_images((1, 9, 9)), jnp.array([[0.3, 0.7]])
  chex.assert_trees_all_equal(
    mixer(jax.random.key(0), images, labels), (images, labels)
  )


@both
def test_probability_zero_and_disabled_leave_the_batch_as_it_was(per_example):
  images, labels = noise_images((4, 8, 8), jnp.uint8), one_hot(4)
  run = jax.jit(
    lambda on, probability: augment.mix(
      jax.random.key(0),
      images,
      labels,
      ALL,
      probability=probability,
      per_example=per_example,
      enabled=on,
    ),
    static_argnums=1,
  )
  chex.assert_trees_all_equal(run(False, 1.0), (images, labels))
  if not per_example:
    chex.assert_trees_all_equal(run(True, 0.0), (images, labels))
  assert not np.array_equal(run(True, 1.0)[0], images)


def test_probability_is_that_of_an_example():
  _, soft = augment.mixup(
    jax.random.key(0),
    noise_images((400, 1, 2)),
    one_hot(400),
    1.0,
    probability=0.25,
    per_example=True,
  )
  mixed = int((soft.max(1) < 1).sum())
  assert abs(mixed - 100) < 5 * np.sqrt(400 * 0.25 * 0.75)


@hypothesis.given(seeds, st.sampled_from([(0.2, 0.6), (0.5, 0.5), (0.9, 1.0)]))
def test_cutmix_keeps_lambda_between_its_bounds(seed, bounds):
  low, high = bounds
  _, soft = augment.cutmix(
    jax.random.key(seed),
    noise_images((6, 24, 20)),
    one_hot(6),
    min_lambda=low,
    max_lambda=high,
    min_aspect=0.5,
    max_aspect=2.0,
    per_example=True,
  )
  lam = np.diagonal(soft)
  # A column of the box where the bounds are closer than one of the image.
  slack = 1e-6 if high - low >= 1 / 20 else 1 / 20
  assert low - slack <= lam.min()
  assert lam.max() <= high + slack


def test_boxes_keep_the_aspect_asked_for():
  images = constant_images((64, 60, 90))
  mixed, _ = augment.cutmix(
    jax.random.key(0),
    images,
    one_hot(64),
    min_lambda=0.7,
    max_lambda=0.8,
    min_aspect=2.0,
    max_aspect=2.0,
    per_example=True,
  )
  pasted = np.asarray(mixed != images)[..., 0]
  height, width = pasted.any(2).sum(1), pasted.any(1).sum(1)
  np.testing.assert_allclose((width / 90) / (height / 60), 2, rtol=0.1)
  np.testing.assert_array_equal(pasted.sum((1, 2)), height * width)


@pytest.mark.parametrize("mixer", [*MASKS, augment.cutout])
def test_every_pixel_can_be_covered(mixer):
  """Including the last row and column, each about as often as its mirror."""
  images = constant_images((800, 6, 6))
  mixed, _ = mixer(jax.random.key(0), images, jnp.eye(800, 2), per_example=True)
  covered = np.asarray(mixed != images)[..., 0].mean(0)
  assert covered.min() > 0.05
  np.testing.assert_allclose(covered, covered[::-1, ::-1], atol=0.12)


def test_lambda_is_counted_after_clipping():
  """The mean clipped share is far below the 1/2 of the unclipped box."""
  _, soft = augment.cutmix(
    jax.random.key(0),
    noise_images((3000, 16, 16)),
    jnp.eye(3000),
    per_example=True,
  )
  pasted = 1 - np.diagonal(soft).mean()
  assert 0.28 < pasted < 0.36


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_is_beta_distributed(alpha):
  stats = pytest.importorskip("scipy.stats")
  _, soft = augment.mixup(
    jax.random.key(1),
    noise_images((2000, 1, 1)),
    jnp.eye(2000),
    alpha,
    per_example=True,
  )
  lam = np.diagonal(soft)
  assert stats.kstest(lam, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_resizemix_shows_the_whole_partner():
  images = jnp.stack([jnp.zeros((32, 32, 3)), jnp.ones((32, 32, 3))])
  images = images.at[1, :16].set(0.5)
  mixed, soft = augment.resizemix(
    jax.random.key(0), images, one_hot(2), min_scale=0.5, max_scale=0.5
  )
  assert float(soft[0, 1]) == 0.25
  pasted = np.asarray(mixed[0, ..., 0])
  rows, columns = np.nonzero(pasted.any(1))[0], np.nonzero(pasted.any(0))[0]
  box = pasted[np.ix_(rows, columns)]
  assert box.shape == (16, 16)
  np.testing.assert_allclose(box[:7], 0.5, atol=1e-6)
  np.testing.assert_allclose(box[9:], 1, atol=1e-6)


def test_fmix_keeps_the_share_lambda_of_the_pixels():
  for lam in (0.0, 0.3, 1.0):
    _, soft = augment.fmix(
      jax.random.key(2),
      noise_images((4, 33, 20)),
      one_hot(4),
      min_lambda=lam,
      max_lambda=lam,
      per_example=True,
    )
    np.testing.assert_allclose(np.diagonal(soft), lam, atol=1.01 / 660)


def test_cutout_fills_a_box_and_leaves_labels():
  images = noise_images((8, 16, 16), jnp.uint8)
  labels = one_hot(8)
  cut, soft = augment.cutout(jax.random.key(0), images, labels, fill=1.0)
  chex.assert_trees_all_equal(soft, labels)
  changed = np.asarray((cut != images).any(-1))
  assert (np.asarray(cut)[changed] == 255).all()
  assert changed.sum((1, 2)).max() <= 64


@both
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_each_cutout_of_a_mixture_keeps_its_fill(dtype, per_example):
  """The small boxes are black, the large ones white."""
  images = jnp.full((64, 16, 16, 3), 0.5 if dtype == jnp.float32 else 128)
  images = images.astype(dtype)
  mixers = (augment.Cutout(0.25, fill=0.0), augment.Cutout(0.75, fill=1.0))
  white = 1 if dtype == jnp.float32 else 255
  seen = set()
  for seed in range(1 if per_example else 8):
    cut, _ = augment.mix(
      jax.random.key(seed),
      images,
      one_hot(64),
      mixers,
      per_example=per_example,
    )
    for image in np.asarray(cut[..., 0] if per_example else cut[:1, ..., 0]):
      pixels = image[image != images[0, 0, 0, 0]]
      (fill,) = set(pixels.tolist())
      assert fill == (0 if len(pixels) <= 16 else white)
      seen.add(fill)
  assert seen == {0, white}


def test_weights_decide_how_often_a_mixer_is_drawn():
  mixed, soft = augment.mix(
    jax.random.key(0),
    constant_images((1000, 4, 4)),
    jnp.eye(1000),
    (augment.Cutout(1.0), augment.Mixup(1.0)),
    (3.0, 1.0),
    per_example=True,
  )
  share = float((soft.max(1) < 1).mean())
  assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 1000)
  del mixed


@both
def test_among_several_each_keeps_its_contract(per_example):
  """The label's mean source equals the image's, or the box is blank."""
  batch = 40 if per_example else 5
  images = constant_images((batch, 10, 10))
  run = jax.jit(
    lambda key: augment.mix(
      key, images, one_hot(batch), ALL, per_example=per_example
    )
  )
  blank = blended = pasted = 0
  for seed in range(1 if per_example else 30):
    mixed, soft = run(jax.random.key(seed))
    for image, own, label in zip(mixed, images, np.asarray(soft), strict=True):
      if (image == 0.5).any():
        blank += 1
        assert label.max() == 1
        assert set(np.unique(image)) == {0.5, float(own[0, 0, 0])}
        continue
      mass = label @ np.arange(1, batch + 1)
      np.testing.assert_allclose(image.mean(), mass, rtol=1e-5)
      levels = np.unique(np.round(image, 4))
      blended += len(levels) == 1
      pasted += len(levels) == 2
  assert min(blank, blended, pasted) > 0


def test_a_cutout_takes_no_images_of_other_devices():
  gathered = []
  gather = lambda x, span: (
    gathered.append(x.ndim) or jnp.tile(x, (span, 1, 1, 1))
  )
  shard = augment.Shard(2, 0, gather)
  arguments = jax.random.key(0), noise_images((4, 8, 8)), one_hot(4)
  augment.cutout(*arguments, shard=shard)
  assert 4 not in gathered
  augment.mix(*arguments, (augment.Cutout(), augment.Mixup()), shard=shard)
  assert 4 in gathered


@dataclasses.dataclass(frozen=True)
class Rolled(augment.Mixer):
  """Pastes the partner, moved to the right, below a line."""

  line: float = 0.5
  on_pixels: object = None

  def draw(self, key, height, width):
    keep = jnp.arange(height)[:, None] < round(self.line * height)
    keep = jnp.broadcast_to(keep[..., None], (height, width, 1))
    by = jax.random.randint(key, (), 1, width)
    return augment.Drawn(keep, jnp.mean(keep, dtype=jnp.float32), {"by": by})

  def pixels(self, partners, extra):
    if self.on_pixels is not None:
      jax.debug.callback(self.on_pixels)
    by = jnp.broadcast_to(extra["by"], len(partners))
    return jax.vmap(lambda image, by: jnp.roll(image, by, 1))(partners, by)


@both
def test_a_custom_mixer_draws_and_makes_pixels(per_example):
  """Alone and in a mixture whose other mixers have another `extra`."""
  images = np.asarray(noise_images((30, 8, 8), jnp.uint8))
  seeds = range(1 if per_example else 8)
  for mixers in ((Rolled(),), (augment.ResizeMix(), Rolled(), augment.FMix())):
    found = []
    for seed in seeds:
      mixed, soft = augment.mix(
        jax.random.key(seed),
        images,
        one_hot(30),
        mixers,
        per_example=per_example,
      )
      partners = np.argmax(soft - np.diag(np.diagonal(soft)), 1)
      for image, own, partner in zip(
        np.asarray(mixed), images, images[partners], strict=True
      ):
        rolls = [np.roll(partner, by, 1) for by in range(1, 8)]
        expected = [np.concatenate([own[:4], x[4:]]) for x in rolls]
        found.append(any((image == x).all() for x in expected))
    assert all(found) if len(mixers) == 1 else 0 < np.mean(found) < 1


@pytest.mark.parametrize(("drawn", "calls"), [(0, 0), (1, 3)])
def test_a_batch_pays_for_the_pixels_of_the_drawn_mixer_alone(drawn, calls):
  called = []
  mixers = (augment.CutMix(), Rolled(on_pixels=lambda: called.append(1)))
  weights = [float(number == drawn) for number in range(2)]
  for seed in range(3):
    mixed = augment.mix(
      jax.random.key(seed), noise_images((4, 8, 8)), one_hot(4), mixers, weights
    )
    jax.block_until_ready(mixed)
  jax.effects_barrier()
  assert len(called) == calls


@pytest.mark.parametrize(
  "mixer",
  [
    augment.mixup,
    augment.cutmix,
    augment.mosaic,
    looking(augment.attentive_cutmix),
    augment.patchup,
  ],
)
def test_vmap_and_grad_pass_through(mixer):
  images, labels = noise_images((3, 4, 6, 6)), jnp.stack([one_hot(4)] * 3)
  keys = jax.random.split(jax.random.key(0), 3)
  mixed = jax.vmap(mixer)(keys, images, labels)
  chex.assert_trees_all_close(
    jax.tree.map(lambda x: x[1], mixed),
    mixer(keys[1], images[1], labels[1]),
    atol=1e-6,
  )
  gradient = jax.grad(lambda x: mixer(keys[0], x, labels[0])[0].sum())(
    images[0]
  )
  # Each example is a partner once, so pixels only move between images.
  np.testing.assert_allclose(gradient.sum(0), 4, rtol=1e-5)


def test_half_precision_labels_of_many_classes_stay_exact():
  """Lambda is float32 even where images are not."""
  images = constant_images((2, 16, 17), jnp.bfloat16)
  _, soft = augment.cutmix(jax.random.key(4), images, one_hot(2))
  pixels = np.asarray(soft)[0, 0] * 16 * 17
  np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-4)


@pytest.mark.parametrize(
  ("mixer", "settings", "words"),
  [
    (augment.mixup, {"alpha": 0.0}, "alpha must be above 0, got 0.0"),
    (augment.cutmix, {"alpha": -1.0}, "alpha"),
    (augment.cutmix, {"alpha": float("nan")}, "alpha"),
    (augment.cutmix, {"probability": 1.2}, "probability"),
    (augment.cutmix, {"min_lambda": 0.7, "max_lambda": 0.3}, "min_lambda"),
    (augment.cutmix, {"max_lambda": 1.5}, "max_lambda"),
    (augment.cutmix, {"min_aspect": 0.0}, "min_aspect"),
    (augment.cutmix, {"min_aspect": 3.0, "max_aspect": 2.0}, "max_aspect"),
    (augment.cutmix, {"partner": "none"}, "partner must be one of any"),
    (augment.cutout, {"size": 1.5}, "size"),
    (augment.cutout, {"fill": 2.0}, "fill"),
    (augment.resizemix, {"min_scale": 0.9}, "min_scale"),
    (augment.fmix, {"decay_power": 0.0}, "decay_power"),
  ],
)
def test_settings_out_of_range_are_reported(mixer, settings, words):
  with pytest.raises(ValueError, match=words) as caught:
    mixer(jax.random.key(0), noise_images((2, 4, 4)), one_hot(2), **settings)
  assert "\n" not in str(caught.value)


@every_mixer
@pytest.mark.parametrize(
  ("images", "labels", "words"),
  [
    (jnp.zeros((2, 4)), jnp.eye(2), "images must be"),
    (jnp.zeros((2, 4, 4, 3)), jnp.array([0, 1]), "labels must be prob"),
    (jnp.zeros((2, 4, 4, 3)), jnp.eye(2, dtype=int), "labels must be prob"),
    (jnp.zeros((2, 4, 4, 3)), jnp.eye(3), "2 images but 3 labels"),
  ],
)
def test_arguments_of_the_wrong_kind_are_reported(mixer, images, labels, words):
  with pytest.raises(ValueError, match=words):
    mixer(jax.random.key(0), images, labels)


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (-1.0, 2.0)])
def test_wrong_weights_are_reported(weights):
  mixers = (augment.CutMix(), augment.Mixup())
  with pytest.raises(ValueError, match="weights"):
    augment.mix(
      jax.random.key(0), noise_images((2, 4, 4)), one_hot(2), mixers, weights
    )


def test_a_wrong_mixer_is_reported():
  with pytest.raises(ValueError, match=r"instances of Mixer, got <class"):
    augment.mix(
      jax.random.key(0), noise_images((2, 4, 4)), one_hot(2), [augment.CutMix]
    )


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_a_scheduled_alpha_draws_as_its_value(alpha):
  images, labels = noise_images((5, 8, 8)), one_hot(5)
  run = lambda alpha: augment.cutmix(jax.random.key(0), images, labels, alpha)
  for form in (jnp.float32(alpha), np.array(alpha)):
    chex.assert_trees_all_equal(run(form), run(alpha))
  traced = jax.jit(run)(alpha)
  chex.assert_trees_all_close(traced, run(alpha), atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float64])
def test_labels_of_any_float_under_strict_promotion(dtype):
  with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
    labels = jnp.eye(5, dtype=dtype)
    images = noise_images((5, 8, 8)).astype(dtype)
    mixed, soft = augment.mixup(jax.random.key(0), images, labels)
    same, _ = augment.mix(
      jax.random.key(0), images, labels, [augment.Mixup()], enabled=False
    )
  assert mixed.dtype == soft.dtype == dtype
  np.testing.assert_array_equal(same, images)


def test_bool_images_are_rounded():
  images = noise_images((5, 8, 8)) > 0.5
  mixed, _ = augment.mixup(
    jax.random.key(0), images, one_hot(5), min_lambda=0.6
  )
  np.testing.assert_array_equal(mixed, images)


@dataclasses.dataclass(frozen=True)
class Masked(augment.Mixer):
  """Has a setting that cannot be hashed, and may draw wrong shapes."""

  mask: list
  lam: float | jax.Array = 0.5

  def draw(self, key, height, width):
    del key, height, width
    return augment.Drawn(jnp.array(self.mask)[..., None] > 0, self.lam)


def test_settings_that_cannot_be_hashed():
  run = lambda mixer: augment.mix(
    jax.random.key(0), noise_images((2, 2, 2)), one_hot(2), [mixer]
  )
  _, labels = run(Masked([[0, 1], [1, 0]]))
  np.testing.assert_array_equal(labels, np.full((2, 2), 0.5))
  for mixer in (Masked([0, 1]), Masked([[0, 1], [1, 0]], jnp.ones(2))):
    with pytest.raises(
      ValueError, match=r"Masked.draw must return keep \[2, 2"
    ):
      run(mixer)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"enabled": jnp.ones(2)}, "enabled must be a scalar, got shape"),
    ({"mixers": augment.CutMix()}, "mixers must be a sequence of mixers"),
    ({"images": jnp.ones((0, 4, 4, 3))}, "0 images but 2 labels"),
    ({"group_size": 3}, "group_size must be a divisor above 1 of the batch"),
  ],
)
def test_wrong_arguments_of_mix_are_reported(change, words):
  arguments = {
    "images": noise_images((2, 4, 4)),
    "labels": one_hot(2),
    "mixers": [augment.CutMix()],
  }
  with pytest.raises(ValueError, match=words):
    augment.mix(jax.random.key(0), **{**arguments, **change})


class VariantsTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
  def test_label_mass_equals_pixel_mass_however_it_is_run(self):
    # Each example has its own constant, which identifies the source of a pixel.
    images = jnp.broadcast_to(
      jnp.arange(6, dtype=jnp.float32)[:, None, None, None], (6, 9, 7, 3)
    )
    labels = jnp.eye(6)
    for mixer in (augment.cutmix, augment.mixup):
      mix = self.variant(lambda k, x, y, m=mixer: m(k, x, y, 1.0))
      mixed, soft = mix(jax.random.key_data(jax.random.key(4)), images, labels)
      mixed, soft = (
        np.reshape(x, (-1, *x.shape[-n:]))
        for x, n in (
          (mixed, 3),
          (soft, 1),
        )
      )
      mass = mixed.mean((1, 2, 3))
      np.testing.assert_allclose(mass, soft @ np.arange(6), atol=1e-5)
      assert (soft.max(-1) < 1).any()
