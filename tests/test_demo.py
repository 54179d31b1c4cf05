"""The page of the command demo classifies a photo."""

import importlib.util
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import api
from mixaug_jax.command import demo as command
from mixaug_jax.data import decode
from mixaug_jax.errors import UserError
from mixaug_jax.pages import maps
from mixaug_jax.run_page import demo

RUNS = pathlib.Path(__file__).parent / "data" / "runs"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """A run of three digits, the address of its page, and a photo."""
  gradio = pytest.importorskip("gradio")
  folder = tmp_path_factory.mktemp("demo")
  photo = folder / "photo.png"
  pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  Image.fromarray(pixels).save(photo)
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(RUNS)
    patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    patch.setenv("NO_PROXY", "127.0.0.1,localhost")
    run = api.open_run(RUNS / "0.2.0" / "finished")
    made = demo.make(run)
    assert isinstance(made, gradio.Blocks)
    _, address, _ = made.launch(
      server_name="127.0.0.1", prevent_thread_lock=True, quiet=True
    )
    yield run, address, photo
    made.close()


def test_a_photo_gets_the_classes_of_predict_and_a_map(page):
  import gradio_client

  run, address, photo = page
  client = gradio_client.Client(address, verbose=False)
  classes, seen, mapped = client.predict(
    gradio_client.handle_file(str(photo)), api_name="/look"
  )
  (expected,) = run.predict(photo)
  found = {x["label"]: x["confidence"] for x in classes["confidences"]}
  assert found == pytest.approx(
    {x["class"]: x["probability"] for x in expected["top"]}, abs=1e-6
  )
  network, names = run.classifier(), run.result.class_names
  stored = decode.read(photo, network.square)[None]
  shown = maps.over(
    network, stored, np.array([names.index(expected["top"][0]["class"])])
  )
  for path, images in zip((seen, mapped), shown, strict=True):
    with Image.open(path) as image:
      pixels = np.asarray(image.convert("RGB"), np.int32)
    assert np.abs(pixels - maps.enlarged(images)[0]).mean() < 3  # WebP.


def test_what_is_no_photo_is_one_sentence(page, tmp_path):
  import gradio_client

  _, address, _ = page
  (tmp_path / "notes.png").write_text("not a picture")
  client = gradio_client.Client(address, verbose=False)
  with pytest.raises(gradio_client.exceptions.AppError, match=r"notes\.png"):
    client.predict(
      gradio_client.handle_file(str(tmp_path / "notes.png")), api_name="/look"
    )


def test_a_browser_shows_the_page(page, tmp_path):
  browser = shutil.which("chromium") or shutil.which("google-chrome")
  if not browser:
    pytest.skip("there is no Chromium")
  _, address, _ = page
  done = subprocess.run(
    [
      *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
      *("--disable-quic", "--no-first-run", "--disable-background-networking"),
      *("--disable-component-update", "--disable-sync"),
      f"--user-data-dir={tmp_path / 'profile'}",
      *("--virtual-time-budget=20000", "--dump-dom", address),
    ],
    capture_output=True,
    text=True,
    timeout=300,
  )
  for text in ("One run on", "Photo", "Activation map of the most likely"):
    assert text in done.stdout.partition("<body")[2]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
  with pytest.raises(UserError, match=r"pip install 'mixaug-jax\[demo\]'$"):
    command.main([f"--workdir={RUNS / '0.2.0' / 'finished'}"])
