"""Other frameworks load an exported file and give the same logits."""

import ast
import json
import os
import pathlib
import types

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mixaug_jax import classifier, models
from mixaug_jax import config as config_lib
from mixaug_jax.command import export
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, optim, records, state
from mixaug_jax.training.checkpoint import Checkpoints
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.weights import export as weight_export
from mixaug_jax.weights import sources

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "baseline.py"
KERAS = {"version": "v1", "conv_bias": True, "bn_epsilon": 1.001e-5}


def _model(name, **attributes):
  """Returns a model of 5 classes and random variables of it."""
  model = models.create_model(name, 5, **attributes)
  shapes = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False
    )
  )
  rng = np.random.default_rng(0)

  def draw(path, x):
    if x.ndim == 1:
      low = 0.5 if path[-1].key in ("var", "scale") else -0.5
      return rng.uniform(low, low + 1, x.shape).astype(np.float32)
    scale = np.sqrt(2 * x.shape[-1] / x.size)
    return (rng.standard_normal(x.shape) * scale).astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(draw, shapes)


def _assert_close(ours, theirs):
  error = np.abs(ours - theirs).max() / np.abs(theirs).max()
  assert error <= 1e-5


@pytest.mark.parametrize(
  ("kind", "name"),
  [
    ("torchvision", "resnet18"),
    ("safetensors", "resnet34"),
    ("safetensors", "resnet50"),
    ("keras", "resnet50"),
  ],
)
def test_what_is_exported_loads_again(tmp_path, kind, name):
  if kind == "torchvision":
    pytest.importorskip("torch")
  model, variables = _model(name, **(KERAS if kind == "keras" else {}))
  path = tmp_path / f"it's{weight_export.FORMATS[kind].suffix}"
  loads = weight_export.export(path, kind, name, model, variables)
  assert isinstance(ast.parse(loads).body[0], ast.Assign)
  nodes = ast.walk(ast.parse(loads))
  assert str(path) in [x.value for x in nodes if isinstance(x, ast.Constant)]
  source = sources.resolve(str(path), name)
  loaded, report = source.load(jax.tree.map(np.zeros_like, variables))
  assert not report.new_head
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_keras_loads_an_export_with_the_same_logits(tmp_path):
  keras = pytest.importorskip("keras")
  model, variables = _model("resnet50", **KERAS)
  path = tmp_path / "weights.h5"
  loads = weight_export.export(path, "keras", "resnet50", model, variables)
  names = {"keras": keras}
  exec(loads, names)
  peer = names["network"]
  images = np.random.default_rng(1).standard_normal((2, 224, 224, 3))
  images = images.astype(np.float32)
  ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
  _assert_close(np.asarray(ours), np.asarray(peer(images)))


@pytest.mark.parametrize(
  ("kind", "name", "blocks"),
  [
    ("torchvision", "resnet50", (3, 4, 6, 3)),
    ("safetensors", "resnet18", (2, 2, 2, 2)),
  ],
)
def test_pytorch_loads_an_export_with_the_same_logits(
  tmp_path, kind, name, blocks
):
  torch = pytest.importorskip("torch")
  import pytorch_resnet
  import safetensors.torch

  model, variables = _model(name)
  path = tmp_path / f"weights{weight_export.FORMATS[kind].suffix}"
  loads = weight_export.export(path, kind, name, model, variables)
  make = lambda num_classes: pytorch_resnet.make(
    blocks, model.bottleneck, num_classes
  )
  if kind == "torchvision":
    library = types.SimpleNamespace(models=types.SimpleNamespace())
    setattr(library.models, name, make)
    names = {"torchvision": library, "torch": torch}
    exec(loads, names)
    peer = names["network"]
  else:
    assert f"create_model('{name}', num_classes=5" in loads
    peer = make(5)
    peer.load_state_dict(safetensors.torch.load_file(path))
  images = np.random.default_rng(1).standard_normal((2, 64, 64, 3))
  images = images.astype(np.float32)
  ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
  with torch.no_grad():
    theirs = peer(torch.tensor(images).permute(0, 3, 1, 2))[-1].numpy()
  _assert_close(np.asarray(ours), theirs)


@pytest.mark.parametrize(
  ("kind", "name", "attributes", "sentence"),
  [
    ("keras", "resnet50", {}, "like resnet50 v1.5; choose torchvision or s"),
    (
      *("keras", "resnet18", {}),
      "^Keras has no resnet18; choose torchvision or safetensors$",
    ),
    ("torchvision", "resnet50", KERAS, "choose keras"),
    ("safetensors", "small_resnet", {}, "no framework has"),
    ("safetensors", "resnet50", {"last_stage": "stage3"}, "no framework has"),
  ],
)
def test_networks_that_a_framework_lacks_are_refused(
  tmp_path, kind, name, attributes, sentence
):
  model = models.create_model(name, 5, **attributes)
  with pytest.raises(UserError, match=sentence):
    weight_export.export(tmp_path / "x", kind, name, model, {})


def test_only_resnets_are_exported(tmp_path):
  with pytest.raises(UserError, match="Keras has no dense; no framework has"):
    weight_export.export(tmp_path / "x", "keras", "dense", nn.Dense(5), {})


@pytest.mark.parametrize("kind", weight_export.FORMATS)
@pytest.mark.parametrize("taken", ["gone/weights", "directory"])
def test_a_path_that_cannot_be_written_raises_and_leaves_nothing(
  tmp_path, kind, taken
):
  if kind == "torchvision":
    pytest.importorskip("torch")
  (tmp_path / "directory").mkdir()
  name, attributes = (
    ("resnet50", KERAS) if kind == "keras" else ("resnet18", {})
  )
  model, variables = _model(name, **attributes)
  with pytest.raises(OSError, match=r"No such file|Is a directory"):
    weight_export.export(tmp_path / taken, kind, name, model, variables)
  assert [path.name for path in tmp_path.iterdir()] == ["directory"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Writes the directory of a finished run; step 10 is the chosen one."""
  workdir = tmp_path_factory.mktemp("run")
  overrides = {"model.name": "resnet18", "ema.decay": "0.9"}
  config = config_lib.load(str(CONFIG), overrides)
  model, variables = _model("resnet18")
  optimizer, _ = optim.make_optimizer(
    experiment.optimizer_settings(config.optimizer),
    total_steps=10,
    steps_per_epoch=1.0,
    params=variables["params"],
    stages=model.stages,
  )
  start = state.create(jax.tree.map(jnp.asarray, variables), optimizer, True)
  average = jax.tree.map(lambda x: x + 1, start.ema)
  checkpoints = Checkpoints(workdir, keep=2)
  checkpoints.save(5, start, LoopState())
  checkpoints.save(10, start.replace(ema=average), LoopState())
  checkpoints.close()
  recorded = config.to_dict()
  recorded["model"]["test_size"] = 224  # As older runs did.
  (workdir / "config.json").write_text(json.dumps(recorded))
  _finish(workdir, "last")
  return workdir, variables


def _finish(workdir, chosen):
  measured = {"step": 10, "accuracy": 1.0, "top5_accuracy": 1.0, "loss": 0.0}
  measured["examples"] = 5
  config = json.loads((workdir / "config.json").read_text())
  result = {
    "test": None,
    "validation": {"last": measured, "best": measured, "ema": measured},
    "chosen": chosen,
    "chosen_step": 10,
    "steps": 10,
    "epochs": 10.0,
    "seconds": 1.0,
    "compile_seconds": 1.0,
    "processes": 1,
    "images_per_second": 1.0,
    "devices": 1,
    "device_kind": "cpu",
    "class_names": list("abcde"),
    "examples": {"train": 5, "validation": 5},
    "versions": {},
    "xla_flags": "",
    "commit": None,
    "config_crc32": records.checksum(config),
  }
  (workdir / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize(("chosen", "shift"), [("last", 0), ("ema", 1)])
def test_the_command_writes_the_chosen_weights(run, capsys, chosen, shift):
  workdir, variables = run
  _finish(workdir, chosen)
  command = [f"--workdir={workdir}", "--format=safetensors"]
  export.main(command)
  printed = capsys.readouterr().out
  assert "  network = timm.create_model('resnet18', num_classes=5" in printed
  assert "its input, 16 x 16 px, is made of an image like this:" in printed
  written = workdir / "weights.safetensors"
  (workdir / "usual").touch()
  assert written.stat().st_mode == (workdir / "usual").stat().st_mode
  source = sources.resolve(str(written), "resnet18")
  loaded, _ = source.load(jax.tree.map(np.zeros_like, variables))
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a, b + shift), loaded, variables
  )
  content = written.read_bytes()
  for output in ([], [f"--output={written}"]):
    with pytest.raises(UserError, match=r"weights\.safetensors exists; remove"):
      export.main([*command, *output])
  assert written.read_bytes() == content
  written.unlink()
  written.symlink_to("config.json")
  with pytest.raises(UserError, match=r"weights\.safetensors exists; remove"):
    export.main(command)
  written.unlink()


@pytest.mark.parametrize(
  ("flags", "sentence"),
  [
    (["--format=onnx"], "must be one of torchvision, safetensors, keras"),
    (["--format=keras", "--output=x.weights.h5"], r"must end in \.h5"),
    (["--format=keras", "--workdir=gone"], "gone is not the directory of a"),
    (["--format=keras"], r"^--format=keras: .*; choose torchvision or safet"),
    (
      ["--format=safetensors", "--output=gone/x.safetensors"],
      r"^cannot write gone/x\.safetensors: No such .*; name another --output$",
    ),
  ],
)
def test_mistakes_of_the_command_are_reported(run, flags, sentence):
  with pytest.raises(UserError, match=sentence):
    export.main([f"--workdir={run[0]}", *flags])


@pytest.mark.parametrize(
  ("settings", "lines"),
  [
    (
      {"image_size": 224, "cache_size": 256, "preprocessing": "imagenet"},
      [
        "2. scale the short side to 256 px and keep the middle square",
        "3. keep the middle 224 x 224 px of it",
        "4. divide by 255, subtract the mean (0.485, 0.456, 0.406), and divide "
        "by the std (0.229, 0.224, 0.225), in RGB",
      ],
    ),
    (
      {"image_size": 64, "resize": "pad", "preprocessing": "caffe"},
      [
        "2. scale the long side to 64 px and add black",
        "3. reverse the channels, to BGR",
        "the mean (0.407604, 0.457957",
        "in BGR",
      ],
    ),
  ],
)
def test_the_input_of_a_network_is_described(settings, lines):
  settings = dict(settings)
  of_model = {"model.preprocessing": settings.pop("preprocessing")}
  of_data = {f"data.{key}": str(x) for key, x in settings.items()}
  config = config_lib.load("cutmix", of_data | of_model)
  text = classifier.Classifier(config, None, None).describe_input()
  for line in lines:
    assert line in text
