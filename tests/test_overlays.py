"""Overlays: where each is written, what is never replaced, what they show."""

import hashlib
import json
import os
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mixaug_jax.analysis import cam, marked_png, overlays
from mixaug_jax.augment import center_crop
from mixaug_jax.command import predict, train
from mixaug_jax.data import boxes, image_files
from mixaug_jax.data.decode import Settings, decode_square
from mixaug_jax.errors import UserError

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "baseline.py"


def _photo(path, size=(40, 30), colour="red", **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", size, colour).save(path, **options)
  return path


def _plan(named, folder):
  photos = image_files.find(named)
  places = overlays.plan(photos, named, folder)
  return [str(place.relative_to(folder)) for place in places.values()]


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_the_folders_of_the_photos_are_kept(here):
  for name in ("a/cat/0.png", "a/dog/0.png", "b/cat/0.png", "c.jpg"):
    _photo(here / name)
  named = [pathlib.Path(name) for name in ("a", "b", "c.jpg")]
  assert _plan(named, pathlib.Path("out")) == [
    *("cat/0.png", "dog/0.png", "cat/0_2.png", "c.png"),
  ]


def test_names_differ_without_case_suffix_and_accents(here):
  names = [
    "1/x.jpg",
    "2/X.png",
    "3/x.JPEG",
    "4/x_2.jpg",
    "é.png",
    "e\u0301.jpg",
  ]
  named = [_photo(here / name) for name in names]
  (here / "5" / "x_4.png").mkdir(parents=True)
  _photo(here / "5" / "x_4.png" / "y.png")
  assert _plan([*named, here / "5"], here / "out") == [
    *("x.png", "X_2.png", "x_3.png", "x_2_2.png", "é.png", "e\u0301_2.png"),
    "x_4.png/y.png",
  ]


def test_a_photo_that_is_named_twice_has_one_overlay(here):
  photo = _photo(here / "a" / "x.jpg")
  assert _plan([here / "a", photo], here / "out") == ["x.png"]


def test_a_name_with_dots_stays_in_the_folder():
  gone = pathlib.Path("gone/..")
  (place,) = overlays.plan(
    [image_files.Found(gone, pathlib.PurePath(gone.name))], [gone], gone
  ).values()
  assert place == gone / "...png"


def test_long_names_and_one_of_dots_have_overlays(here):
  long = "é" * 127  # 254 bytes.
  photo = _photo(here / "..jpg", format="JPEG")
  named = [photo, here / "1" / long, here / "2" / long]
  for path in named[1:]:
    path.parent.mkdir()
    shutil.copy(photo, path)
  places = _plan(named, here / "out")
  assert places == ["..png", f"{long[:125]}.png", f"{long[:124]}_2.png"]
  (here / "out").mkdir()
  for place in places:
    picture = Image.new("RGB", (4, 4))
    marked_png.save(picture, here / "out" / place, "predict")


def _refused(here, named, sentence, folder="out"):
  before = _content(here)
  with pytest.raises(UserError, match=sentence):
    _plan([here / name for name in named], here / folder)
  assert _content(here) == before


def _content(folder):
  return {
    path: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.rglob("*")
    if path.is_file()
  }


def test_a_file_that_is_no_overlay_is_kept(here):
  _photo(here / "a" / "x.jpg")
  _photo(here / "out" / "x.png")
  _refused(here, ["a"], r"out/x\.png exists and was not made by predict")
  (here / "out" / "x.png").write_bytes(b"notes")
  _refused(here, ["a"], r"out/x\.png exists")
  picture = Image.new("RGB", (4, 4))
  marked_png.save(picture, here / "out" / "x.png", "preview")
  _refused(here, ["a"], r"out/x\.png exists")
  marked_png.save(picture, here / "out" / "x.png", "predict")
  assert _plan([here / "a"], here / "out") == ["x.png"]


def test_an_input_is_kept_even_if_it_is_an_overlay(here):
  overlay = here / "out" / "x.png"
  overlay.parent.mkdir()
  marked_png.save(Image.new("RGB", (4, 4)), overlay, "predict")
  _refused(here, ["out/x.png"], "would replace an image that is predicted")
  os.link(overlay, _photo(here / "a" / "y.png").with_name("x.png"))
  _refused(here, ["a"], "would replace an image that is predicted")


@pytest.mark.parametrize("folder", ["a", "a/out", "a/cat"])
def test_a_folder_of_photos_takes_no_overlays(here, folder):
  _photo(here / "a" / "cat" / "x.png")
  _refused(here, ["a"], "whose images are predicted", folder)


def test_links_are_not_followed(here):
  _photo(here / "a" / "cat" / "x.jpg")
  victim = _photo(here / "elsewhere" / "x.png")
  (here / "out").mkdir()
  (here / "out" / "cat").symlink_to(victim.parent)
  _refused(here, ["a"], r"out/cat is a link")
  (here / "out" / "cat").unlink()
  (here / "out" / "cat").mkdir()
  (here / "out" / "cat" / "x.png").symlink_to(victim)
  _refused(here, ["a"], r"out/cat/x\.png exists")
  (here / "linked").symlink_to(here / "a")
  _refused(here, ["a"], "whose images are predicted", "linked")
  os.mkfifo(here / "a" / "x.png")
  _refused(here, ["a/cat/x.jpg"], r"a/x\.png exists", "a")


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(90, 50), (50, 91), (64, 64), (301, 128)])
@pytest.mark.parametrize(("stored", "view"), [(64, 64), (64, 41), (57, 32)])
def test_the_network_sees_the_box_of_the_map(
  tmp_path, resize, size, stored, view
):
  """White in the box and black elsewhere is white to its edges in the view."""
  width, height = size
  square = Settings(stored, resize)
  box = boxes.view_in_picture(square, view, height, width)
  ymin, xmin, ymax, xmax = (round(edge) for edge in box)
  pixels = np.zeros((height, width, 3), np.uint8)
  pixels[max(0, ymin) : ymax, max(0, xmin) : xmax] = 255
  file = tmp_path / "x.png"
  Image.fromarray(pixels).save(file)
  seen = decode_square(file.read_bytes(), square).pixels
  seen = np.asarray(center_crop(jnp.asarray(seen), view))[..., 0]
  white = np.array([[0, 0], [view, view]])
  # Padding is black: the part of the box that lies outside of the picture.
  scale = (box[2] - box[0]) / view, (box[3] - box[1]) / view
  for axis, side in enumerate((height, width)):
    white[0, axis] = max(0, np.ceil(-box[axis] / scale[axis]))
    end = np.floor((side - box[axis]) / scale[axis])
    white[1, axis] = min(view, end)
  (top, left), (bottom, right) = white
  assert (seen[top + 1 : bottom - 1, left + 1 : right - 1] == 255).all()
  outside = np.ones_like(seen, bool)
  outside[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = False
  assert not seen[outside].any()
  # One pixel of the square beyond the box is not white.
  if view < stored and resize != "pad":
    crop = np.asarray(
      center_crop(
        jnp.asarray(decode_square(file.read_bytes(), square).pixels), view + 4
      )
    )[..., 0]
    assert not crop[0].any()
    assert not crop[:, -1].any()


def test_a_map_lies_in_its_box_and_the_rest_is_untouched():
  picture = np.full((40, 60, 3), 100, np.uint8)
  overlays.lay_over(
    picture, np.array([[1.0, 0.0], [-3.0, 0.5]]), (4, 6, 24, 46)
  )
  outside = np.ones((40, 60), bool)
  outside[4:24, 6:46] = False
  assert (picture[outside] == 100).all()
  flat = np.full((1, 1, 3), 100, np.uint8)
  colour = lambda heat: cam.overlay(flat, np.array([[heat]]))[0, 0]
  # The edges outside of the centres of the cells have the values of the cells.
  for (row, column), heat in {
    (4, 6): 1.0,
    (8, 15): 1.0,
    (4, 45): 0.0,
    (23, 6): 0.0,
    (23, 45): 0.5,
  }.items():
    np.testing.assert_array_equal(picture[row, column], colour(heat))
  # A quarter of the way between two centres, 20 pixels apart.
  expected = colour(1 - (15.5 - 10) / 20)
  np.testing.assert_array_equal(picture[4, 6 + 15], expected)


def test_an_overlay_of_a_square_is_that_of_its_heat_map():
  activation = np.random.default_rng(0).uniform(size=(4, 4)).astype(np.float32)
  activation[0, 0] = 1  # Interpolation keeps a maximum in the corner.
  picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
  heat = np.asarray(cam.heatmap(activation[None], 32))
  expected = cam.overlay(picture[None], heat)[0]
  overlays.lay_over(picture, activation, (0, 0, 32, 32))
  assert np.abs(picture.astype(int) - expected).max() <= 1


def test_a_map_beyond_the_picture_and_a_picture_smaller_than_the_map():
  picture = np.full((3, 5, 3), 100, np.uint8)
  overlays.lay_over(picture, np.ones((7, 7)), (-4.0, 0.0, 7.0, 5.0))
  assert (picture == picture[0, 0]).all()
  assert (picture != 100).any()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run") / "run"
  flags = ("steps=1", "batch_size=48", "evaluate.batch_size=252")
  train.main(
    [
      *(f"--config={CONFIG}", f"--workdir={workdir}"),
      *(f"--config.{flag}" for flag in flags),
    ]
  )
  return workdir


def test_the_command_writes_upright_photos_in_their_own_size(run, here, capsys):
  exif = Image.Exif()
  exif[0x112] = 6
  for label in ("cat", "dog"):
    for number in range(20):
      _photo(here / "photos" / label / f"{number}.png", colour="blue")
  _photo(here / "photos" / "cat" / "big.jpg", (90, 60), "red", exif=exif)
  command = [f"--workdir={run}", "--output=maps", "--json", "photos"]
  predict.main(command)
  rows = json.loads(capsys.readouterr().out)
  assert len({row["overlay"] for row in rows}) == len(rows) == 41
  assert len(list(here.glob("maps/*/*"))) == 41
  overlay = Image.open(here / "maps" / "cat" / "big.png")
  assert overlay.size == (60, 90)
  assert overlay.info["Comment"] == "activation map over photos/cat/big.jpg"
  # The network sees the square in the middle.
  edge = np.asarray(overlay)[[0, 14, 75, 89]].astype(int)
  assert np.abs(edge - [254, 0, 0]).max() <= 2
  assert np.abs(np.asarray(overlay)[15:75].astype(int) - [254, 0, 0]).max() > 50
  before = _content(here)
  predict.main(command)  # The same command replaces its own files.
  assert _content(here) == before


def test_the_command_never_replaces_a_photo(run, here, monkeypatch):
  _photo(here / "own" / "x.png")
  _photo(here / "y.png")
  before = _content(here)
  unread = lambda path, settings: pytest.fail("a photo was read")
  monkeypatch.setattr("mixaug_jax.data.decode.read", unread)
  for words in (["--output=own", "own"], ["--output=.", "y.png"]):
    with pytest.raises(UserError):
      predict.main([f"--workdir={run}", *words])
  assert _content(here) == before


def test_a_full_disk_is_one_sentence(run, here, monkeypatch):
  def full(picture, path, **options):
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")

  _photo(here / "x.png")
  monkeypatch.setattr(Image.Image, "save", full)
  with pytest.raises(UserError, match=r"out/x\.png: No space.*make room"):
    predict.main([f"--workdir={run}", "--output=out", "x.png"])
  assert not list((here / "out").iterdir())


def test_a_file_in_place_of_the_folder_is_one_sentence(here):
  (here / "out").write_text("notes")
  _photo(here / "x.png")
  with pytest.raises(UserError, match="directory; name another --output"):
    _plan([here / "x.png"], here / "out")


def test_a_photo_that_changes_meanwhile_is_reported(run, here, monkeypatch):
  from mixaug_jax.data import decode

  _photo(here / "x.png")
  _photo(here / "y.png")
  read = decode.read_whole

  def gone(path, bits):
    (here / "x.png").unlink(missing_ok=True)
    return read(path, bits)

  monkeypatch.setattr(decode, "read_whole", gone)
  with pytest.raises(UserError, match="1 of 2 images could not be read"):
    predict.main([f"--workdir={run}", "--output=out", "x.png", "y.png"])
  assert [x.name for x in (here / "out").iterdir()] == ["y.png"]
