"""The draws and pixels of each mixer: flags, traced settings, distributions."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import augment

KEY = jax.random.key(3)
MIXERS = {
  "mixup": augment.Mixup(0.3, 0.1, 0.8),
  "cutmix": augment.CutMix(0.5, min_aspect=0.5, max_aspect=2.0),
  "cutmix, bounded": augment.CutMix(0.8, 0.2, 0.6, 0.5, 2.0),
  "cutout": augment.Cutout(0.35, 0.25),
  "resizemix": augment.ResizeMix(0.5, 0.7),
  "fmix": augment.FMix(0.5, 0.2, 0.9, 2.5),
  "gridmix": augment.GridMix(0.5, 0.2, 0.9, 3),
  "patchmix": augment.PatchMix(0.5, 0.2, 0.9, 3),
  "jigsaw": augment.Jigsaw(2),
  "mosaic": augment.Mosaic(0.2, 0.9),
  "saliencymix": augment.SaliencyMix(0.5, 0.2, 0.9),
  "attentive_cutmix": augment.AttentiveCutMix(0.3),
  "snapmix": augment.SnapMix(0.5, 0.2, 0.9),
  "tokenmix": augment.TokenMix(0.5, 0.2, 0.9, 3),
  "puzzlemix": augment.PuzzleMix(0.5, 0.2, 0.9, 4),
  "manifold_mixup": augment.ManifoldMixup(0.5, 0.2, 0.9),
  "patchup": augment.PatchUp(0.3, 3),
}
every_mixer = pytest.mark.parametrize("name", MIXERS)


def drawn(mixer, size=(24, 20), key=KEY, dtype=jnp.float32):
  """Returns the draw and the pixels of a mixer inside its box."""
  images = np.random.default_rng(0).random((2, *size, 3), np.float32)
  if dtype == jnp.uint8:
    images = images * 255
  draw = mixer.draw(key, *size)
  extra = jax.tree.map(lambda x: x[None], draw.extra)
  images = jnp.asarray(images, dtype)
  several = jnp.stack([images] * (1 + mixer.partners))
  pixels = mixer.pixels(images if mixer.partners == 1 else several, extra)
  return draw, jnp.where(draw.keep.astype(bool), jnp.zeros((), dtype), pixels)


@every_mixer
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8])
def test_draws_and_pixels_do_not_depend_on_flags(name, dtype):
  draw = jax.jit(lambda key: drawn(MIXERS[name], key=key, dtype=dtype))
  expected = draw(KEY)
  with (
    jax.enable_x64(True),
    jax.numpy_rank_promotion("raise"),
    jax.numpy_dtype_promotion("strict"),
  ):
    strict = draw(KEY)
  chex.assert_trees_all_equal_dtypes(strict, expected)
  chex.assert_trees_all_close(strict, expected, atol=1e-6)


@every_mixer
def test_a_traced_setting_draws_as_a_number(name):
  mixer = MIXERS[name]
  # Whole numbers decide shapes, or how often a loop runs; names decide rules.
  settings = dataclasses.asdict(mixer)
  fixed = {key: x for key, x in settings.items() if isinstance(x, int | str)}
  settings = {key: x for key, x in settings.items() if key not in fixed}
  # A compiled program contracts some sums, so it is the reference.
  expected = jax.jit(lambda key: drawn(mixer, key=key))(KEY)

  @jax.jit
  def traced(key, settings):
    return drawn(type(mixer)(**settings, **fixed), key=key)

  chex.assert_trees_all_close(traced(KEY, settings), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["alpha", "min_lambda", "max_aspect"])
def test_one_setting_may_be_traced(name):
  mixer = MIXERS["cutmix"]

  @jax.jit
  def traced(key, value):
    return drawn(dataclasses.replace(mixer, **{name: value}), key=key)

  expected = jax.jit(lambda key: drawn(mixer, key=key))(KEY)
  chex.assert_trees_all_close(
    traced(KEY, getattr(mixer, name)), expected, atol=1e-5
  )


def test_the_range_of_a_traced_setting_is_not_checked():
  jax.jit(lambda a: augment.Mixup(a).draw(KEY, 2, 2).lam)(-1.0)
  with pytest.raises(ValueError, match="alpha must be above 0"):
    augment.Mixup(-1.0)


def test_at_alpha_one_lambda_has_the_bits_of_a_uniform_number():
  lam = augment.Mixup(alpha=1.0).draw_lambda(KEY)
  assert lam == jax.random.uniform(KEY, dtype=jnp.float32)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.7, 1.0, 3.0, 40.0])
def test_lambda_has_the_beta_distribution(alpha):
  stats = pytest.importorskip("scipy.stats")
  keys = jax.random.split(KEY, 20_000)

  def draw(keys, alpha):
    lam = lambda key: augment.Mixup(alpha).draw(key, 1, 1).lam
    return jax.vmap(lam)(keys)

  # At alpha 1, a number is drawn in another way than a traced setting.
  for lam in (jax.jit(draw)(keys, alpha), draw(keys, alpha)):
    lam = np.asarray(lam, np.float64)
    assert 0 <= lam.min() <= lam.max() <= 1
    # Numbers near one are rounded to it, so the lower half is compared.
    small, cdf = lam[lam < 0.5], lambda x: 2 * stats.beta(alpha, alpha).cdf(x)
    assert stats.kstest(small, cdf).pvalue > 1e-3
    assert abs(len(small) - 10_000) < 5 * np.sqrt(5_000)


def shrunk(image, height, width):
  """Returns the definition: a triangle of the width of an output pixel."""

  def weights(size, length):
    scale = size / length
    centres = (np.arange(length)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres)
    weights = np.maximum(0, 1 - distance / scale)
    return weights / weights.sum(1, keepdims=True)

  rows = weights(image.shape[0], height)
  columns = weights(image.shape[1], width)
  return np.einsum("hH,wW,HWc->hwc", rows, columns, image)


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize(
  "mixer", [augment.ResizeMix(0.1, 0.8), augment.ResizeMix(0.5, 1.0)]
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8])
def test_resizemix_pastes_the_shrunken_image(mixer, per_example, dtype):
  """CPUs gather taps from 112 pixels on at scale 0.1, and from 20 at 0.5."""
  height, width = (112, 120) if mixer.min_scale == 0.1 else (24, 20)
  images = np.random.default_rng(0).random((3, height, width, 2), np.float32)
  if dtype == jnp.uint8:
    images = np.round(images * 255)
  keys = jax.random.split(KEY, 3 if per_example else 1)
  boxes = jax.vmap(lambda key: mixer.draw(key, height, width).extra)(keys)
  shrink = jax.jit(mixer.pixels)
  program = shrink.lower(jnp.asarray(images, dtype), boxes).as_text()
  assert "dot_general" not in program
  pasted = shrink(jnp.asarray(images, dtype), boxes)
  assert pasted.dtype == dtype
  for image, box, own in zip(
    images, np.broadcast_to(boxes, (3, 4)), pasted, strict=True
  ):
    top, box_height, left, box_width = box
    own = np.asarray(own[top : top + box_height, left : left + box_width])
    expected = shrunk(image, box_height, box_width)
    atol = 0.51 if dtype == jnp.uint8 else 5e-6
    np.testing.assert_allclose(own, expected, atol=atol)


def test_resizemix_differentiates_and_maps():
  """Each input pixel of a whole-image box counts once."""
  mixer = augment.ResizeMix(1.0, 1.0)
  images = jnp.ones((2, 2, 12, 12, 1))
  box = jnp.array([[0, 12, 0, 12]], jnp.int32)
  total = lambda x: jax.vmap(lambda x: mixer.pixels(x, box))(x).sum()
  np.testing.assert_allclose(jax.grad(total)(images), 1, rtol=1e-6)
