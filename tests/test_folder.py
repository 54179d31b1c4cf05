"""Folders of images as they lie on disks: what is read, what is left out."""

import os
import pathlib
import shutil
import tempfile
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mixaug_jax.command import flags
from mixaug_jax.data import image_files, split_names
from mixaug_jax.data.folder import Folder
from mixaug_jax.errors import UserError
from mixaug_jax.names import local_path, printable


def _picture(path):
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", (4, 4), "red").save(path, "PNG")
  return path


@pytest.fixture
def photos(tmp_path):
  """Two classes of two images in train/."""
  for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
    _picture(tmp_path / "photos" / "train" / f"{name}.png")
  return tmp_path / "photos"


def _open(root):
  return Folder.splits(str(root))


IDS = [f"train/{name}.png" for name in ("cat/0", "cat/1", "dog/0", "dog/1")]


@pytest.mark.parametrize(
  ("role", "name"),
  [(role, name) for role, names in split_names.NAMES.items() for name in names]
  + [("train", "Train"), ("validation", "VAL"), ("test", "TEST")],
)
def test_splits_have_their_usual_names_in_any_case(photos, role, name):
  if role == "train":
    (photos / "train").rename(photos / name)
  else:
    shutil.copytree(photos / "train", photos / name)
  sources = _open(photos)
  assert set(sources) == {"train", role}
  assert sources[role].ids == [i.replace("train", name, 1) for i in IDS]
  assert sources["train"].left_out == {}


def test_two_folders_of_the_same_split_are_refused(photos):
  _picture(photos / "val" / "cat" / "0.png")
  _picture(photos / "valid" / "cat" / "0.png")
  with pytest.raises(UserError, match=r"has val and valid, which both name"):
    _open(photos)


def test_a_flat_folder_is_not_divided(photos):
  sources = _open(photos / "train")
  assert set(sources) == {"all"}
  assert sources["all"].ids == [name.removeprefix("train/") for name in IDS]
  assert sources["all"].labels.tolist() == [0, 0, 1, 1]


def test_an_image_is_in_the_order_of_its_parts_also_below_its_class(photos):
  _picture(photos / "train" / "cat" / "a" / "0.png")
  _picture(photos / "train" / "cat" / "a.png")
  assert _open(photos)["train"].ids[2:4] == [
    "train/cat/a/0.png",
    "train/cat/a.png",
  ]


@pytest.mark.parametrize(
  ("places", "sentence"),
  [
    (("training_set/cat", "test_set/cat"), "test_set, training_set, which"),
    (("train2017/cat", "val2017/cat"), "train2017, val2017, which look like"),
    (("seg_train/a", "seg_test/a", "seg_pred/a"), "seg_test, seg_train, which"),
    (("cat/train", "cat/test", "dog/train"), "cat has train and test, which"),
  ],
)
def test_what_looks_like_splits_is_not_a_class(tmp_path, places, sentence):
  for place in places:
    _picture(tmp_path / place / "0.png")
  with pytest.raises(UserError, match=sentence):
    _open(tmp_path)


def test_a_test_split_that_is_switched_off_is_not_read(photos):
  shutil.copytree(photos / "train", photos / "test")
  (photos / "test" / "cat").rename(photos / "test" / "unknown")
  with pytest.raises(UserError, match=r"data\.test=false leaves test unread"):
    _open(photos)
  assert set(Folder.splits(str(photos), test=False)) == {"train"}


def test_a_flat_test_folder_is_left_out_and_a_sibling_is_reported(photos):
  _picture(photos / "test" / "17.png")
  _picture(photos / "extra" / "cat" / "0.png")
  _picture(photos / "stray.png")
  (photos / "README.md").touch()
  sources = _open(photos)
  assert set(sources) == {"train"}
  assert sources["train"].left_out == {
    "files with the suffix .md": ["README.md"],
    "images of test/ without a class": ["test/17.png"],
    "folders that are no split": ["extra/"],
    "images outside of a class folder": ["stray.png"],
  }


def test_nfc_and_nfd_are_the_same_class(photos):
  nfc, nfd = (
    unicodedata.normalize(form, "épagneul") for form in ("NFC", "NFD")
  )
  for place in (f"train/{nfc}", f"train/{nfd}", f"test/{nfd}"):
    _picture(photos / place / "0.png")
  sources = _open(photos)
  assert sources["train"].class_names == ("cat", "dog", nfc)
  assert np.bincount(sources["train"].labels).tolist() == [2, 2, 2]
  assert sources["test"].labels.tolist() == [2]
  assert len(set(sources["train"].ids)) == 6


@pytest.mark.parametrize(
  "name",
  [
    *(".ipynb_checkpoints", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN"),
    *("System Volume Information", "lost+found", "__pycache__", ".git"),
  ],
)
@pytest.mark.parametrize("place", ["", "train", "train/cat", "train/cat/x"])
def test_folders_of_systems_and_tools_are_left_out(photos, name, place):
  _picture(photos / place / name / "cat" / "0.png")
  train = _open(photos)["train"]
  assert train.class_names == ("cat", "dog")
  assert train.ids == IDS
  left_out = str(pathlib.PurePosixPath(place, name)) + "/"
  assert train.left_out == {"hidden or system folders": [left_out]}


@pytest.mark.parametrize("name", ["._0.png", ".DS_Store", "Thumbs.db"])
def test_files_of_systems_are_left_out(photos, name):
  (photos / "train" / "cat" / name).write_bytes(b"\0\5\26\7")
  (photos / "train" / name).write_bytes(b"\0\5\26\7")
  train = _open(photos)["train"]
  assert train.ids == IDS
  files = [f"train/{name}", f"train/cat/{name}"]
  assert train.left_out == {"hidden or system files": files}


@pytest.mark.parametrize(
  "suffix",
  [
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".avif", ".ppm", ".pgm", ".pbm", ".JPG", ".Tiff"),
  ],
)
def test_every_suffix_of_a_known_format_is_read(photos, suffix):
  _picture(photos / "train" / "cat" / f"x{suffix}")
  assert f"train/cat/x{suffix}" in _open(photos)["train"].ids


def test_other_files_are_counted_by_suffix(photos):
  for name in ("a.heic", "b.HEIC", "c.jp2", "d", "e.0001"):
    (photos / "train" / "dog" / name).touch()
  os.mkfifo(photos / "train" / "dog" / "f.png")
  train = _open(photos)["train"]
  assert train.ids == IDS
  assert {why: len(some) for why, some in train.left_out.items()} == {
    "files with the suffix .heic": 2,
    "files with the suffix .jp2": 1,
    "files without a suffix": 2,
    "pipes, sockets and devices": 1,
  }


def test_links_are_followed_and_loops_are_not(photos, tmp_path):
  elsewhere = tmp_path / "store" / "elsewhere"
  picture = _picture(elsewhere / "2.png")
  train = photos / "train"
  (train / "fox").symlink_to(elsewhere)
  (train / "dog" / "again").symlink_to(elsewhere)
  (train / "dog" / "once more").symlink_to(elsewhere)
  (train / "cat" / "loop").symlink_to(train)
  (train / "loop").symlink_to(photos)
  (elsewhere / "up").symlink_to(elsewhere.parent)
  (elsewhere / "back").symlink_to(train)
  (train / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
  (train / "cat" / "self").symlink_to(train / "cat" / "self")
  found = _open(photos)["train"]
  assert found.class_names == ("cat", "dog", "fox")
  assert found.ids == [*IDS, "train/dog/again/2.png", "train/fox/2.png"]
  assert found[5]["image"] == picture.read_bytes()
  back = ["train/loop/", "train/cat/loop/"]
  for place in ("train/dog/again", "train/fox"):
    back += [f"{place}/back/", f"{place}/up/"]
  assert found.left_out == {
    "links back to a folder around them": back,
    "broken links": ["train/cat/gone.png", "train/cat/self"],
    "folders that are linked twice": ["train/dog/once more/"],
  }


@pytest.fixture
def without_rights(photos):
  """Photos of a user who is not root, for whom permissions hold."""
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(shutil.copytree(photos, pathlib.Path(folder, "photos")))
    os.chmod(folder, 0o755)
    before = os.geteuid()
    if before == 0:
      os.seteuid(65534)
    try:
      yield root, before
    finally:
      os.seteuid(before)
      for path in root.rglob("*"):
        if path.is_dir():
          path.chmod(0o755)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o311])
@pytest.mark.parametrize("name", ["train", "train/dog", "train/dog/more"])
def test_a_folder_without_permission_is_refused(without_rights, name, mode):
  root, owner = without_rights
  nobody = os.geteuid()
  os.seteuid(owner)
  _picture(root / "train" / "dog" / "more" / "0.png")
  (root / name).chmod(mode)
  os.seteuid(nobody)
  with pytest.raises(UserError, match=f"cannot read .*{name}.*ermission"):
    _open(root)


@pytest.mark.parametrize(
  ("files", "sentence"),
  [
    ([], "contains neither train/<class>/<image> nor <class>/<image>$"),
    (["0.png"], "contains neither .*; move its images into a folder for each"),
    (["train/cat.0.png"], "train has no folders for the classes; move .*csv"),
    (["train/train/0.png"], "train contains only the folder train; move its"),
    (["set/train/cat/0.png"], r"only the folder set; .*data\.dir=.*/set$"),
    (["val/cat/0.png", "test/cat/0.png"], "has val and test, but no train"),
    (["cat/0.png", "dog/0.heic"], r"no image in .*dog, only 1 .* \.heic; add"),
    (
      ["train/cat/0.png", "train/dog/0.png", "val/fox/0.png"],
      "val has a class that train does not have: fox",
    ),
    (["train/cat/0.png", "train/dog/0.png", "val/x.md"], "no image in .*val/<"),
  ],
)
def test_what_is_no_data_set_is_one_sentence(tmp_path, files, sentence):
  for name in files:
    _picture(tmp_path / name)
  with pytest.raises(UserError, match=sentence):
    _open(tmp_path)


def test_names_that_cannot_be_printed_are_escaped_and_read(tmp_path):
  raw = os.fsdecode(b"caf\xe9")
  for folder in (raw, "two\nlines"):
    for file in ("\x1b[31m.png", f"{raw}.png", "a\\n.png", "a\n.png"):
      _picture(tmp_path / folder / file)
  source = _open(tmp_path)["all"]
  assert source.class_names == ("caf\\udce9", "two\\nlines")
  assert len(set(source.ids)) == 8
  assert source.ids[4] == "two\\nlines/\\x1b[31m.png"
  for text in (*source.ids, *source.class_names):
    assert text.isprintable()
    text.encode()
  assert source[7]["image"]
  assert source.fingerprint()


def test_different_names_stay_different():
  assert printable("é ü.png") == "é ü.png"
  assert printable("a\n") != printable("a\\n")


def test_the_fingerprint_follows_names_times_and_classes(photos):
  before = _open(photos)["train"].fingerprint()
  assert _open(photos)["train"].fingerprint() == before
  os.utime(photos / "train" / "cat" / "0.png", ns=(1, 1))
  touched = _open(photos)["train"].fingerprint()
  (photos / "train" / "cat").rename(photos / "train" / "bat")
  renamed = _open(photos)["train"].fingerprint()
  assert len({before, touched, renamed}) == 3


def test_image_files_are_found_without_those_of_systems(photos, capsys):
  _picture(photos / "train" / "cat" / "@eaDir" / "0.png")
  (photos / "train" / "cat" / "x.heic").touch()
  (photos / "train" / "cat" / "loop").symlink_to(photos)
  found = image_files.find([photos, pathlib.Path("deep/named.heic")])
  named = pathlib.Path("deep/named.heic")
  assert [x.path for x in found] == [*(photos / name for name in IDS), named]
  assert [str(x.place) for x in found] == [*IDS, "named.heic"]
  assert capsys.readouterr().err == (
    f"mixaug_jax: left out of {photos}: 1 hidden or system folders, 1 links "
    "back to a folder around them, 1 files with the suffix .heic\n"
  )
  (photos / "empty").mkdir()
  with pytest.raises(UserError, match=r"there is no image in .*empty; add"):
    image_files.find([photos / "empty"])


def test_a_tilde_is_the_home_folder(photos, monkeypatch):
  monkeypatch.setenv("HOME", str(photos.parent))
  assert _open("~/photos")["train"].ids == IDS
  assert flags.path("~/run") == photos.parent / "run"
  assert local_path("data.dir", "a/~b") == pathlib.Path("a/~b")


@pytest.mark.parametrize("address", ["gs://bucket/x", "s3://x", "https://x/y"])
def test_an_address_is_refused(address):
  with pytest.raises(
    UserError, match=rf"data\.dir: {address} is an address; m"
  ):
    _open(address)
  parser = flags.parser("predict", "")
  parser.add_argument("--workdir", type=flags.path)
  with pytest.raises(UserError, match=rf"--workdir: {address} is an address"):
    flags.parse(parser, [f"--workdir={address}"])


def test_an_empty_path_is_refused():
  with pytest.raises(UserError, match=r"config\.data\.dir: it is empty"):
    _open("")
