"""Every function of mixaug_jax.augment where JAX engineers use it."""

import functools
import inspect
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_cases import BUILDERS, CASES, GEOMETRIC
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mixaug_jax import augment

KEY = jax.random.key(7)
BATCH = 4
every_case = pytest.mark.parametrize("name", CASES)


def takes_key(name):
  function = getattr(augment, name.partition(",")[0])
  # What a combinator returns takes the key.
  return not {"key", "functions"}.isdisjoint(
    inspect.signature(function).parameters
  )


def examples(dtype=jnp.float32, shape=(BATCH, 16, 16, 3)):
  images = np.random.default_rng(0).random(shape, np.float32)
  if not jnp.issubdtype(dtype, jnp.floating):
    images = images * 255
  labels = jax.nn.one_hot(jnp.arange(BATCH) % 3, 3, dtype=jnp.float32)
  return jnp.asarray(images, dtype), labels


def shapes(name, dtype=jnp.float32, shape=(BATCH, 16, 16, 3), key=KEY):
  return jax.eval_shape(CASES[name], key, *examples(dtype, shape))


def test_every_public_function_has_a_case():
  functions = {
    name
    for name in augment.__all__
    if inspect.isfunction(inspect.unwrap(getattr(augment, name)))
  }
  assert functions - BUILDERS == {name.partition(",")[0] for name in CASES}


@every_case
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8])
def test_flags_that_users_set(name, dtype):
  expected = shapes(name, dtype)
  with (
    jax.numpy_rank_promotion("raise"),
    jax.numpy_dtype_promotion("strict"),
    jax.enable_x64(True),
  ):
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes(name, dtype), expected)


def run(name, images, labels):
  # Half the time of compilation; the programs are compared, not timed.
  fast = {"xla_backend_optimization_level": 0}
  return jax.jit(CASES[name], compiler_options=fast)(KEY, images, labels)


@every_case
def test_sixty_four_bits_and_meshes_change_nothing(name):
  images, labels = examples()
  expected = run(name, images, labels)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(expected))
  # tests/test_partners.py has automatic axes; the programs are the same.
  mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
  over = NamedSharding(mesh, PartitionSpec("data"))
  with jax.enable_x64(True):
    spread = run(name, *jax.device_put((images, labels), over))
  chex.assert_trees_all_close(spread, expected, atol=2e-6)
  # The examples stay where they are.
  for array in jax.tree.leaves(spread):
    assert "data" in array.sharding.spec


@every_case
def test_old_keys_and_shapes_that_are_not_square(name):
  assert shapes(name, key=jax.random.PRNGKey(7)) == shapes(name)
  shapes(name, shape=(BATCH, 16, 20, 3))


@every_case
def test_dtypes_are_kept(name):
  dtypes = [jnp.float16, jnp.bfloat16, jnp.uint8]
  if name in GEOMETRIC:
    dtypes += [jnp.int8, jnp.int32, jnp.uint16, jnp.bool_]
  for dtype in dtypes:
    assert jax.tree.leaves(shapes(name, dtype))[0].dtype == dtype


@pytest.mark.parametrize("name", filter(takes_key, CASES))
def test_seeds_that_are_no_keys_are_refused(name):
  for key in (0, (0, 1)):
    with pytest.raises(ValueError, match="key must be"):
      CASES[name](key, *examples())


def hue(max_delta):
  return functools.partial(augment.random_hue, max_delta=max_delta)


@pytest.mark.parametrize(
  "mix",
  [
    lambda s, x, y: augment.cutmix(KEY, x, y, alpha=0.5 + s),
    lambda s, x, y: augment.resizemix(KEY, x, y, min_scale=0.2 + s),
    lambda s, x, y: augment.mix(
      KEY, x, y, [augment.Mixup(0.5 + s), augment.Cutout()], [1, 2 + s]
    ),
    lambda s, x, y: augment.random_apply([hue(s), augment.invert], s)(KEY, x),
    lambda s, x, y: augment.random_choice([hue(s), augment.invert])(KEY, x),
  ],
)
def test_a_schedule_on_an_explicit_mesh(mix):
  images, labels = examples()
  expected = jax.jit(mix)(0.25, images, labels)
  mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
  with jax.set_mesh(mesh):
    arrays = jax.device_put((images, labels), PartitionSpec("data"))
    chex.assert_trees_all_close(
      jax.jit(mix)(0.25, *arrays), expected, atol=2e-6
    )


def test_the_docs_on_several_devices_run():
  path = pathlib.Path(__file__).parents[1] / "docs" / "augmentations.md"
  text = path.read_text("utf-8").partition("**Several devices.**")[2]
  mesh, pmap = (x.partition("```")[0] for x in text.split("```python\n")[1:3])
  images, labels = examples()
  names = {"jax": jax, "augment": augment, "key": KEY}
  names |= {"images": images, "labels": labels}
  exec(mesh, names)
  assert names["images"].sharding.spec[0] == "data"
  exec(pmap, names)
  mixed, _ = names["step"](KEY, images[:, None], labels[:, None])
  chex.assert_trees_all_close(mixed[:, 0], names["images"], atol=1e-6)
