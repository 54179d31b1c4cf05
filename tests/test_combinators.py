import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import augment
from mixaug_jax.augment import combinators

KEY = jax.random.key(11)
COUNT = 400
IMAGES = jnp.broadcast_to(jax.random.uniform(KEY, (4, 6, 3)), (COUNT, 4, 6, 3))
both = pytest.mark.parametrize(
  "run",
  [combinators.map_examples, lambda one, *batch: jax.vmap(one)(*batch)],
  ids=["CPU", "accelerators"],
)


def share(images, others):
  return np.asarray((images == others).all((1, 2, 3))).mean()


def near(value, expected):
  return abs(value - expected) < 5 * np.sqrt(expected * (1 - expected) / COUNT)


def noise(key, images):
  return images + jax.random.uniform(key, images.shape, images.dtype)


def corner(key, images):
  del key
  return images[..., :3, :3, :]


def test_compose_applies_random_and_deterministic_parts_in_turn():
  brighter = functools.partial(augment.adjust_brightness, delta=0.2)
  composed = augment.compose(noise, brighter, augment.flip_left_right, noise)
  fold = functools.partial(jax.random.fold_in, KEY)
  expected = augment.flip_left_right(brighter(noise(fold(0), IMAGES)))
  chex.assert_trees_all_equal(composed(KEY, IMAGES), noise(fold(3), expected))
  # A part at the end does not change the draws of the others.
  shorter = augment.compose(noise, brighter)
  longer = augment.compose(noise, brighter, augment.flip_up_down)
  chex.assert_trees_all_equal(
    longer(KEY, IMAGES), shorter(KEY, IMAGES)[:, ::-1]
  )


def test_compose_takes_parts_that_change_the_shape():
  composed = augment.compose(corner, augment.flip_left_right)
  assert composed(KEY, IMAGES).shape == (COUNT, 3, 3, 3)
  assert composed(KEY, IMAGES[0]).shape == (3, 3, 3)


def test_no_parts_change_nothing():
  chex.assert_trees_all_equal(augment.compose()(KEY, IMAGES), IMAGES)


def test_random_apply_applies_all_parts_or_none():
  parts = [augment.flip_left_right, augment.flip_up_down]
  run = lambda p: jax.jit(augment.random_apply(parts, p))(KEY, IMAGES)
  turned = IMAGES[:, ::-1, ::-1]
  assert near(share(run(0.3), turned), 0.3)
  assert share(run(0.3), turned) + share(run(0.3), IMAGES) == pytest.approx(1)
  chex.assert_trees_all_equal(run(1.0), turned)
  chex.assert_trees_all_equal(run(0.0), IMAGES)


def test_random_choice_draws_by_weight():
  parts = [augment.flip_left_right, augment.flip_up_down, lambda x: x / 2]
  run = jax.jit(augment.random_choice(parts, [5, 0, 3]))
  chosen = run(KEY, IMAGES)
  mirrored, halved = (
    share(chosen, IMAGES[:, :, ::-1]),
    share(chosen, IMAGES / 2),
  )
  assert mirrored + halved == pytest.approx(1)
  assert near(mirrored, 5 / 8)
  equal = jax.jit(augment.random_choice(parts))(KEY, IMAGES)
  assert near(share(equal, IMAGES[:, ::-1]), 1 / 3)


@both
@pytest.mark.parametrize(
  "combine", [augment.random_apply, augment.random_choice]
)
def test_examples_draw_for_themselves(combine, run):
  """The choice and the draws of the part depend on the key alone."""
  one = combine([noise])
  batch = jax.random.split(KEY, 3), IMAGES[:3]
  together = run(one, *batch)
  expected = jnp.stack([one(*example) for example in zip(*batch, strict=True)])
  chex.assert_trees_all_close(together, expected, atol=1e-6)
  chex.assert_trees_all_close(one(KEY, IMAGES[:3]), together, atol=1e-6)


@pytest.mark.parametrize(
  "combine",
  [
    lambda part: augment.random_apply([part]),
    lambda part: augment.random_choice([part, lambda x: x]),
    lambda part: augment.random_choice([lambda x: x, part]),
  ],
)
def test_the_choice_is_independent_of_the_draws_of_the_part(combine):
  level = lambda key, images: jnp.full_like(images, jax.random.uniform(key))
  run = combine(level)
  levels = jax.jit(run)(KEY, IMAGES * 0 - 1)[:, 0, 0, 0]
  drawn = np.asarray(levels[levels >= 0])
  assert abs(drawn.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(drawn))
  # The choices of two parts are independent as well.
  twice = jax.jit(augment.compose(run, run))(KEY, IMAGES * 0 - 1)
  assert near(np.asarray(twice[:, 0, 0, 0] == -1).mean(), 0.25)


def test_combinators_can_be_nested_vmapped_and_differentiated():
  half = augment.random_apply([lambda x: x / 2, noise])
  chosen = augment.random_choice([augment.compose(half, half), lambda x: 3 * x])
  gradient = jax.jit(jax.grad(lambda x: chosen(KEY, x).sum()))(IMAGES[:40])
  assert set(np.unique(gradient)) == {0.25, 0.5, 1.0, 3.0}
  keys = jax.random.split(KEY, 3)
  mapped = jax.vmap(chosen, (0, None))(keys, IMAGES[:2])
  expected = jnp.stack([chosen(key, IMAGES[:2]) for key in keys])
  chex.assert_trees_all_close(mapped, expected, atol=1e-6)


def test_the_probability_may_be_traced():
  run = jax.jit(
    lambda p: augment.random_apply([augment.flip_up_down], p)(KEY, IMAGES)
  )
  chex.assert_trees_all_equal(run(0.0), IMAGES)
  chex.assert_trees_all_equal(run(1.0), IMAGES[:, ::-1])


@pytest.mark.parametrize(
  ("build", "words"),
  [
    (lambda: augment.compose(augment.rotate), "rotate must have the required"),
    (lambda: augment.compose(augment.cutmix), r"got \(key, images, labels\)"),
    (lambda: augment.random_apply([noise], 1.5), "probability must be in"),
    (lambda: augment.random_choice([]), "at least one function"),
    (lambda: augment.random_choice([noise], [1, 2]), "2 numbers for 1 func"),
    (lambda: augment.random_choice([noise], [0]), "weights must not be neg"),
    (lambda: augment.random_choice([noise] * 2, [2, -1]), "weights must not"),
  ],
)
def test_wrong_settings_are_reported(build, words):
  with pytest.raises(ValueError, match=words):
    build()


@pytest.mark.parametrize(
  "combine", [augment.random_apply, augment.random_choice]
)
def test_parts_that_change_shape_or_dtype_are_refused(combine):
  name = combine.__name__
  for images in (IMAGES, IMAGES[0]):
    words = rf"{name} needs .* corner turns float32 \(4, 6, 3\) into"
    with pytest.raises(ValueError, match=words):
      combine([noise, corner])(KEY, images)
  with pytest.raises(ValueError, match="into float16"):
    combine([lambda x: x.astype("float16")])(KEY, IMAGES)
