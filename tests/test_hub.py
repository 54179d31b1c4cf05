"""A run goes to the Hugging Face hub and comes back as pretrained weights."""

import base64
import hashlib
import http.server
import json
import re
import threading

import jax
import numpy as np
import pytest
import resnet_run

from mixaug_jax import config as config_lib
from mixaug_jax.command import export
from mixaug_jax.errors import UserError
from mixaug_jax.runs import open_run
from mixaug_jax.training import experiment, pretrained, records
from mixaug_jax.weights import downloads, sources

NAME = "ada/digits"


class _Hub(http.server.BaseHTTPRequestHandler):
  """The part of the hub's API that an upload and a download use."""

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    if self.headers["Authorization"] != "Bearer a-token":
      return self._answer(403, {"error": "the token may only read"})
    base = f"http://{self.headers['Host']}"
    if self.path == "/api/repos/create":
      asked = json.loads(body)
      name = f"{asked['organization']}/{asked['name']}"
      return self._answer(200, {"url": f"{base}/{name}", "id": name})
    if self.path == "/api/validate-yaml":
      assert json.loads(body)["content"].startswith("---\nlibrary_name: timm")
      return self._answer(200, {"errors": [], "warnings": []})
    name, action = re.fullmatch(
      r"/api/models/(.*)/(preupload|commit)/main", self.path
    ).groups()
    if action == "preupload":
      files = [
        {"path": x["path"], "uploadMode": "regular", "shouldIgnore": False}
        for x in json.loads(body)["files"]
      ]
      return self._answer(200, {"files": files})
    for line in body.splitlines():
      row = json.loads(line)
      if row["key"] == "file":
        path = f"/{name}/resolve/main/{row['value']['path']}"
        content = base64.b64decode(row["value"]["content"])
        self.server.files[path] = content
    commit = {"commitUrl": f"{base}/{name}/commit/0", "commitOid": "0" * 40}
    return self._answer(200, commit)

  def do_HEAD(self):
    content = self.server.files.get(self.path)
    if content is not None:
      return self._answer(200, content)
    there = any(
      path.startswith(self.path.partition("resolve")[0])
      for path in self.server.files
    )
    error = "EntryNotFound" if there else "RepoNotFound"
    return self._answer(404, b"", error)

  do_GET = do_HEAD  # noqa: N815

  def _answer(self, code, content, error=None):
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
    self.send_response(code)
    if error:
      self.send_header("X-Error-Code", error)
    self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
    self.send_header("X-Repo-Commit", "0" * 40)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(content)

  def log_message(self, *_):
    pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """A server in place of the hub, and a token for it."""
  from huggingface_hub import constants

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
  server.files = {}
  address = f"http://127.0.0.1:{server.server_port}"
  threading.Thread(
    target=server.serve_forever, args=[0.05], daemon=True
  ).start()
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")
  monkeypatch.setenv("HF_TOKEN", "a-token")
  monkeypatch.setattr(downloads, "directory", lambda: tmp_path / "cache")
  template = constants.HUGGINGFACE_CO_URL_TEMPLATE
  template = template.replace(constants.ENDPOINT, address)
  monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
  monkeypatch.setattr(constants, "ENDPOINT", address)
  yield server
  server.shutdown()
  server.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The directory of a finished run of ResNet-18, which has a test split."""
  workdir = tmp_path_factory.mktemp("hub")
  sizes = {"data.image_size": "8", "data.cache_size": "10"}
  resnet_run.write(workdir, **sizes, **{"mix.name": "cutmix"})
  content = json.loads((workdir / "result.json").read_text())
  content["test"] = {"accuracy": 0.8, "top5_accuracy": 1.0, "loss": 0.5}
  content["test"]["examples"] = 5
  content["class_names"] = list("01234")
  (workdir / "result.json").write_text(json.dumps(content))
  logits, labels = np.eye(5, dtype=np.float32), np.arange(5, dtype=np.int32)
  labels[4] = 0
  for split in ("validation", "test"):
    records.write_predictions(workdir, split, logits, labels, list("01234"))
  return workdir


def _build(classes):
  """Builds a run that starts from the weights of the hub."""
  settings = {"model.name": "resnet18", "model.pretrained": f"hf://{NAME}"}
  settings |= {"data.image_size": "8", "data.classes": classes}
  return experiment.build(config_lib.load("cutmix", settings))


def test_a_run_is_pushed_and_is_loaded_as_pretrained_weights(run, hub, capsys):
  export.main([f"--workdir={run}", "--format=safetensors", f"--push={NAME}"])
  printed = capsys.readouterr().out
  assert f"/{NAME}; load it by\n  network = timm.create_model(" in printed
  folder = f"/{NAME}/resolve/main"
  assert sorted(hub.files) == [
    f"{folder}/README.md",
    f"{folder}/config.json",
    f"{folder}/model.safetensors",
  ]
  assert not list(run.glob("*.safetensors"))
  described = json.loads(hub.files[f"{folder}/config.json"])
  assert described["architecture"] == "resnet18"
  assert described["label_names"] == list("01234")
  assert described["pretrained_cfg"]["crop_pct"] == 0.8
  card = hub.files[f"{folder}/README.md"].decode()
  assert "Test accuracy 80.0 %, 95 % interval" in card
  assert "| mixing | cutmix |" in card
  assert '"mix.name": "cutmix"' in card
  assert "3. keep the middle 8 x 8 px of it" in card
  assert str(run) not in card
  network = open_run(run).classifier()
  empty = jax.tree.map(np.zeros_like, network.variables)
  loaded, report = _build("0,1,2,3,4").weights.load(empty)
  assert not report.new_head
  jax.tree.map(np.testing.assert_array_equal, loaded, network.variables)
  # On other classes of the same number, the head is new.
  _, report = _build("5,6,7,8,9").weights.load(empty)
  assert report.new_head == (
    "class 0 is '0' in hf://ada/digits and '5' in the data"
  )
  with pytest.raises(UserError, match="=resnet34, but for resnet18; set that"):
    pretrained.resolve(f"hf://{NAME}", "resnet34")


def test_weights_that_are_pushed_again_are_fetched_again(hub):
  for mean in (0.5, 0.25):
    cfg = {"mean": [mean] * 3, "std": [0.5] * 3}
    content = json.dumps({"pretrained_cfg": cfg}).encode()
    hub.files[f"/{NAME}/resolve/main/config.json"] = content
    if mean == 0.5:
      sources.resolve(f"hf://{NAME}", "resnet18")
  with pytest.raises(UserError, match=r"wants images of mean \(0.25"):
    sources.resolve(f"hf://{NAME}", "resnet18")


@pytest.mark.parametrize(
  ("token", "words", "sentence"),
  [
    (None, [], "^--push needs a token of the Hugging Face hub that may write;"),
    ("other", [], r"^--push=ada/.* refuses it \(403: .*only read\); check the"),
    (
      "a-token",
      ["--push=digits"],
      "^--push=digits must be USER/NA",
    ),
    ("a-token", ["--format=keras"], "^--push takes --format=safetensors only,"),
  ],
)
def test_a_push_that_fails_is_one_sentence(
  run, hub, monkeypatch, tmp_path, token, words, sentence
):
  import huggingface_hub

  monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
  monkeypatch.setenv("HF_TOKEN", token or "")
  argv = [f"--workdir={run}", "--format=safetensors", f"--push={NAME}", *words]
  with pytest.raises(UserError, match=sentence):
    export.main(argv)
  assert not hub.files
  assert not list(run.glob("*.safetensors"))


def test_a_push_without_a_network_is_one_sentence(hub, monkeypatch):
  from mixaug_jax.weights import hub as hub_lib

  hub.shutdown()
  hub.server_close()
  with pytest.raises(UserError, match=r"cannot be reached \(ConnectError\); t"):
    hub_lib.push(NAME, {"README.md": "text"})


@pytest.mark.parametrize(
  ("pretrained", "sentence"),
  [
    ("hf://ada/gone", "there is no model ada/gone on .*; check its name"),
    ("hf://ada/empty", "ada/empty on the Hugging Face hub has no file config."),
    ("hf://../x", r"=hf://\.\./x must be hf://USER/NAME"),
    ("hf://x", "=hf://x must be hf://USER/NAME"),
  ],
)
def test_a_repository_that_cannot_be_read_is_one_sentence(
  hub, pretrained, sentence
):
  hub.files["/ada/empty/resolve/main/README.md"] = b""
  with pytest.raises(UserError, match=sentence):
    sources.resolve(pretrained, "resnet18")
