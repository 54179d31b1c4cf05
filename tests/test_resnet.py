"""The ResNets against Keras and PyTorch, and the needs of training."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mixaug_jax import models
from mixaug_jax.models import cpu
from mixaug_jax.weights import sources as pretrained

KERAS_STAGES = (
  "pool1_pool",
  "conv2_block3_out",
  "conv3_block4_out",
  "conv4_block6_out",
  "conv5_block3_out",
  "predictions",
)
SIZES = [(97, 75), (224, 224)]
QUICKLY = {"xla_backend_optimization_level": 1}  # To compile, not to run.


def _random_like(name: str, shape: tuple[int, ...], rng) -> np.ndarray:
  """Draws well-scaled weights and statistics far from their initial values.

  Variances are near 1e-3, so that the epsilon of batch norm matters.
  """
  kind = name.replace(".", "/").rpartition("/")[2]
  if kind in ("moving_variance", "running_var"):
    return rng.uniform(0.5e-3, 2e-3, shape).astype(np.float32)
  if len(shape) == 1:
    is_scale = kind in ("gamma", "weight")
    low, high = (0.015, 0.045) if is_scale else (-0.5, 0.5)
    return rng.uniform(low, high, shape).astype(np.float32)
  outputs = shape[0] if kind == "weight" else shape[-1]
  scale = np.sqrt(2 * outputs / np.prod(shape))
  return (rng.standard_normal(shape) * scale).astype(np.float32)


def _load(path, name, num_classes):
  """Returns our model, and its variables from a weight file as in training."""
  source = pretrained.resolve(str(path), name)
  model = models.create_model(name, num_classes, **source.dialect.architecture)
  variables = jax.eval_shape(
    lambda key: model.init(key, jnp.zeros((1, 64, 64, 3)), train=False),
    jax.random.key(0),
  )
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
  loaded, report = source.load(zeros)
  assert (report.missing, report.left_over, report.new_head) == ((), (), None)
  return model, loaded, source


def _activations(model, variables, images):
  """Returns the output of every stage, run one by one."""

  @jax.jit
  def run(variables, x):
    outputs = []
    for stage in model.stages:
      x = model.apply(variables, x, train=False, start=stage, stop=stage)
      outputs.append(x)
    return outputs

  return run(variables, images)


def _assert_close(ours, theirs):
  """Allows an error of 1e-5 relative to the largest activation."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  assert ours.shape == theirs.shape
  error = np.abs(ours - theirs).max() / np.abs(theirs).max()
  assert error <= 1e-5


@pytest.fixture(scope="module")
def keras_resnet50(tmp_path_factory):
  """Keras's ResNet-50 with random weights, by image size; and its file."""
  keras = pytest.importorskip("keras")
  if keras.backend.backend() != "jax":
    pytest.skip("Keras runs on another backend in this process")
  rng = np.random.default_rng(0)
  made = {
    size: keras.applications.ResNet50(
      weights=None,
      input_shape=(*size, 3),
      classes=7,
      classifier_activation=None,
    )
    for size in SIZES
  }
  first = made[SIZES[0]]
  weights = [_random_like(w.path, w.shape, rng) for w in first.weights]
  for model in made.values():
    model.set_weights(weights)
  path = tmp_path_factory.mktemp("keras") / "resnet50.weights.h5"
  first.save_weights(path)
  stages = {
    size: keras.Model(
      model.inputs, [model.get_layer(name).output for name in KERAS_STAGES]
    )
    for size, model in made.items()
  }
  return stages, path, keras


@pytest.mark.parametrize("size", SIZES)
def test_every_stage_equals_keras(keras_resnet50, size):
  peers, path, _ = keras_resnet50
  model, variables, _ = _load(path, "resnet50", 7)
  rng = np.random.default_rng(1)
  images = rng.standard_normal((2, *size, 3)).astype(np.float32)
  theirs = peers[size](images)
  ours = _activations(model, variables, images)
  for mine, peer in zip(ours, theirs, strict=True):
    _assert_close(mine, peer)


def test_preprocessing_equals_keras(keras_resnet50):
  _, path, keras = keras_resnet50
  _, _, source = _load(path, "resnet50", 7)
  images = np.random.default_rng(2).random((2, 5, 4, 3), np.float32)
  theirs = keras.applications.resnet50.preprocess_input(images * 255)
  ours = np.asarray(source.preprocessing(images))
  np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
  ("name", "blocks", "bottleneck", "size"),
  [
    ("resnet50", (3, 4, 6, 3), True, (97, 75)),
    ("resnet50", (3, 4, 6, 3), True, (224, 224)),
    ("resnet18", (2, 2, 2, 2), False, (97, 75)),
  ],
)
def test_every_stage_equals_pytorch(tmp_path, name, blocks, bottleneck, size):
  torch = pytest.importorskip("torch")
  import pytorch_resnet

  rng = np.random.default_rng(0)
  peer = pytorch_resnet.make(blocks, bottleneck, 7)
  peer.load_state_dict(
    {
      key: torch.tensor(_random_like(key, tuple(x.shape), rng)) if x.ndim else x
      for key, x in peer.state_dict().items()
    }
  )
  path = tmp_path / "weights.pth"
  torch.save(peer.state_dict(), path)
  model, variables, _ = _load(path, name, 7)
  images = rng.standard_normal((2, *size, 3)).astype(np.float32)
  with torch.no_grad():
    theirs = peer(torch.tensor(images).permute(0, 3, 1, 2))
  ours = _activations(model, variables, images)
  for mine, other in zip(ours, theirs, strict=True):
    if other.ndim == 4:
      other = other.permute(0, 2, 3, 1)
    _assert_close(mine, other.numpy())


def test_parameter_counts_are_those_of_torchvision():
  """The counts are those in torchvision's documentation for 1,000 classes."""
  counts = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
  }
  for name, count in counts.items():
    assert _count(models.create_model(name, 1000)) == count


def _count(model):
  variables = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False
    )
  )
  return sum(x.size for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(9, 6), (2, 2), (4, 1), (3, 4), (1, 1)])
def test_convolution_and_its_gradients_equal_xlas(size, stride, shape):
  """CPUs use a matrix product for 1x1 kernels and for few pixels."""
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (2, *shape, 5))
  kernel = jax.random.normal(keys[1], (size, size, 5, 4))

  def plain(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      [(size // 2, size // 2)] * 2,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  ours, pull = jax.vjp(lambda *a: cpu.convolve(*a, stride), x, kernel)
  theirs, peer_pull = jax.vjp(plain, x, kernel)
  np.testing.assert_allclose(ours, theirs, atol=1e-5)
  for one, other in zip(pull(ours), peer_pull(theirs), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_few_channels_have_the_gradient_of_many_bit_for_bit(monkeypatch):
  """Its input is transposed by a product on CPUs, in forward mode too."""
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (16, 8, 8, 5))
  kernel = jax.random.normal(keys[1], (3, 3, 5, 4))

  def compiled():
    loss = lambda x, k: jnp.sum(jnp.tanh(cpu.convolve(x, k, 1)))
    gradients = jax.jit(jax.grad(loss, (0, 1)))
    forward = jax.jit(lambda *a: jax.jvp(loss, a, a)[1])
    program = str(jax.make_jaxpr(jax.grad(loss, 1))(x, kernel))
    return gradients(x, kernel), forward(x, kernel), program

  few, forward, with_product = compiled()
  monkeypatch.setattr(cpu, "_FEW_CHANNELS", 0)
  many, peer_forward, without = compiled()
  assert "dot_general" in with_product
  assert "dot_general" not in without
  jax.tree.map(np.testing.assert_array_equal, few, many)
  np.testing.assert_allclose(forward, peer_forward, rtol=1e-5)


@pytest.mark.parametrize(
  ("backend", "present", "absent"),
  [
    (
      "cpu",
      ("dot_general", "_indexed_max_pool"),
      ("conv_gen", "reduce_window"),
    ),
    (
      "gpu",
      ("conv_general_dilated", "_indexed_max_pool"),
      ("dot_general", "reduce_window"),
    ),
    (
      "tpu",
      ("conv_general_dilated", "reduce_window_max"),
      ("dot_general", "_indexed_max_pool"),
    ),
  ],
)
def test_each_platform_gets_its_forms(monkeypatch, backend, present, absent):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((1, 1, 3, 4))
  program = str(
    jax.make_jaxpr(lambda x, k: cpu.max_pool(cpu.convolve(x, k, 1)))(x, kernel)
  )
  assert all(name in program for name in present)
  assert not any(name in program for name in absent)


@pytest.mark.parametrize("shape", [(2, 8, 6, 5), (2, 9, 7, 5), (1, 1, 2, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_and_its_gradient_equal_xlas(shape, ties):
  """This includes ties, of which ReLU makes many."""
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], shape)
  if ties:
    x = jnp.maximum(jnp.round(x), 0)
  plain = lambda x: nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])
  ours, pull = jax.vjp(cpu.max_pool, x)
  theirs, peer_pull = jax.vjp(plain, x)
  np.testing.assert_array_equal(ours, theirs)
  gradient = jax.random.normal(keys[1], ours.shape)
  np.testing.assert_allclose(
    pull(gradient)[0], peer_pull(gradient)[0], rtol=1e-6, atol=1e-6
  )


def test_the_relu_for_gpus_equals_that_of_flax(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  x = jnp.array([-1.0, 0.0, 2.0])
  assert "optimization_barrier" in str(jax.make_jaxpr(cpu.relu)(x))
  ours, pull = jax.vjp(cpu.relu, x)
  theirs, peer_pull = jax.vjp(nn.relu, x)
  np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_array_equal(pull(x + 5)[0], peer_pull(x + 5)[0])


@pytest.fixture(scope="module")
def small():
  model = models.create_model("small_resnet", 10, zero_init_residual=True)
  images = jax.random.normal(jax.random.key(1), (6, 16, 16, 3))
  init = jax.jit(
    lambda key, x: model.init(key, x, train=False), compiler_options=QUICKLY
  )
  return model, init(jax.random.key(0), images), images


def test_slices_join_to_the_whole(small):
  model, variables, images = small
  whole = model.apply(variables, images, train=False)
  for stage, after in zip(model.stages, model.stages[1:], strict=False):
    x = model.apply(variables, images, train=False, stop=stage)
    joined = model.apply(variables, x, train=False, start=after)
    np.testing.assert_array_equal(whole, joined)


def test_a_network_that_ends_early_is_the_beginning_of_the_whole(small):
  model, variables, images = small
  short = models.create_model("small_resnet", 10, last_stage="stage2")
  assert short.stages == (*model.stages[:3], "head")
  made = short.init(jax.random.key(0), images, train=False)
  assert made["params"].keys() == set(short.stages)
  assert made["params"]["head"]["kernel"].shape == (32, 10)
  mixed = {
    kind: {**tree, **{k: variables[kind][k] for k in tree if k != "head"}}
    for kind, tree in made.items()
  }
  ours = short.apply(mixed, images, train=False, stop="stage2")
  whole = model.apply(variables, images, train=False, stop="stage2")
  np.testing.assert_array_equal(ours, whole)


def test_blocks_start_as_their_shortcuts(small):
  model, variables, images = small
  x = model.apply(variables, images, train=False, stop="stem")
  np.testing.assert_array_equal(
    model.apply(variables, x, train=False, start="stage1", stop="stage1"), x
  )


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(small):
  _, variables, images = small
  model = models.create_model("small_resnet", 10, dtype=jnp.bfloat16)
  logits, changed = model.apply(
    variables, images, train=True, mutable=["batch_stats"]
  )
  assert logits.dtype == jnp.float32
  stage = model.apply(variables, images, train=False, stop="stage2")
  assert stage.dtype == jnp.bfloat16
  made = model.init(jax.random.key(0), images, train=False)
  for tree in (made, changed):
    assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}


def test_frozen_batch_norm_keeps_its_statistics(small):
  _, variables, images = small
  images = 3 * images + 1
  free = models.create_model("small_resnet", 10)
  frozen = models.create_model("small_resnet", 10, freeze_batch_norm=True)
  logits, changed = frozen.apply(
    variables, images, train=True, mutable=["batch_stats"]
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    changed.get("batch_stats", variables["batch_stats"]),
    variables["batch_stats"],
  )
  expected = free.apply(variables, images, train=False)
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
  moved, _ = free.apply(variables, images, train=True, mutable=["batch_stats"])
  assert np.abs(moved - expected).max() > 0.1


def test_dropout_acts_only_in_training(small):
  _, variables, images = small
  model = models.create_model("small_resnet", 10, dropout=0.5)
  run = lambda key: model.apply(
    variables,
    images,
    train=True,
    mutable=["batch_stats"],
    rngs={"dropout": jax.random.key(key)},
  )[0]
  assert (run(0) != run(1)).any()
  np.testing.assert_array_equal(
    model.apply(variables, images, train=False),
    models.create_model("small_resnet", 10).apply(
      variables, images, train=False
    ),
  )


def test_remat_takes_less_memory_and_changes_nothing(small):
  _, variables, images = small
  params = jax.tree.map(lambda x: x + 0.1, variables["params"])

  def measured(remat):
    model = models.create_model("small_resnet", 10, remat=remat)

    def loss(params):
      logits, changed = model.apply(
        {**variables, "params": params},
        images,
        train=True,
        mutable=["batch_stats"],
      )
      return jnp.sum(logits**2), changed

    pull = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], params)
    kept = sum(x.size for x in jax.tree.leaves(pull))
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    compiled = gradient.lower(params).compile(QUICKLY)
    taken = compiled.memory_analysis().temp_size_in_bytes
    return kept, taken, compiled(params)

  (kept, taken, expected), (less_kept, less_taken, values) = (
    measured(False),
    measured(True),
  )
  assert less_kept < kept / 2
  assert less_taken < 0.8 * taken
  chex.assert_trees_all_close(values, expected, rtol=1e-5, atol=1e-5)


def test_synchronised_statistics_are_those_of_all_devices(small):
  _, variables, _ = small
  assert jax.device_count() == 4
  images = jax.random.normal(jax.random.key(2), (8, 16, 16, 3))
  images *= jnp.arange(1, 9)[:, None, None, None]
  one = models.create_model("small_resnet", 10)
  many = models.create_model("small_resnet", 10, bn_axis_name="batch")
  expected = one.apply(variables, images, train=True, mutable=["batch_stats"])
  run = jax.pmap(
    lambda x: many.apply(variables, x, train=True, mutable=["batch_stats"]),
    axis_name="batch",
  )
  logits, changed = run(images.reshape(4, 2, 16, 16, 3))
  np.testing.assert_allclose(
    logits.reshape(8, 10), expected[0], rtol=1e-4, atol=1e-4
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5),
    changed,
    expected[1],
  )


def test_an_unknown_initialiser_is_reported():
  model = models.create_model("small_resnet", 10, head_init="ones")
  with pytest.raises(ValueError, match=r"model\.head_init .* lecun_normal, ze"):
    models.abstract_variables(model, 16)


@pytest.mark.parametrize(
  ("attributes", "sentence"),
  [
    ({"name": "resnet51"}, "model.name must be one of resnet18.*'resnet51'"),
    ({"version": "v2"}, "v1 or v1.5"),
    ({"frozen": ("stage4",)}, "optimizer.freeze: small_resnet has no stage4"),
    ({"last_stage": "stage4"}, "stage1, stage2, stage3, got 'stage4'"),
  ],
)
def test_an_unknown_value_is_reported(attributes, sentence):
  with pytest.raises(ValueError, match=sentence):
    models.create_model(
      **{"name": "small_resnet", "num_classes": 10, **attributes}
    )
