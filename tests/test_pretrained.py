"""Weight files of every format: read exactly, or refused in one sentence."""

import hashlib
import http.server
import json
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mixaug_jax import config as config_lib
from mixaug_jax import models
from mixaug_jax.errors import UserError
from mixaug_jax.weights import dialects, downloads, formats, sources

STATISTICS = ("running_mean", "running_var")


def _resolve(pretrained, model="resnet18", allow_partial=False):
  return sources.resolve(str(pretrained), model, allow_partial)


def _variables(name, num_classes=5, seed=0, **attributes):
  """Returns random variables of a model."""
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
  source = _resolve(safetensors)
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
  source = _resolve(tmp_path / "weights.pth")
  _assert_same(source.load(jax.tree.map(np.zeros_like, resnet18))[0], resnet18)


def test_keras_npz_and_h5_come_back(keras_resnet50, tmp_path):
  named = _named(dialects.KERAS, keras_resnet50)
  np.savez(tmp_path / "weights.npz", **named)
  layers = dict.fromkeys(name.partition("/")[0] for name in named)
  formats.write_keras_h5(tmp_path / "weights.h5", named, layers)
  for path in (tmp_path / "weights.npz", tmp_path / "weights.h5"):
    source = _resolve(path, "resnet50")
    assert source.dialect.architecture == {
      "version": "v1",
      "conv_bias": True,
      "bn_epsilon": 1.001e-5,
    }
    assert source.preprocessing.bgr
    loaded, _ = source.load(jax.tree.map(np.zeros_like, keras_resnet50))
    _assert_same(loaded, keras_resnet50)


def test_other_variables_in_an_h5_keep_their_names(tmp_path):
  """An optimiser's, as Keras 3 writes them, and one without a layer."""
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


def test_the_head_of_kerass_published_file_is_renamed(keras_resnet50):
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
  loaded, report = _resolve(safetensors).load(ours)
  assert report.new_head == "the file's has 5 classes"
  assert not report.left_over
  _assert_same(loaded["params"]["head"], ours["params"]["head"])
  _assert_same(loaded["params"]["stage4"], resnet18["params"]["stage4"])
  named = _named(dialects.TORCH, resnet18)
  named = {k: x for k, x in named.items() if not k.startswith("fc.")}
  formats.write_safetensors(tmp_path / "x.safetensors", named)
  source = _resolve(tmp_path / "x.safetensors")
  loaded, report = source.load(ours)
  assert report.new_head == "the file has none"
  _assert_same(loaded["params"]["head"], ours["params"]["head"])


@pytest.fixture
def faulty(resnet18, tmp_path):
  """Writes a file with arrays missing, unknown and of another shape."""
  named = _named(dialects.TORCH, resnet18)
  del named["layer2.0.conv1.weight"]
  del named["bn1.bias"]
  named["layer5.conv.weight"] = np.zeros(3, np.float32)
  path = tmp_path / "faulty.safetensors"

  def write(**other):
    formats.write_safetensors(path, {**named, **other})
    return path

  return write


def test_every_mismatch_is_reported_at_once(resnet18, faulty):
  wrong = {"layer1.0.bn1.weight": np.zeros(63, np.float32)}
  for allow_partial in (False, True):
    source = _resolve(faulty(**wrong), allow_partial=allow_partial)
    with pytest.raises(UserError) as raised:
      source.load(resnet18)
    sentence = str(raised.value)
    assert "layer1.0.bn1.weight (63,) in place of (64,)" in sentence
    assert "\n" not in sentence
    if not allow_partial:
      missing, unused = sentence.split("missing: ")[1].split("not used: ")
      assert "bn1.bias, layer2.0.bn1.bias" in missing
      assert "layer2.0.conv1.weight" in missing
      assert unused.startswith("layer5.conv.weight; ")  # Each name once.


def test_a_file_that_ends_at_a_stage_names_the_key_of_it(resnet18, tmp_path):
  named = _named(dialects.TORCH, resnet18)
  path = tmp_path / "x.safetensors"
  for gone, fix in [
    (("layer4", "fc"), "set config.model.last_stage=stage3, where"),
    (("layer3", "fc"), "set config.model.allow_partial=true"),
    (("layer4", "conv1", "fc"), "set config.model.allow_partial=true"),
    (("layer4.1.conv2", "fc"), "set config.model.allow_partial=true"),
  ]:
    kept = {k: x for k, x in named.items() if not k.startswith(gone)}
    formats.write_safetensors(path, kept)
    with pytest.raises(UserError, match=fix):
      _resolve(path).load(resnet18)


@pytest.mark.parametrize(
  "bad", [np.array([[np.nan, 1.0]]), np.array([["a", "b"]])]
)
def test_arrays_without_finite_numbers_are_refused(tmp_path, bad):
  """The first loss would be NaN."""
  named = {"predictions/bias": np.zeros(2, np.float32)}
  np.savez(tmp_path / "x.npz", **named, **{"predictions/kernel": bad})
  source = _resolve(tmp_path / "x.npz", "resnet50", allow_partial=True)
  head = {"kernel": np.zeros((1, 2)), "bias": np.zeros(2)}
  sentence = "not finite numbers: predictions/kernel; .* the file again"
  with pytest.raises(UserError, match=sentence):
    source.load({"params": {"head": head}})


def test_a_head_of_another_rank_is_of_another_shape(tmp_path):
  arrays = {"kernel": np.zeros((1, 2)), "bias": np.zeros(2)}
  named = {"kernel": np.zeros((1, 2)), "bias": np.zeros(())}
  np.savez(
    tmp_path / "x.npz", **{f"predictions/{k}": x for k, x in named.items()}
  )
  source = _resolve(tmp_path / "x.npz", "resnet50")
  with pytest.raises(UserError, match=r"predictions/bias \(\) in place of"):
    source.load({"params": {"head": arrays}})


def test_a_partial_file_loads_when_allowed_and_reports(resnet18, faulty):
  path = faulty()
  with pytest.raises(UserError, match="allow_partial=true"):
    _resolve(path).load(resnet18)
  ours = _variables("resnet18", seed=1)
  source = _resolve(path, allow_partial=True)
  loaded, report = source.load(ours)
  # The statistics of a missing convolution are useless without it.
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
  """Shapes differ, so allow_partial does not help."""
  source = _resolve(safetensors, "resnet50", allow_partial=True)
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
  source = _resolve(path, "resnet50")
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
def test_an_unknown_source_is_refused(source, model, sentence):
  with pytest.raises(UserError, match=sentence):
    _resolve(source, model)


def test_a_missing_file_is_named():
  with pytest.raises(UserError, match=r"no weight file gone\.npz"):
    _resolve("gone.npz", "resnet50").fetch()


class _Handler(http.server.BaseHTTPRequestHandler):
  """Serves `server.files` by path, as the hub does, but for `cut` bytes."""

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    content = self.server.files.get(self.path)
    self.send_response(404 if content is None else 200)
    if content is None:
      self.send_header("X-Error-Code", "RepoNotFound")
    body = content or b""
    size = len(body) + (self.command == "HEAD" and self.server.cut)
    self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
    self.send_header("X-Repo-Commit", "0" * 40)
    self.send_header("Content-Length", str(size))
    self.end_headers()
    if self.command == "GET":
      self.server.fetched.append(self.path)
      self.wfile.write(body)

  def log_message(self, *_):
    pass


@pytest.fixture
def web(tmp_path, monkeypatch):
  """A web server, in place of the three that publish weights."""
  from huggingface_hub import constants as hub

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
  server.files, server.fetched, server.cut = {}, [], 0
  address = f"http://127.0.0.1:{server.server_port}"
  threading.Thread(target=server.serve_forever, daemon=True).start()
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")
  monkeypatch.setattr(downloads, "directory", lambda: tmp_path / "cache")
  for name, published in sources._PUBLISHED.items():
    url = f"{address}/{published.url.rpartition('/')[2]}"
    monkeypatch.setitem(sources._PUBLISHED, name, published._replace(url=url))
  template = hub.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.ENDPOINT, address)
  monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", template)
  monkeypatch.setattr(hub, "ENDPOINT", address)
  yield server
  server.shutdown()
  server.server_close()


def _names(directory):
  return sorted(path.name for path in directory.iterdir())


def test_downloads_are_checked_and_kept(web, tmp_path, monkeypatch):
  sha256 = hashlib.sha256(b"weights").hexdigest()[:8]
  digests = sources._PUBLISHED["torchvision"].digests
  monkeypatch.setitem(digests, "resnet18", sha256)
  name = f"resnet18-{sha256}.pth"
  web.files[f"/{name}"] = b"weights"
  source = _resolve("torchvision")
  for _ in range(2):
    path = source.fetch()
  assert path.read_bytes() == b"weights"
  assert _names(path.parent) == [name]
  assert web.fetched == [f"/{name}"]
  path.write_bytes(b"rotten")
  with pytest.raises(UserError, match=r"is damaged.*delete it"):
    source.fetch()


def test_a_published_file_that_the_user_put_there_is_used(
  web, tmp_path, monkeypatch
):
  md5 = hashlib.md5(b"weights").hexdigest()
  monkeypatch.setitem(sources._PUBLISHED["keras"].digests, "resnet50", md5)
  (tmp_path / "cache").mkdir()
  name = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
  (tmp_path / "cache" / name).write_bytes(b"weights")
  assert _resolve("keras", "resnet50").fetch() == tmp_path / "cache" / name
  assert not web.fetched


@pytest.mark.parametrize("name", ["keras", "keras_notop", "torchvision_v2"])
def test_a_download_of_another_hash_is_thrown_away(web, tmp_path, name):
  known = sources._PUBLISHED[name]
  url = known.url.format(model="resnet50", digest=known.digests["resnet50"])
  web.files["/" + url.rpartition("/")[2]] = b"weights"
  with pytest.raises(UserError, match=r"is not .*; try again, or fetch it by"):
    _resolve(name, "resnet50").fetch()
  assert len(web.fetched) == 1
  assert not _names(tmp_path / "cache")


def test_offline_the_file_and_its_place_are_named(tmp_path, monkeypatch):
  """Uses the real addresses, with a failure to resolve their names."""
  import requests

  def refuse(*_, **__):
    raise requests.ConnectionError("Name or service not known")

  monkeypatch.setattr(requests, "get", refuse)
  monkeypatch.setattr(downloads, "directory", lambda: tmp_path / "cache")
  with pytest.raises(UserError) as raised:
    _resolve("keras", "resnet50").fetch()
  name = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
  url = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
  assert str(raised.value) == (
    "cannot download the weights (ConnectionError); fetch by other means "
    f"{url}/{name} to {tmp_path / 'cache' / name}, or set "
    "config.model.pretrained=none (random weights) or "
    "config.model.pretrained=FILE"
  )
  assert not _names(tmp_path / "cache")


@pytest.mark.parametrize("source", ["torchvision", "timm/resnet18.a1_in1k"])
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, source):
  (tmp_path / "file").touch()
  monkeypatch.setattr(downloads, "directory", lambda: tmp_path / "file" / "x")
  with pytest.raises(UserError, match=r"file/x.*; set XDG_CACHE_HOME to a"):
    _resolve(source).fetch()


@pytest.mark.parametrize("there", [(), ("config.json",)])
def test_offline_all_files_of_a_timm_model_are_named_at_once(
  tmp_path, monkeypatch, there
):
  from huggingface_hub import constants

  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(downloads, "directory", lambda: tmp_path / "cache")
  if there:
    _timm(tmp_path)
  with pytest.raises(UserError) as raised:
    _resolve("timm/resnet18.a1_in1k").fetch()
  url = "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main"
  directory = tmp_path / "cache" / "timm" / "resnet18.a1_in1k"
  for name in ("config.json", "model.safetensors"):
    pair = f"{url}/{name} to {directory / name}"
    assert (pair in str(raised.value)) == (name not in there)


def _described(**described):
  described = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    **described,
  }
  return json.dumps({"pretrained_cfg": described}).encode()


def _timm(tmp_path, **described):
  directory = tmp_path / "cache" / "timm" / "resnet18.a1_in1k"
  directory.mkdir(parents=True)
  (directory / "config.json").write_bytes(_described(**described))
  return directory


def test_timm_files_that_the_user_put_there_are_used(
  web, tmp_path, resnet18, safetensors
):
  for name in ("config.json", "model.safetensors"):
    web.files[f"/timm/resnet18.a1_in1k/resolve/main/{name}"] = b"another"
  directory = _timm(tmp_path)
  (directory / "model.safetensors").write_bytes(safetensors.read_bytes())
  source = _resolve("timm/resnet18.a1_in1k")
  assert source.preprocessing == models.IMAGENET_PREPROCESSING
  _assert_same(source.load(resnet18)[0], resnet18)
  assert not web.fetched


@pytest.mark.parametrize(
  ("content", "sentence"),
  [
    (_described(mean=[0.1, 0.2, 0.3]), r"mean \(0.1, 0.2, 0.3\)"),
    (b"{}", "does not describe a timm model; delete it"),
    (b"rubbish", "does not describe a timm model; delete it"),
  ],
)
def test_timm_weights_of_another_input_are_refused(
  web, tmp_path, content, sentence
):
  (_timm(tmp_path) / "config.json").write_bytes(content)
  with pytest.raises(UserError, match=sentence):
    _resolve("timm/resnet18.a1_in1k")


def test_timm_files_are_downloaded_and_kept(
  web, tmp_path, resnet18, safetensors
):
  folder = "/timm/resnet18.a1_in1k/resolve/main"
  web.files[f"{folder}/config.json"] = _described(mean=[0.5] * 3, std=[0.5] * 3)
  web.files[f"{folder}/model.safetensors"] = safetensors.read_bytes()
  for _ in range(2):
    source = _resolve("timm/resnet18.a1_in1k")
    assert source.settings["preprocessing"] == "inception"
    _assert_same(source.load(resnet18)[0], resnet18)
  assert web.fetched == list(web.files)


def test_a_timm_file_that_is_cut_short_is_thrown_away(web, tmp_path):
  web.files["/timm/resnet18.x/resolve/main/config.json"] = _described()
  web.cut = 1
  with pytest.raises(UserError, match=r"cannot download the weights \(OSError"):
    _resolve("timm/resnet18.x")
  assert web.fetched
  assert not list(tmp_path.rglob("*.json"))


def test_a_timm_model_that_does_not_exist_is_named(web):
  sentence = "there is no model timm/resnet18.gone on the Hugging Face hub"
  with pytest.raises(UserError, match=sentence):
    _resolve("timm/resnet18.gone")


def test_a_family_without_weights_is_refused_before_anything_is_read(tmp_path):
  for pretrained in ("keras", "timm/vit.x", tmp_path / "gone.npz"):
    with pytest.raises(UserError, match=r"no pretrained weights .*=vit, only"):
      _resolve(pretrained, "vit")


def test_a_family_brings_one_dialect(resnet18, safetensors, monkeypatch):
  monkeypatch.setitem(dialects.DIALECTS, "other", {"torch": dialects.TORCH})
  source = _resolve(safetensors, "other")
  _assert_same(source.load(jax.tree.map(np.zeros_like, resnet18))[0], resnet18)
  sentence = (
    r"x\.npz is a file of keras, but .*=other loads only those of torch"
  )
  with pytest.raises(UserError, match=sentence):
    _resolve("x.npz", "other")
  with pytest.raises(UserError, match=r"keras has no weights for .*=other"):
    _resolve("keras", "other")


def _load_config(**model):
  overrides = {f"model.{key}": str(value) for key, value in model.items()}
  path = pathlib.Path(__file__).parent.parent / "configs" / "baseline.py"
  return config_lib.load(str(path), overrides).model


def test_a_config_takes_over_what_its_weights_ask_for():
  keras = {
    "version": "v1",
    "conv_bias": True,
    "bn_epsilon": 1.001e-5,
    "preprocessing": "caffe",
  }
  settled = _load_config(name="resnet50", pretrained="keras")
  again = _load_config(name="resnet50", pretrained="keras", **keras)
  scratch = _load_config()
  assert {key: settled[key] for key in keras} == keras
  assert again == settled
  assert {key: scratch[key] for key in keras} == {
    "version": "v1.5",
    "conv_bias": False,
    "bn_epsilon": 1e-5,
    "preprocessing": "imagenet",
  }


def test_settings_of_published_weights_cannot_be_contradicted():
  with pytest.raises(UserError, match=r"version is v1\.5, but .* ask for v1;"):
    _load_config(name="resnet50", pretrained="keras", version="v1.5")
  own = {"pretrained": "own.safetensors", "preprocessing": "inception"}
  assert _load_config(name="resnet50", **own).preprocessing == "inception"
  with pytest.raises(UserError, match="imagenet, caffe, inception"):
    _load_config(preprocessing="other")
