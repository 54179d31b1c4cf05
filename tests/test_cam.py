"""Class activation maps against their definitions; heat maps and energy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixaug_jax import models
from mixaug_jax.analysis import cam

RNG = np.random.default_rng(0)
CLASS_IDS = jnp.array([4, 0, 1])


def _network(name, size, **attributes):
  """Returns a model, variables far from their initial values, and images."""
  model = models.create_model(name, 5, **attributes)
  images = RNG.normal(size=(3, size, size, 3)).astype(np.float32)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), images, train=False)
  )

  def draw(leaf):
    if leaf.ndim == 1:
      return RNG.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
    return RNG.normal(0, scale, leaf.shape).astype(np.float32)

  return model, jax.tree.map(draw, shapes), images


@pytest.fixture(scope="module")
def small():
  return _network("small_resnet", 16)


@pytest.fixture(
  scope="module", params=["small_resnet", "resnet18", "small_vit"]
)
def network(request):
  size = {"small_resnet": 16, "resnet18": 64, "small_vit": 16}[request.param]
  return _network(request.param, size)


def _chosen_logits(model, variables, images):
  run = jax.jit(functools.partial(model.apply, train=False))
  logits = run(variables, images)
  return np.asarray(logits)[np.arange(len(images)), CLASS_IDS]


def test_cam_averages_to_the_logit_less_the_bias(network):
  model, variables, images = network
  maps = cam.class_activation_map(model, variables, images, CLASS_IDS)
  assert maps.dtype == jnp.float32
  assert maps.shape[1] > 1
  assert maps.min() < 0 < maps.max()
  bias = variables["params"]["head"]["bias"][CLASS_IDS]
  np.testing.assert_allclose(
    maps.mean(axis=(1, 2)) + bias,
    _chosen_logits(*network),
    rtol=1e-5,
    atol=1e-5,
  )


def test_cam_of_a_bfloat16_network_is_of_its_float32_head():
  model, variables, images = _network("small_resnet", 16, dtype=jnp.bfloat16)
  with jax.disable_jit():  # A compiled program rounds to bfloat16 elsewhere.
    maps = cam.class_activation_map(model, variables, images, CLASS_IDS)
    logits = _chosen_logits(model, variables, images)
  assert maps.dtype == jnp.float32
  bias = variables["params"]["head"]["bias"][CLASS_IDS]
  np.testing.assert_allclose(
    maps.mean(axis=(1, 2)) + bias, logits, rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_last_stage_grad_cam_is_cam_over_its_cells(network, sign):
  # Section 3.1 of the Grad-CAM paper. The sign of the head's kernel inverts the
  # map, so that the two signs together show all that the ReLU hides.
  model, variables, images = network
  head = variables["params"]["head"]
  head = {**head, "kernel": sign * head["kernel"]}
  variables = {**variables, "params": {**variables["params"], "head": head}}
  plain = cam.class_activation_map(model, variables, images, CLASS_IDS)
  gradient = cam.class_activation_map(
    model, variables, images, CLASS_IDS, stage=model.stages[-2]
  )
  cells = plain[0].size
  np.testing.assert_allclose(
    gradient, np.maximum(plain, 0) / cells, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize(
  ("name", "stage"),
  [
    ("small_resnet", "stem"),
    ("small_resnet", "stage2"),
    ("small_vit", "block2"),
  ],
)
def test_grad_cam_weighs_channels_by_their_effect_on_the_logit(name, stage):
  model, variables, images = _network(name, 16)
  activations = model.apply(variables, images, train=False, stop=stage)
  start = model.stages[model.stages.index(stage) + 1]

  def logits(shift):
    return model.apply(variables, activations + shift, train=False, start=start)

  # In forward mode, one channel at a time: raising it in every cell changes the
  # logit by the sum of its gradients over the cells.
  effects = jax.jit(
    lambda: jax.vmap(
      lambda one: jax.jvp(logits, (jnp.zeros(len(one)),), (one,))[1]
    )(jnp.eye(activations.shape[-1]))
  )()
  cells = activations[0, ..., 0].size
  weights = np.asarray(effects)[:, np.arange(3), CLASS_IDS].T / cells
  expected = np.einsum("bhwc,bc->bhw", activations, weights)
  actual = cam.class_activation_map(
    model, variables, images, CLASS_IDS, stage=stage
  )
  assert actual.max() > 0
  np.testing.assert_allclose(
    actual, np.maximum(expected, 0), rtol=1e-4, atol=1e-5 * expected.max()
  )


def test_the_map_of_an_example_does_not_depend_on_the_others(small):
  model, variables, images = small
  for stage in (None, "stage1"):
    together = cam.class_activation_map(
      model, variables, images, CLASS_IDS, stage=stage
    )
    alone = cam.class_activation_map(
      model, variables, images[1:2], CLASS_IDS[1:2], stage=stage
    )
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_frozen_stages_have_the_same_maps(small):
  model, variables, images = small
  frozen = model.clone(frozen=("stem", "stage1", "stage2"))
  maps = [
    cam.class_activation_map(m, variables, images, CLASS_IDS, stage="stage1")
    for m in (model, frozen)
  ]
  assert maps[0].max() > 0
  np.testing.assert_allclose(maps[1], maps[0], rtol=1e-6)


def test_one_compilation_serves_every_class(small):
  model, variables, images = small

  @jax.jit
  @chex.assert_max_traces(n=1)
  def maps(variables, images, class_ids):
    return cam.class_activation_map(
      model, variables, images, class_ids, stage="stage2"
    )

  for class_ids in (CLASS_IDS, jnp.array([1, 2, 3])):
    np.testing.assert_allclose(
      maps(variables, images, class_ids),
      cam.class_activation_map(
        model, variables, images, class_ids, stage="stage2"
      ),
      rtol=1e-4,
      atol=1e-5,
    )


@pytest.mark.parametrize("stage", ["head", "stage4", "conv1"])
def test_a_stage_without_a_map_is_refused(stage):
  model = models.create_model("small_resnet", 5)
  with pytest.raises(ValueError, match=f"'{stage}'.*stem, stage1, stage2, st"):
    cam.class_activation_map(
      model, {}, jnp.zeros((1, 16, 16, 3)), jnp.zeros(1, int), stage=stage
    )


class _Unpooled(nn.Module):
  """A model whose head takes flat activations, not their mean."""

  num_classes: int
  dtype: object = jnp.float32
  frozen: tuple[str, ...] = ()
  stages = ("stem", "flat", "head")

  @nn.compact
  def __call__(self, x, *, train, start="stem", stop="head"):
    stage = {
      "stem": nn.Conv(3, (3, 3), name="stem"),
      "flat": lambda x: x.reshape(len(x), -1),
      "head": nn.Dense(self.num_classes, name="head"),
    }
    return models.run_stages(self, stage.get, x, start, stop)


class _TwoLayers(_Unpooled):
  stages = ("stem", "head")

  @nn.compact
  def __call__(self, x, *, train, start="stem", stop="head"):
    stage = {
      "stem": nn.Conv(3, (3, 3), name="stem"),
      "head": lambda x: _MLP(self.num_classes, name="head")(x.mean((1, 2))),
    }
    return models.run_stages(self, stage.get, x, start, stop)


class _MLP(nn.Module):
  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.outputs)(nn.relu(nn.Dense(9)(x)))


@pytest.mark.parametrize(
  ("model", "sentence"),
  [
    (_Unpooled(5), r"stage flat has no activation map: .* \(3, 192\), not"),
    (_TwoLayers(5), "not one linear layer .* choose one of stem for Grad-CAM"),
  ],
)
def test_a_model_without_cam_still_has_grad_cam(model, sentence):
  images = RNG.normal(size=(3, 8, 8, 3)).astype(np.float32)
  variables = model.init(jax.random.key(0), images, train=False)
  with pytest.raises(ValueError, match=sentence):
    cam.class_activation_map(model, variables, images, CLASS_IDS)
  maps = cam.class_activation_map(model, variables, images, CLASS_IDS, "stem")
  assert maps.shape == (3, 8, 8)
  assert maps.max() > 0


def test_a_heatmap_interpolates_between_the_centres_of_cells():
  # The left cell is 2, the right one 4; their centres are at 1/4 and 3/4.
  heat = cam.heatmap(jnp.array([[[2.0, 4.0], [2.0, 4.0]]]), 8)
  centres = (np.arange(8) + 0.5) / 8
  expected = np.interp(centres, [0.25, 0.75], [0.5, 1.0])
  np.testing.assert_allclose(heat[0], np.tile(expected, (8, 1)), atol=1e-6)


def test_a_heatmap_without_positive_values_is_zero():
  maps = jnp.stack([jnp.zeros((3, 3)), -jnp.ones((3, 3))])
  assert not cam.heatmap(maps, 12).any()


def test_negative_values_do_not_darken_their_neighbours():
  maps = jnp.array([[[1.0, 0.0], [0.0, 0.0]], [[1.0, -9.0], [-9.0, -9.0]]])
  heat = cam.heatmap(maps, 8)
  np.testing.assert_array_equal(heat[0], heat[1])


MAPS = hnp.arrays(
  np.float32,
  (2, 3, 5),
  elements=st.floats(-(2.0**100), 2.0**100, width=32),
)
FRACTION = st.floats(0, 1, width=32)


@given(MAPS, st.sampled_from([5, 16]))
def test_heatmaps_lie_between_zero_and_one(maps, size):
  heat = np.asarray(cam.heatmap(maps, size))
  assert heat.dtype == np.float32
  assert heat.shape == (2, size, size)
  assert heat.min() >= 0
  for one, given_map in zip(heat, maps, strict=True):
    # Numbers below the smallest normal float32 count as zero.
    lowest = np.finfo(np.float32).tiny
    expected = 1 if given_map.max() >= lowest else 0
    np.testing.assert_allclose(one.max(), expected, rtol=1e-6)


@given(MAPS, st.permutations(range(2)), FRACTION)
def test_two_halves_of_the_image_share_the_energy(maps, axes, cut):
  whole = np.tile(np.float32([0, 0, 1, 1]), (2, 1))
  first, second = whole.copy(), whole.copy()
  first[:, 2 + axes[0]] = second[:, axes[0]] = cut
  inside = [np.asarray(cam.energy_inside(maps, b)) for b in (first, second)]
  has_energy = maps.max(axis=(1, 2)) >= np.finfo(np.float32).tiny
  np.testing.assert_allclose(
    cam.energy_inside(maps, whole), has_energy, rtol=1e-6
  )
  np.testing.assert_allclose(sum(inside), has_energy, rtol=1e-5)


@given(st.tuples(FRACTION, FRACTION), st.tuples(FRACTION, FRACTION))
def test_the_energy_of_an_even_map_in_a_box_is_the_boxs_area(y, x):
  box = np.float32([min(y), min(x), max(y), max(x)])
  maps = np.full((1, 4, 7), 3, np.float32)
  area = (box[2] - box[0]) * (box[3] - box[1])
  np.testing.assert_allclose(
    cam.energy_inside(maps, box[None])[0], area, atol=1e-5
  )


def test_energy_is_that_of_the_cells_in_the_box():
  maps = np.array([[[4, 1, -50], [2, 0, 3]]], np.float32)
  # The upper row and the upper half of the lower one; the left two columns.
  box = np.float32([[0, 0, 0.75, 2 / 3]])
  np.testing.assert_allclose(
    cam.energy_inside(maps, box), [(4 + 1 + 2 / 2) / 10], rtol=1e-5
  )


def test_a_map_without_energy_has_none_inside():
  boxes = np.float32([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]])
  maps = np.stack([np.full((2, 2), -1.0), np.ones((2, 2))])
  np.testing.assert_array_equal(cam.energy_inside(maps, boxes), [0, 0])


def test_an_overlay_is_a_blend_of_image_and_colours():
  images = RNG.integers(0, 256, (2, 4, 4, 3), np.uint8)
  heat = np.zeros((2, 4, 4), np.float32)
  heat[0, 0, 0] = 1
  np.testing.assert_array_equal(cam.overlay(images, heat, 0), images)
  colours = cam.overlay(images, heat, 1)
  assert colours.dtype == np.uint8
  # The ends of inferno, as matplotlib lists them: #000004 and #fcffa4.
  assert colours[0, 0, 0].tolist() == [0xFC, 0xFF, 0xA4]
  assert (colours[1] == [0, 0, 4]).all()
  half = cam.overlay(images, heat, 0.5).astype(float)
  np.testing.assert_allclose(half, (images / 2 + colours / 2), atol=1)
