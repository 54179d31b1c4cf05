"""Folded batch norm equals batch norm after the convolution."""

import functools
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mixaug_jax.models import cpu
from mixaug_jax.models.folded_norm import (
  FoldedBatchNorm,
  convolve_and_pool,
  expand,
)
from mixaug_jax.models.resnet import Conv, ResNet

QUICKLY = {"xla_backend_optimization_level": 1}  # To compile, not to run.
SETTINGS = {"momentum": 0.9, "epsilon": 1e-5}


class Layer(nn.Module):
  """A convolution, batch norm and, in a stem, the pool.

  Attributes:
    folded: whether batch norm is folded.
    stem: whether it begins the network; otherwise it ends a block.
    axis_name: as in `nn.BatchNorm`.
  """

  folded: bool
  stem: bool
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x):
    conv = Conv(12, size=7 if self.stem else 1, stride=2, name="conv")
    if self.folded:
      norm = FoldedBatchNorm(
        12, axis_name=self.axis_name, name="bn", **SETTINGS
      )
      form = convolve_and_pool if self.stem else expand
      return conv(x, functools.partial(form, norm))
    norm = nn.BatchNorm(False, axis_name=self.axis_name, name="bn", **SETTINGS)
    x = norm(conv(x))
    return cpu.max_pool(x) if self.stem else x


def _variables(key):
  """Returns variables with scales of both signs."""
  keys = jax.random.split(key, 3)
  size = {"stem": 7, "end": 1}
  return {
    name: {
      "params": {
        "conv": {"kernel": jax.random.normal(keys[0], (size, size, 5, 12))},
        "bn": {
          "scale": jax.random.normal(keys[1], (12,)),
          "bias": jax.random.normal(keys[2], (12,)),
        },
      },
      "batch_stats": {"bn": {"mean": jnp.ones(12), "var": jnp.ones(12)}},
    }
    for name, size in size.items()
  }


@pytest.mark.parametrize("place", ["stem", "end"])
def test_values_gradients_and_statistics_equal_batch_norm(place):
  variables = _variables(jax.random.key(0))[place]
  x = 2 + jax.random.normal(jax.random.key(1), (6, 9, 8, 5))

  def outputs(folded):
    layer = Layer(folded, place == "stem")
    run = lambda params, x: layer.apply(
      {**variables, "params": params}, x, mutable=["batch_stats"]
    )

    @jax.jit
    def graded(params, x):
      y, pull, changed = jax.vjp(run, params, x, has_aux=True)
      return y, changed, pull(jax.random.normal(jax.random.key(2), y.shape))

    return graded.lower(variables["params"], x).compile(QUICKLY)(
      variables["params"], x
    )

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
    outputs(True),
    outputs(False),
  )


@pytest.mark.parametrize("place", ["stem", "end"])
def test_statistics_are_those_of_all_devices(place):
  variables = _variables(jax.random.key(0))[place]
  x = jax.random.normal(jax.random.key(1), (8, 9, 8, 5))
  x *= jnp.arange(1, 9)[:, None, None, None]
  one, many = (
    functools.partial(
      Layer(True, place == "stem", name).apply, mutable=["batch_stats"]
    )
    for name in (None, "batch")
  )
  y, changed = one(variables, x)
  run = jax.pmap(lambda x: many(variables, x), axis_name="batch")
  split, same = run(x.reshape(4, 2, *x.shape[1:]))
  np.testing.assert_allclose(split.reshape(y.shape), y, rtol=1e-3, atol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[3], b, rtol=1e-4, atol=1e-5),
    same,
    changed,
  )


@functools.cache
def _trained(platform, dtype, remat=False):
  """Returns loss, statistics and gradients of a small network."""
  backend = {"return_value": platform}
  with unittest.mock.patch.object(jax, "default_backend", **backend):
    model = ResNet((1,), 4, width=8, dtype=dtype, remat=remat)
    images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    variables = model.init(jax.random.key(0), images, train=False)

    def loss(params):
      logits, changed = model.apply(
        {**variables, "params": params},
        images,
        train=True,
        mutable=["batch_stats"],
      )
      return jnp.mean(logits * jnp.arange(32.0).reshape(8, 4)), changed

    graded = jax.jit(jax.value_and_grad(loss, has_aux=True))
    compiled = graded.lower(variables["params"]).compile(QUICKLY)
  return compiled(variables["params"])


def _distance(tree, other):
  """Returns the relative distance of each array, as a flat array."""
  far = lambda a, b: jnp.linalg.norm(a - b) / jnp.linalg.norm(b)
  return np.array(jax.tree.leaves(jax.tree.map(far, tree, other)))


def test_the_forms_for_accelerators_are_as_exact_as_those_for_cpus():
  exact = _trained("cpu", jnp.float32)
  plain = _distance(_trained("cpu", jnp.bfloat16), exact)
  folded = _distance(_trained("gpu", jnp.bfloat16), exact)
  assert (folded != plain).any()
  assert np.median(folded) < 1.2 * np.median(plain)
  assert folded.max() < 1.5 * plain.max()


def test_remat_changes_nothing():
  kept = _trained("gpu", jnp.bfloat16)
  computed_again = _trained("gpu", jnp.bfloat16, remat=True)
  assert _distance(computed_again, kept).max() < 1e-2
