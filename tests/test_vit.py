"""The Vision Transformers against PyTorch's layers, and in the commands."""

import math
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax import models, runs
from mixaug_jax.command import evaluate, predict
from mixaug_jax.errors import UserError
from mixaug_jax.models import vit
from mixaug_jax.training import experiment, loop

QUICKLY = {"xla_backend_optimization_level": 1}  # To compile, not to run.


@pytest.fixture(scope="module")
def small():
  model = models.create_model("small_vit", 10)
  images = jax.random.normal(jax.random.key(1), (6, 16, 16, 3))
  init = jax.jit(
    lambda key, x: model.init(key, x, train=False), compiler_options=QUICKLY
  )
  return model, init(jax.random.key(0), images), images


@pytest.mark.parametrize(
  ("name", "count"),
  # Those of timm's vit_tiny_patch16_224 and vit_small_patch16_224, less the
  # class token and 197 learned positions.
  [("vit_ti16", 5_717_416 - 198 * 192), ("vit_s16", 22_050_664 - 198 * 384)],
)
def test_parameter_counts_are_those_of_timm(name, count):
  model = models.create_model(name, 1000)
  params = models.abstract_variables(model, 224)["params"]
  assert sum(x.size for x in jax.tree.leaves(params)) == count


def test_a_block_equals_pytorch():
  torch = pytest.importorskip("torch")
  width, heads, rng = 24, 3, np.random.default_rng(0)
  peer = torch.nn.TransformerEncoderLayer(
    width,
    heads,
    4 * width,
    dropout=0.0,
    activation=torch.nn.GELU("tanh"),
    layer_norm_eps=1e-6,
    batch_first=True,
    norm_first=True,
  )
  weights = {
    name: rng.normal(0, 0.3, tuple(x.shape)).astype(np.float32)
    for name, x in peer.state_dict().items()
  }
  peer.load_state_dict({k: torch.tensor(x) for k, x in weights.items()})

  def linear(name):
    return {
      "kernel": weights[f"{name}.weight"].T,
      "bias": weights[f"{name}.bias"],
    }

  def norm(name):
    return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

  kernels = np.split(weights["self_attn.in_proj_weight"], 3)
  biases = np.split(weights["self_attn.in_proj_bias"], 3)
  each = (heads, width // heads)
  attention = {
    name: {"kernel": kernel.T.reshape(width, *each), "bias": bias.reshape(each)}
    for name, kernel, bias in zip(
      ("query", "key", "value"), kernels, biases, strict=True
    )
  }
  out = linear("self_attn.out_proj")
  out["kernel"] = out["kernel"].reshape(*each, width)
  params = {
    "attention": attention | {"out": out},
    "norm1": norm("norm1"),
    "norm2": norm("norm2"),
    "mlp1": linear("linear1"),
    "mlp2": linear("linear2"),
  }
  x = rng.normal(size=(2, 3, 5, width)).astype(np.float32)
  block = vit.Block(heads, jnp.float32)
  made = jax.eval_shape(block.init, jax.random.key(0), x)["params"]
  chex.assert_trees_all_equal_shapes(params, made)
  ours = block.apply({"params": params}, x)
  with torch.no_grad():
    theirs = peer.eval()(torch.tensor(x.reshape(2, 15, width)))
  np.testing.assert_allclose(
    ours, theirs.numpy().reshape(x.shape), rtol=1e-4, atol=1e-4
  )


def test_positions_follow_their_formula():
  positions = vit.sincos_positions(3, 4, 16)
  assert positions.shape == (3, 4, 16)
  for y, x, i in np.ndindex(3, 4, 4):
    frequency = 10_000 ** (-i / 3)
    expected = [f(v * frequency) for v in (x, y) for f in (math.sin, math.cos)]
    np.testing.assert_allclose(positions[y, x, i::4], expected, atol=1e-6)


def test_slices_join_to_the_whole(small):
  model, variables, images = small
  whole = model.apply(variables, images, train=False)
  for stage, after in zip(model.stages, model.stages[1:], strict=False):
    x = model.apply(variables, images, train=False, stop=stage)
    assert x.shape == (6, 4, 4, 64)
    joined = model.apply(variables, x, train=False, start=after)
    np.testing.assert_array_equal(whole, joined)


def test_bfloat16_keeps_parameters_and_logits_in_float32(small):
  _, variables, images = small
  model = models.create_model("small_vit", 10, dtype=jnp.bfloat16)
  assert model.apply(variables, images, train=True).dtype == jnp.float32
  for stage in model.stages[:-1]:
    x = model.apply(variables, images, train=False, stop=stage)
    assert x.dtype == jnp.bfloat16
  made = models.abstract_variables(model, 16)
  assert {x.dtype for x in jax.tree.leaves(made)} == {jnp.dtype("float32")}


def test_dropout_acts_only_in_training(small):
  plain, variables, images = small
  model = models.create_model("small_vit", 10, dropout=0.5)
  run = lambda key: model.apply(
    variables, images, train=True, rngs={"dropout": jax.random.key(key)}
  )
  assert (run(0) != run(1)).any()
  np.testing.assert_array_equal(
    model.apply(variables, images, train=False),
    plain.apply(variables, images, train=False),
  )


def test_remat_takes_less_memory_and_changes_nothing(small):
  _, variables, images = small

  def measured(remat):
    model = models.create_model("small_vit", 10, remat=remat)

    def loss(params):
      logits = model.apply({"params": params}, images, train=True)
      return jnp.sum(logits**2)

    gradient = jax.jit(jax.value_and_grad(loss))
    compiled = gradient.lower(variables["params"]).compile(QUICKLY)
    taken = compiled.memory_analysis().temp_size_in_bytes
    return taken, compiled(variables["params"])

  (taken, expected), (less_taken, values) = measured(False), measured(True)
  assert less_taken < 0.8 * taken
  chex.assert_trees_all_close(values, expected, rtol=1e-5, atol=1e-5)


def test_a_patch_that_does_not_divide_the_image_is_reported():
  config = config_lib.load(
    "configs/cutmix.py",
    {"model.name": "small_vit", "data.image_size": "18"},
  )
  with pytest.raises(UserError, match=r"must be a multiple .* 4, got 18 x 18"):
    experiment.build(config)


def test_it_trains_resumes_evaluates_and_predicts(tmp_path, capsys):
  settings = {
    "model.name": "small_vit",
    "model.remat": "true",
    "model.dropout": "0.1",
    "optimizer.name": "adamw",
    "optimizer.learning_rate": "0.003",
    "optimizer.layer_decay": "0.8",
    "optimizer.accumulate": "2",
    "ema.decay": "0.9",
    "evaluate.checkpoint": "ema",
    "checkpoint.every_steps": "15",
    "steps": "30",
  }
  config = lambda: config_lib.load("configs/cutmix.py", settings)
  whole, resumed = tmp_path / "whole", tmp_path / "resumed"
  result = loop.train(config(), whole)
  assert result.validation.last.loss < math.log(10)  # That of a guess.

  shutil.copytree(whole, resumed)
  (resumed / "result.json").unlink()
  shutil.rmtree(resumed / "checkpoints" / "30")
  loop.train(config(), resumed)
  assert "resuming from step 15" in capsys.readouterr().out
  first, second = (
    runs.open_run(run).predictions("test").logits for run in (whole, resumed)
  )
  np.testing.assert_array_equal(first, second)

  evaluate.main([f"--workdir={whole}", "--split=test"])
  accuracy = f"{result.test.accuracy:.2%}"
  assert accuracy in capsys.readouterr().out
  image = tmp_path / "seven.png"
  Image.new("RGB", (20, 20), "white").save(image)
  for stage in ([], ["--stage=block2"]):
    output = tmp_path / f"maps{len(stage)}"
    predict.main(
      [f"--workdir={whole}", f"--output={output}", *stage, str(image)]
    )
    assert len(list(output.glob("*.png"))) == 1
  with pytest.raises(UserError, match=r"'block9'; .* stem, block1, .*, norm"):
    predict.main(
      [f"--workdir={whole}", f"--output={output}", "--stage=block9", str(image)]
    )
