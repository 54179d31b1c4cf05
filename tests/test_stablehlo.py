"""An exported network runs without this package, on every platform."""

import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from mixaug_jax import models
from mixaug_jax.classifier import Classifier
from mixaug_jax.command import export
from mixaug_jax.config import load
from mixaug_jax.errors import UserError
from mixaug_jax.models import cpu
from mixaug_jax.runs import open_run
from mixaug_jax.weights import stablehlo

ROOT = pathlib.Path(__file__).parent.parent
RUNS = ROOT / "tests" / "data" / "runs"
PAGE = (ROOT / "docs" / "weights.md").read_text("utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def _images(count, size):
  shape = (count, size, size, 3)
  return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


def _classifier(name, size, loss):
  """A network with random weights that crops images of `size` + 2 px."""
  overrides = {
    "model.name": name,
    "model.preprocessing": "caffe",
    "data.image_size": str(size),
    "data.cache_size": str(size + 2),
    "loss.name": loss,
  }
  model = models.create_model(name, 5)
  shapes = models.abstract_variables(model, size)
  rng = np.random.default_rng(0)
  low = lambda x: 0.2 if x.ndim == 1 else -0.3
  draw = lambda x: rng.uniform(low(x), 0.3, x.shape).astype(np.float32)
  variables = jax.tree.map(draw, shapes)
  return Classifier(load("baseline", overrides), model, variables)


@pytest.mark.parametrize(
  ("name", "size", "loss"),
  [("small_resnet", 8, "softmax"), ("small_vit", 8, "sigmoid")],
)
def test_the_file_gives_the_probabilities_of_the_run(
  tmp_path, name, size, loss
):
  network = _classifier(name, size, loss)
  path = tmp_path / "model.stablehlo"
  stablehlo.write(path, network.probabilities, size + 2)
  exported = jax_export.deserialize(bytearray(path.read_bytes()))
  for count in (1, 3):
    images = _images(count, size + 2)
    (logits,) = network.predictor()(images)
    likelihood = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[loss]
    found = exported.call(images)
    assert np.std(found) > 0.01
    np.testing.assert_allclose(found, likelihood(logits), atol=2e-6)
  assert exported.platforms == ("cpu", "cuda", "tpu")


def test_the_file_has_the_forms_for_accelerators(tmp_path):
  pool = lambda x: cpu.max_pool(x.astype(jnp.float32)).mean((1, 2))
  path = tmp_path / "model.stablehlo"
  stablehlo.write(path, pool, 8)
  exported = jax_export.deserialize(bytearray(path.read_bytes()))
  assert "reduce_window" in exported.mlir_module()
  images = _images(2, 8)
  expected = jax.jit(pool)(images)
  np.testing.assert_allclose(exported.call(images), expected, rtol=1e-6)
  traced = jax.jit(lambda x: pool(x)).trace(jnp.asarray(images))
  assert "reduce_window" not in str(traced.jaxpr)  # Those of the CPU again.


def test_a_model_for_one_number_of_images_is_one_sentence(tmp_path):
  with pytest.raises(UserError, match="cannot be traced for any number of im"):
    stablehlo.write(tmp_path / "x", lambda x: x.reshape(5, -1), 8)
  assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A copy of a stored run of three digits."""
  monkeypatch.syspath_prepend(RUNS)
  source = RUNS / "0.2.0" / "finished"
  return pathlib.Path(shutil.copytree(source, tmp_path / "run"))


def test_the_example_of_the_page_serves_a_run_without_this_package(run, capsys):
  export.main([f"--workdir={run}", "--format=stablehlo"])
  printed = capsys.readouterr().out
  assert "  probabilities = network.call(images)  # uint8 [b, 8, 8, 3] to " in (
    printed
  )
  assert "scale the short side to 8 px" in printed
  assert "divide by 255" not in printed  # The file does so.
  images = _images(4, 8)
  np.save(run / "images.npy", images)
  absent = "import sys; sys.modules.update(mixaug_jax=None, flax=None)\n"
  served = subprocess.run(
    [sys.executable, "-c", absent + EXAMPLE],
    cwd=run,
    capture_output=True,
    text=True,
    check=True,
  )
  found = open_run(run)
  (logits,) = found.classifier().predictor()(images)
  expected = np.asarray(jax.nn.softmax(logits))
  rows = [line.split() for line in served.stdout.splitlines()]
  names = [found.result.class_names[i] for i in expected.argmax(-1)]
  assert [name for name, _ in rows] == names
  shares = [float(share) for _, share in rows]
  np.testing.assert_allclose(shares, expected.max(-1), atol=2e-6)


def test_float32_stands_for_the_dtype_auto_on_any_machine(run, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert open_run(run).classifier().model.dtype == jnp.bfloat16
  export.main([f"--workdir={run}", "--format=stablehlo"])
  content = (run / "model.stablehlo").read_bytes()
  module = jax_export.deserialize(bytearray(content)).mlir_module()
  assert "bf16" not in module
