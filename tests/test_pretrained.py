"""Weight files of every format: read exactly, and told when they do not fit."""

import hashlib
import json
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays_of
from ml_collections import ConfigDict

from mixaug_jax import models
from mixaug_jax.errors import UserError
from mixaug_jax.weights import dialects, formats, torch_file
from mixaug_jax.weights import sources as pretrained

STATISTICS = ("running_mean", "running_var")


def _config(pretrained_, name="resnet18", allow_partial=False):
  return ConfigDict(
    {
      "name": name,
      "pretrained": str(pretrained_),
      "allow_partial": allow_partial,
    }
  )


def _variables(name, num_classes=5, seed=0, **attributes):
  """Variables of a model, all of them random."""
  model = models.create_model(name, num_classes, **attributes)
  shapes = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False
    )
  )
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes
  )


def _named(dialect, variables):
  flat = traverse_util.flatten_dict(variables)
  entries = dialects.entries(dialect, variables)
  return {entry.name: entry.export(flat[k]) for k, entry in entries.items()}


def _assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def resnet18():
  return _variables("resnet18")


@pytest.fixture(scope="module")
def keras_resnet50():
  return _variables("resnet50", version="v1", conv_bias=True)


@pytest.fixture(scope="module")
def safetensors(resnet18, tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
  formats.write_safetensors(path, _named(dialects.TORCH, resnet18))
  return path


def test_safetensors_come_back(resnet18, safetensors):
  source = pretrained.resolve(_config(safetensors))
  loaded, report = source.load(jax.tree.map(np.zeros_like, resnet18))
  _assert_same(loaded, resnet18)
  assert len(report.loaded) == len(jax.tree.leaves(resnet18))
  assert str(report) == f"{len(report.loaded)} arrays loaded from {safetensors}"


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": x}])
def test_pth_comes_back_without_pytorch_code(resnet18, tmp_path, wrap):
  torch = pytest.importorskip("torch")
  named = _named(dialects.TORCH, resnet18)
  state = {f"module.{k}": torch.tensor(x) for k, x in named.items()}
  state["module.bn1.num_batches_tracked"] = torch.tensor(3)
  torch.save(wrap(state), tmp_path / "weights.pth")
  source = pretrained.resolve(_config(tmp_path / "weights.pth"))
  _assert_same(source.load(jax.tree.map(np.zeros_like, resnet18))[0], resnet18)


def test_pth_of_strided_shared_and_narrow_tensors(tmp_path):
  torch = pytest.importorskip("torch")
  base = torch.arange(24.0).reshape(4, 6)
  state = {
    "transposed": base.T,
    "part": base[1:3, ::2],
    "parameter": torch.nn.Parameter(base[0]),
    "half": base.half(),
    "bfloat16": base.bfloat16(),
    "integers": torch.arange(3),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
  }
  torch.save(state, tmp_path / "weights.pth")
  read = torch_file.read_state_dict(tmp_path / "weights.pth")
  assert read.keys() == state.keys()
  for name, tensor in state.items():
    expected = tensor.detach()
    assert read[name].shape == tuple(expected.shape)
    np.testing.assert_array_equal(
      read[name].astype(np.float64), expected.double().numpy()
    )


def _write_pth(path, content, data=b""):
  """A file as torch.save lays it out, around any pickle."""
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", content)
    archive.writestr("archive/data/0", data)


class _Malicious:
  def __init__(self, marker):
    self.marker = marker

  def __reduce__(self):
    return open, (str(self.marker), "w")


def test_a_pth_that_could_unpack_to_any_size_is_refused(tmp_path):
  """A zip of 1 MB can hold 1 GB of zeros; torch.save never compresses."""
  path = tmp_path / "bomb.pth"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("archive/data.pkl", pickle.dumps({}))
    archive.writestr("archive/data/0", bytes(1 << 20))
  with pytest.raises(ValueError, match="compressed"):
    torch_file.read_state_dict(path)


def test_code_in_a_pth_is_refused_and_not_run(tmp_path):
  marker = tmp_path / "ran"
  path = tmp_path / "evil.pth"
  _write_pth(path, pickle.dumps({"conv1.weight": _Malicious(marker)}))
  source = pretrained.resolve(_config(path))
  with pytest.raises(UserError, match=r"evil.pth .*holds more than tensors"):
    source.load(_variables("resnet18"))
  assert not marker.exists()


@pytest.mark.parametrize(
  ("offset", "shape", "strides"),
  [
    (0, (3,), (1,)),
    (2, (1,), (1,)),
    (0, (2,), (2,)),
    (-1, (1,), (1,)),
    (0, (2,), (-1,)),
    (0, (1 << 40,), (0,)),
    (0, (1,), (1, 1)),
  ],
)
def test_a_tensor_beyond_its_storage_is_refused(offset, shape, strides):
  with pytest.raises(ValueError, match="damaged"):
    torch_file._rebuild_tensor(np.zeros(2), offset, shape, strides)


@given(
  arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=4, max_side=4))
)
@settings(max_examples=10)
def test_any_tensor_comes_back(tmp_path_factory, array):
  torch = pytest.importorskip("torch")
  path = tmp_path_factory.mktemp("any") / "x.pth"
  torch.save({"x": torch.tensor(array)}, path)
  np.testing.assert_array_equal(torch_file.read_state_dict(path)["x"], array)


def test_keras_npz_and_h5_come_back(keras_resnet50, tmp_path):
  named = _named(dialects.KERAS, keras_resnet50)
  np.savez(tmp_path / "weights.npz", **named)
  layers = dict.fromkeys(name.partition("/")[0] for name in named)
  formats.write_keras_h5(tmp_path / "weights.h5", named, layers)
  for path in (tmp_path / "weights.npz", tmp_path / "weights.h5"):
    source = pretrained.resolve(_config(path, "resnet50"))
    assert source.architecture == {
      "version": "v1",
      "conv_bias": True,
      "bn_epsilon": 1.001e-5,
    }
    assert source.preprocessing.bgr
    loaded, _ = source.load(jax.tree.map(np.zeros_like, keras_resnet50))
    _assert_same(loaded, keras_resnet50)


def test_variables_of_no_resnet_in_an_h5_are_left_over(tmp_path):
  """Those of an optimiser, as Keras 3 writes them, and one without a layer."""
  import h5py

  with h5py.File(tmp_path / "x.weights.h5", "w") as file:
    for layer, count in (("conv1_conv", 2), ("adam", 3)):
      variables = file.create_group(f"layers/{layer}/vars")
      variables.attrs["name"] = layer
      for index in range(count):
        variables[str(index)] = np.full(index + 1, float(count))
    file["alone"] = np.zeros(1)
  read = formats.read(tmp_path / "x.weights.h5")
  names = ["adam/0", "adam/1", "adam/2", "alone"]
  assert sorted(read) == [*names, "conv1_conv/bias", "conv1_conv/kernel"]
  np.testing.assert_array_equal(read["conv1_conv/bias"], [2.0, 2.0])


def test_the_head_of_kerass_published_file_has_another_name(keras_resnet50):
  named = _named(dialects.KERAS, keras_resnet50)
  head = named.pop("predictions/kernel")
  translated = dialects.translate_aliases(
    dialects.KERAS, {**named, "probs/kernel": head}
  )
  assert translated["predictions/kernel"] is head
  assert "probs/kernel" not in translated


def test_a_new_head_for_other_classes_and_for_none(
  resnet18, safetensors, tmp_path
):
  ours = _variables("resnet18", num_classes=3, seed=1)
  loaded, report = pretrained.resolve(_config(safetensors)).load(ours)
  assert report.new_head == "for the file's tells 5 classes apart"
  assert not report.left_over
  _assert_same(loaded["params"]["head"], ours["params"]["head"])
  _assert_same(loaded["params"]["stage4"], resnet18["params"]["stage4"])
  named = _named(dialects.TORCH, resnet18)
  named = {k: x for k, x in named.items() if not k.startswith("fc.")}
  formats.write_safetensors(tmp_path / "x.safetensors", named)
  source = pretrained.resolve(_config(tmp_path / "x.safetensors"))
  loaded, report = source.load(ours)
  assert report.new_head == "for the file has none"
  _assert_same(loaded["params"]["head"], ours["params"]["head"])


@pytest.fixture
def faulty(resnet18, tmp_path):
  """A file with arrays missing, left over and of another shape."""
  named = _named(dialects.TORCH, resnet18)
  del named["layer2.0.conv1.weight"]
  del named["bn1.bias"]
  named["layer5.conv.weight"] = np.zeros(3, np.float32)
  path = tmp_path / "faulty.safetensors"

  def write(**other):
    formats.write_safetensors(path, {**named, **other})
    return path

  return write


def test_every_mismatch_is_told_at_once(resnet18, faulty):
  wrong = {"layer1.0.bn1.weight": np.zeros(63, np.float32)}
  for allow_partial in (False, True):
    config = _config(faulty(**wrong), allow_partial=allow_partial)
    source = pretrained.resolve(config)
    with pytest.raises(UserError) as raised:
      source.load(resnet18)
    sentence = str(raised.value)
    assert "layer1.0.bn1.weight (63,) in place of (64,)" in sentence
    assert "\n" not in sentence
    if not allow_partial:
      missing, left_over = sentence.split("missing: ")[1].split("left over: ")
      assert "bn1.bias, layer2.0.bn1.bias" in missing
      assert "layer2.0.conv1.weight" in missing
      assert "layer5.conv.weight" in left_over


@pytest.mark.parametrize(
  "bad", [np.array([[np.nan, 1.0]]), np.array([["a", "b"]])]
)
def test_what_is_no_number_is_told(tmp_path, bad):
  """Loaded, it would make the first loss a NaN."""
  named = {"predictions/bias": np.zeros(2, np.float32)}
  np.savez(tmp_path / "x.npz", **named, **{"predictions/kernel": bad})
  source = pretrained.resolve(
    _config(tmp_path / "x.npz", "resnet50", allow_partial=True)
  )
  head = {"kernel": np.zeros((1, 2)), "bias": np.zeros(2)}
  sentence = "not finite numbers: predictions/kernel; .* the file anew"
  with pytest.raises(UserError, match=sentence):
    source.load({"params": {"head": head}})


def test_a_partial_file_loads_when_allowed_and_reports(resnet18, faulty):
  path = faulty()
  with pytest.raises(UserError, match="allow_partial=true"):
    pretrained.resolve(_config(path)).load(resnet18)
  ours = _variables("resnet18", seed=1)
  source = pretrained.resolve(_config(path, allow_partial=True))
  loaded, report = source.load(ours)
  # The batch norm after a missing convolution is of no use.
  bn = [f"layer2.0.bn1.{x}" for x in ("bias", "weight", *STATISTICS)]
  assert set(report.missing) == {"bn1.bias", "layer2.0.conv1.weight", *bn}
  assert set(report.left_over) == {"layer5.conv.weight", *bn}
  block = [x["params"]["stage2"]["block1"] for x in (loaded, ours, resnet18)]
  _assert_same(block[0]["bn1"], block[1]["bn1"])
  _assert_same(block[0]["bn2"], block[2]["bn2"])
  stem, ours_stem = loaded["params"]["stem"], ours["params"]["stem"]
  theirs_stem = resnet18["params"]["stem"]
  _assert_same(stem["bn"]["bias"], ours_stem["bn"]["bias"])
  _assert_same(stem["bn"]["scale"], theirs_stem["bn"]["scale"])
  told = str(report)
  for word in ("bn1.bias", "layer5.conv.weight", str(len(report.loaded))):
    assert word in told
  assert told.count("layer2.0.bn1.weight") == 1


def test_weights_of_another_model_do_not_load(safetensors):
  """Not even partially, where shapes differ."""
  source = pretrained.resolve(
    _config(safetensors, "resnet50", allow_partial=True)
  )
  with pytest.raises(UserError, match=r"of another shape.*choose weights"):
    source.load(_variables("resnet50"))


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("x.pth", b"rubbish"),
    ("x.safetensors", b"rubbish"),
    ("x.h5", b"rubbish"),
    ("x.npz", b"rubbish"),
    ("x.npz", b"PK\x03\x04rubbish"),
  ],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
  path = tmp_path / name
  path.write_bytes(content)
  source = pretrained.resolve(_config(path, "resnet50"))
  with pytest.raises(UserError, match="cannot be read") as raised:
    source.load({"params": {}})
  assert str(path) in str(raised.value)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
  ("source", "model", "sentence"),
  [
    ("kearas", "resnet50", "must be keras, .* got 'kearas'"),
    ("keras", "resnet18", "no weights for config.model.name=resnet18; it has"),
    ("torchvision_v2", "resnet34", "it has resnet50, resnet101, resnet152"),
    ("timm/resnet50.a1_in1k", "resnet18", "must begin with resnet18"),
    ("keras", "small_resnet", "no pretrained weights"),
  ],
)
def test_a_source_that_there_is_not_is_told(source, model, sentence):
  with pytest.raises(UserError, match=sentence):
    pretrained.resolve(_config(source, model))


def test_a_missing_file_is_named():
  with pytest.raises(UserError, match=r"no weight file gone\.npz"):
    pretrained.resolve(_config("gone.npz", "resnet50")).fetch()


class _Web:
  """Stands for pooch's downloader; counts what it serves."""

  def __init__(self, content):
    self.content, self.urls = content, []

  def __call__(self, **_):
    return self._fetch

  def _fetch(self, url, output_file, _):
    self.urls.append(url)
    if self.content is None:
      raise ConnectionError("Name or service not known")
    with open(output_file, "wb") as file:
      file.write(self.content)


@pytest.fixture
def web(tmp_path, monkeypatch):
  import pooch

  directory = tmp_path / "cache"
  monkeypatch.setattr(pretrained, "weights_directory", lambda: directory)
  web = _Web(b"weights")
  monkeypatch.setattr(pooch, "HTTPDownloader", web)
  return web


def test_downloads_are_checked_and_kept(web, tmp_path, monkeypatch):
  sha256 = hashlib.sha256(b"weights").hexdigest()[:8]
  monkeypatch.setitem(
    pretrained._TORCHVISION_SHA256["torchvision"], "resnet18", sha256
  )
  source = pretrained.resolve(_config("torchvision"))
  for _ in range(2):
    path = source.fetch()
  assert path.read_bytes() == b"weights"
  assert [p.name for p in path.parent.iterdir()] == [f"resnet18-{sha256}.pth"]
  url = f"https://download.pytorch.org/models/resnet18-{sha256}.pth"
  assert web.urls == [url]
  path.write_bytes(b"rotten")
  with pytest.raises(UserError, match=r"is damaged.*delete it"):
    source.fetch()


@pytest.mark.parametrize("name", ["keras", "keras_notop", "torchvision_v2"])
def test_a_download_of_another_hash_is_thrown_away(web, tmp_path, name):
  with pytest.raises(UserError, match="came with another"):
    pretrained.resolve(_config(name, "resnet50")).fetch()
  assert not list((tmp_path / "cache").iterdir())


def test_off_line_the_file_and_its_place_are_named(web, tmp_path):
  web.content = None
  with pytest.raises(UserError) as raised:
    pretrained.resolve(_config("keras", "resnet50")).fetch()
  sentence = str(raised.value)
  assert "https://storage.googleapis.com/" in sentence
  assert str(tmp_path / "cache" / "resnet50_weights") in sentence
  assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("there", [(), ("config.json",)])
def test_off_line_all_files_of_a_timm_model_are_named_at_once(
  web, tmp_path, monkeypatch, there
):
  import huggingface_hub

  def download(*_, **__):
    raise ConnectionError("Name or service not known")

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
  if there:
    _timm(tmp_path)
  with pytest.raises(UserError) as raised:
    pretrained.resolve(_config("timm/resnet18.a1_in1k")).fetch()
  url = "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main"
  directory = tmp_path / "cache" / "timm" / "resnet18.a1_in1k"
  for name in ("config.json", "model.safetensors"):
    pair = f"{url}/{name} to {directory / name}"
    assert (pair in str(raised.value)) == (name not in there)


def _timm(tmp_path, **described):
  directory = tmp_path / "cache" / "timm" / "resnet18.a1_in1k"
  directory.mkdir(parents=True)
  described = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "input_size": [3, 224, 224],
    "test_input_size": [3, 288, 288],
    **described,
  }
  text = json.dumps({"pretrained_cfg": described})
  (directory / "config.json").write_text(text)
  return directory


def test_timm_weights_bring_their_test_size(
  web, tmp_path, resnet18, safetensors
):
  directory = _timm(tmp_path)
  (directory / "model.safetensors").write_bytes(safetensors.read_bytes())
  source = pretrained.resolve(_config("timm/resnet18.a1_in1k"))
  assert source.test_size == 288
  assert source.preprocessing == models.IMAGENET_PREPROCESSING
  _assert_same(source.load(resnet18)[0], resnet18)


def test_timm_weights_of_another_input_are_told(web, tmp_path):
  _timm(tmp_path, mean=[0.1, 0.2, 0.3])
  with pytest.raises(UserError, match=r"mean \(0.1, 0.2, 0.3\)"):
    pretrained.resolve(_config("timm/resnet18.a1_in1k"))


def test_timm_files_are_fetched_and_checked(web, tmp_path, monkeypatch):
  import huggingface_hub

  _timm(tmp_path)
  tag = [hashlib.sha256(b"weights").hexdigest()]

  def download(repository, file, local_dir):
    assert repository == "timm/resnet18.a1_in1k"
    path = f"{local_dir}/{file}"
    with open(path, "wb") as stream:
      stream.write(b"weights")
    return path

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
  monkeypatch.setattr(
    huggingface_hub,
    "get_hf_file_metadata",
    lambda url: ConfigDict({"etag": tag[0]}),
  )
  source = pretrained.resolve(_config("timm/resnet18.a1_in1k"))
  path = source.fetch()
  assert path.read_bytes() == b"weights"
  path.unlink()
  # Small files go by git's hash; `printf weights | git hash-object --stdin`.
  tag[0] = "3ab313fff6f41bb35969cd359e9ddfb8033b3ac2"
  assert source.fetch() == path
  path.unlink()
  for tag[0] in ("0" * 64, "0" * 40, ""):
    with pytest.raises(UserError, match="another hash"):
      source.fetch()
  assert [p.name for p in path.parent.iterdir()] == ["config.json"]


def _unsettled(**values):
  keys = dict.fromkeys(pretrained.SETTINGS)
  base = _config("none", "resnet50").to_dict()
  return ConfigDict({**base, **keys, **values})


def test_a_config_takes_over_what_its_weights_ask_for(keras_resnet50, tmp_path):
  config = _unsettled(pretrained="keras")
  pretrained.settle(config)
  assert config.version == "v1"
  assert config.conv_bias
  assert config.bn_epsilon == 1.001e-5
  assert config.preprocessing == "caffe"
  assert config.test_size == 224
  again = ConfigDict(config.to_dict())
  pretrained.settle(again)
  assert again == config
  scratch = _unsettled(pretrained=None)
  pretrained.settle(scratch)
  assert {key: scratch[key] for key in pretrained.SETTINGS} == (
    pretrained.SETTINGS
  )


def test_settings_of_published_weights_cannot_be_contradicted():
  with pytest.raises(UserError, match=r"version is v1\.5, but .* ask for v1;"):
    pretrained.settle(_unsettled(pretrained="keras", version="v1.5"))
  own = _unsettled(pretrained="own.safetensors", preprocessing="inception")
  pretrained.settle(own)
  assert own.preprocessing == "inception"
  with pytest.raises(UserError, match="imagenet, caffe, inception"):
    pretrained.settle(_unsettled(pretrained=None, preprocessing="none"))
