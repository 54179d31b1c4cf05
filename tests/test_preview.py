import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax.analysis import contact_sheet, fonts
from mixaug_jax.command import preview
from mixaug_jax.errors import UserError


@pytest.fixture
def cutmix():
  return config_lib.load("configs/cutmix.py")


def test_soft_labels_in_words():
  names = ("Pug", "Chihuahua", "Beagle")
  words = contact_sheet.in_words(np.array([0.38, 0.62, 0.0]), names)
  assert words == "0.62 Chihuahua + 0.38 Pug"
  assert contact_sheet.in_words(np.array([0.0, 0.0, 1.0]), names) == "Beagle"


def test_the_sheet_is_written(tmp_path, capsys):
  output = tmp_path / "preview.png"
  preview.main(["--config=configs/mixup.py", f"--output={output}", "--count=3"])
  picture = np.asarray(Image.open(output))
  assert picture.shape[1] > picture.shape[0] > 300
  assert len(np.unique(picture)) > 50
  assert str(output) in capsys.readouterr().out
  preview.main(["--config=configs/cutmix.py", f"--output={output}"])
  assert Image.open(output).info["Software"] == "mixaug_jax preview"


def test_names_without_a_font_are_reported(tmp_path, monkeypatch, capsys):
  alone = next(fonts._fonts())
  monkeypatch.setattr(fonts, "_fonts", lambda: iter([alone]))
  monkeypatch.setattr(contact_sheet, "readable", lambda x: ["猫"] * len(x))
  output = tmp_path / "preview.png"
  preview.main(["--config=configs/mixup.py", f"--output={output}"])
  assert "no font on this machine has 猫; boxes" in capsys.readouterr().out


def test_only_a_preview_is_replaced(tmp_path, monkeypatch):
  monkeypatch.setattr(
    contact_sheet, "training_batch", lambda *_: pytest.fail("too late")
  )
  picture = Image.new("RGB", (4, 4))
  (tmp_path / "notes.png").write_text("notes")
  picture.save(tmp_path / "photo.png")
  (tmp_path / "folder.png").mkdir()
  (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
  files = list(tmp_path.iterdir())
  content = [path.read_bytes() for path in files if path.is_file()]
  for path in files:
    with pytest.raises(UserError, match="exists and was not made by preview"):
      preview.main(["--config=configs/cutmix.py", f"--output={path}"])
  assert content == [path.read_bytes() for path in files if path.is_file()]
  assert sorted(tmp_path.iterdir()) == sorted(files)


def test_the_shown_images_are_mixed_by_their_labels(cutmix):
  before, classes, after, labels = contact_sheet.training_batch(cutmix, 2)
  assert before.dtype == np.uint8
  assert len(before) == len(classes) == len(after) == len(labels) == 48
  own = np.isclose(after, before / 255, atol=1e-6).all(-1).mean((1, 2))
  for label, name, share in zip(labels, classes, own, strict=True):
    for part in label.split(" + "):
      weight, _, of = part.rpartition(" ")
      if of == name and weight:  # Pixels of both may be equal by chance.
        assert share >= float(weight) - 0.01


def test_another_step_shows_another_batch(cutmix):
  first, second = (
    contact_sheet.training_batch(cutmix, step)[0] for step in (0, 1)
  )
  assert not np.array_equal(first, second)


def test_small_and_large_images_and_long_names_fit():
  for size in (8, 300):
    images = np.zeros((2, size, size, 3), np.uint8)
    long = "0.50 " + "x" * 80 + " + 0.50 " + "y" * 80
    sheet = contact_sheet.sheet(
      images, ["a", "b"], images / 255, [long, "b"], 9
    )
    tile = max(160, size)
    assert sheet.width >= 2 * tile
    assert sheet.height >= 2 * tile


@pytest.mark.parametrize("name", ["preview", "preview.jpg", "preview.pdf"])
def test_another_format_is_refused_first(tmp_path, monkeypatch, name):
  monkeypatch.setattr(
    contact_sheet, "training_batch", lambda *_: pytest.fail("too late")
  )
  with pytest.raises(UserError, match=r"--output must end in \.png"):
    preview.main(["--config=configs/cutmix.py", f"--output={tmp_path / name}"])


@pytest.mark.parametrize(
  "arguments",
  [
    ["--output=nowhere/preview.png"],
    ["--output=preview.png", "--count=0"],
    ["--output=preview.png", "--step=-1"],
    ["--output=preview.png", "--config.mix.alpha=-1"],
  ],
)
def test_mistakes_are_refused(arguments):
  with pytest.raises(UserError):
    preview.main(["--config=configs/cutmix.py", *arguments])
