"""Other frameworks load an exported file and give the same logits."""

import ast
import os
import pathlib
import types

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np
import pytest
import resnet_run
from flax import linen as nn
from resnet_run import random_model

from mixaug_jax import classifier, models
from mixaug_jax import config as config_lib
from mixaug_jax.command import export
from mixaug_jax.errors import UserError
from mixaug_jax.weights import export as weight_export
from mixaug_jax.weights import sources

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "baseline.py"
KERAS = {"version": "v1", "conv_bias": True, "bn_epsilon": 1.001e-5}


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
  model, variables = random_model(name, **(KERAS if kind == "keras" else {}))
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
  model, variables = random_model("resnet50", **KERAS)
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

  model, variables = random_model(name)
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
  model, variables = random_model(name, **attributes)
  with pytest.raises(OSError, match=r"No such file|Is a directory"):
    weight_export.export(tmp_path / taken, kind, name, model, variables)
  assert [path.name for path in tmp_path.iterdir()] == ["directory"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The directory of a finished run and its variables."""
  workdir = tmp_path_factory.mktemp("run")
  return workdir, resnet_run.write(workdir)


@pytest.mark.parametrize(("chosen", "shift"), [("last", 0), ("ema", 1)])
def test_the_command_writes_the_chosen_weights(run, capsys, chosen, shift):
  workdir, variables = run
  resnet_run.finish(workdir, chosen)
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
