"""A packed data set is the folder that it was made from, bit for bit."""

import errno
import itertools
import json
import os
import pathlib
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.command import data as command
from mixaug_jax.data import (
  decoding,
  labelled,
  packed,
  packing,
  shard_writer,
)
from mixaug_jax.data.decode import Settings
from mixaug_jax.data.ids import StoredIds
from mixaug_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
SQUARE = Settings(8)


def _images(folder, count, seed=0):
  rng = np.random.default_rng(seed)
  for index in range(count):
    place = folder / "abc"[index % 3] / f"é{index:03}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (9, 8 + index % 5, 3), np.uint8)
    Image.fromarray(pixels).save(place)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Train and test, with copies, 16 bits and files that are left out."""
  root = tmp_path_factory.mktemp("photos")
  _images(root / "train", 90)
  _images(root / "test", 12, seed=1)
  train = root / "train"
  shutil.copy(train / "a" / "é000.png", train / "a" / "copy.png")
  shutil.copy(train / "a" / "é003.png", train / "b" / "copy.png")
  shutil.copy(train / "c" / "é002.png", root / "test" / "c" / "copy.png")
  Image.fromarray(np.full((9, 9), 999, np.uint16)).save(train / "c/deep.png")
  # The order of a folder is not the sorted one: é008/ stands before é008.png.
  for one, other in (("é005", "é008"), ("é014", "é017"), ("é023", "é026")):
    (train / "c" / other).mkdir()
    (train / "c" / f"{one}.png").rename(train / "c" / other / f"{one}.png")
  (train / "c" / "notes.txt").touch()
  return root


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
  """The photos, packed."""
  output = tmp_path_factory.mktemp("whole") / "packed"
  packing.pack(str(photos), output, SQUARE, shards=4)
  return output


@pytest.fixture
def copied(whole, tmp_path):
  """A copy of the packed photos, to be damaged."""
  shutil.copytree(whole, tmp_path / "copied")
  return tmp_path / "copied"


def _load(name, directory, cache_dir, **keys):
  overrides = {
    "data.name": name,
    "data.dir": str(directory),
    "data.cache_dir": str(cache_dir),
    "data.image_size": "8",
    "data.cache_size": "8",
    "data.placement": "stream",
    **{f"data.{key}": str(value) for key, value in keys.items()},
  }
  recipe = f"{ROOT}/configs/baseline.py:folder"
  return data.load(config_lib.load(recipe, overrides).data, seed=0)


def _batches(split, count=20, **options):
  stream = data.train_batches(split, 12, seed=3, **options)
  taken = list(itertools.islice(stream, count))
  stream.close()
  return taken


def _assert_same(ours, theirs):
  assert ours.identity == theirs.identity
  assert ours.warnings == theirs.warnings
  assert ours.seen == theirs.seen
  assert ours.duplicates == theirs.duplicates
  for name, split in theirs.by_name().items():
    assert list(ours.by_name()[name].ids) == list(split.ids)
    for one, other in zip(
      _batches(ours.by_name()[name]), _batches(split), strict=True
    ):
      np.testing.assert_array_equal(one["image"], other["image"])
      np.testing.assert_array_equal(one["label"], other["label"])


@pytest.mark.parametrize(
  "keys",
  [
    {},
    {"placement": "host"},
    {"classes": "c,a", "examples_per_class": 9, "oversample": True},
    {"cache_size": 16, "resize": "pad"},
    {"test": False},
  ],
  ids=["stream", "host", "classes", "other squares", "no test"],
)
def test_a_packed_folder_gives_what_the_folder_gives(
  photos, whole, tmp_path, keys
):
  of_folder = _load("folder", photos, tmp_path, **keys)
  of_packed = _load("packed", whole, tmp_path, **keys)
  assert len(of_folder.validation) > 1
  assert of_folder.left_out
  assert "brightest value" in " ".join(of_folder.warnings)
  _assert_same(of_packed, of_folder)


def test_lists_are_packed_as_well(photos, tmp_path):
  rows = [f"{x},{x.parent.name}" for x in sorted(photos.rglob("train/*/*.png"))]
  (tmp_path / "list.csv").write_text("\n".join(["path,class", *rows]))
  packing.pack(str(tmp_path / "list.csv"), tmp_path / "packed", SQUARE)
  _assert_same(
    _load("packed", tmp_path / "packed", tmp_path),
    _load("csv", tmp_path / "list.csv", tmp_path),
  )


@pytest.fixture
def lists(tmp_path):
  """A folder with lists, whose classes are not those of its folders."""
  root = tmp_path / "lists"
  for split, count in (("train", 30), ("test", 6)):
    _images(root / split, count, seed=count)
    names = sorted(x.relative_to(root) for x in root.glob(f"{split}/*/*"))
    rows = [f"{name},{'xy'[row % 2]}" for row, name in enumerate(names)]
    (root / f"{split}.csv").write_text("\n".join(["path,class", *rows]))
  return root


def test_lists_in_a_folder_come_before_its_folders(lists, tmp_path, capsys):
  output = tmp_path / "packed"
  flags = ["--pack", f"--source={lists}", f"--output={output}"]
  command.main([*flags, "--cache_size=8", "--workers=1"])
  assert f"the classes are those of the lists in {lists}" in (
    capsys.readouterr().out
  )
  of_packed = _load("packed", output, tmp_path)
  assert of_packed.class_names == ("x", "y")
  _assert_same(of_packed, _load("csv", lists, tmp_path))
  assert labelled.source_name("packed", str(lists)) == "csv"
  # Other lists beside class folders are not the data.
  (lists / "train.csv").rename(lists / "prices.csv")
  assert labelled.source_name("packed", str(lists)) == "folder"


def test_label_sets_are_not_packed_as_classes(lists, tmp_path):
  text = (lists / "test.csv").read_text()
  path = lists / "sets.csv"
  path.write_text(text.replace(",x", ",x;y", 1))
  done = packing.pack(str(path), tmp_path / "packed", SQUARE)
  assert "'x;y' is made of other classes" in done.notes[0]
  assert "label sets cannot be packed" in done.notes[0]
  path.write_text(text.replace(",x", ",", 1))
  with pytest.raises(UserError, match="or remove the row; label sets cannot"):
    packing.pack(str(path), tmp_path / "none", SQUARE)


def test_hosts_share_each_batch_and_resume_in_other_numbers(whole, tmp_path):
  split = _load("packed", whole, tmp_path).train
  alone = _batches(split)
  three = [
    _batches(split, 10, start_step=10, process_index=i, process_count=3)
    for i in range(3)
  ]
  for step, expected in enumerate(alone[10:]):
    for key, value in expected.items():
      shares = [batches[step][key] for batches in three]
      np.testing.assert_array_equal(np.concatenate(shares), value)


def test_opening_decodes_a_few_images_and_writes_nothing(
  whole, tmp_path, monkeypatch
):
  decoded = []
  original = decoding.decode_row

  def counting(source, row, square):
    decoded.append(row)
    return original(source, row, square)

  for module in (packed, decoding):
    monkeypatch.setattr(module, "decode_row", counting)
  _load("packed", whole, tmp_path / "cache")
  assert 0 < len(decoded) <= 2 * packed._COMPARED_IMAGES
  assert not (tmp_path / "cache").exists()


def test_other_squares_or_pixels_are_decoded_once(
  whole, copied, tmp_path, capsys
):
  _load("packed", whole, tmp_path / "cache", cache_size=9)
  assert "packed for --cache_size=8 " in capsys.readouterr().err
  header = json.loads((copied / packed.HEADER).read_text())
  hashes = np.load(copied / "train" / "hashes.npy")
  np.save(copied / "train" / "hashes.npy", hashes + np.uint64(1))
  crc = packed.checksum(copied / "train" / "hashes.npy")
  header["splits"]["train"]["arrays"]["hashes"] = crc
  header["pillow"] = "1.0"
  header["fingerprint"] = packed.fingerprint(header)
  (copied / packed.HEADER).write_text(json.dumps(header))
  here = _load("packed", copied, tmp_path / "cache")
  assert "decodes other pixels than 1.0" in capsys.readouterr().err
  assert here.identity == _load("packed", whole, tmp_path).identity


@pytest.fixture
def damaged_photos(photos, tmp_path):
  shutil.copytree(photos, tmp_path / "damaged")
  for name in ("train/a/copy.png", "train/c/é002.png", "test/b/é001.png"):
    (tmp_path / "damaged" / name).write_bytes(b"no image")
  return tmp_path / "damaged"


def test_unreadable_images_are_listed_and_left_out_on_request(
  damaged_photos, tmp_path, capsys
):
  output = tmp_path / "packed"
  flags = ["--pack", f"--source={damaged_photos}", f"--output={output}"]
  flags += ["--cache_size=8", "--workers=1"]
  with pytest.raises(UserError, match=r"^3 of 106 .* first is train/a/c") as e:
    command.main(flags)
  assert "on_error=skip" in str(e.value)
  listed = (output / packed.UNFINISHED / "unreadable.txt").read_text()
  assert [x.partition(":")[0] for x in listed.splitlines()] == [
    "train/a/copy.png",
    "train/c/é002.png",
    "test/b/é001.png",
  ]
  command.main([*flags, "--on_error=skip"])
  assert "unreadable images (2, the first: train/a/" in capsys.readouterr().out
  _assert_same(
    _load("packed", output, tmp_path),
    _load("folder", damaged_photos, tmp_path, on_error="skip"),
  )


@pytest.fixture
def read(monkeypatch):
  """Returns the paths that a packing reads; `read.failing` raise `error`."""

  class Read(list):
    failing, error = (), None

  read, original = Read(), shard_writer.regular_file.read

  def reading(path):
    read.append(path)
    if str(path).endswith(read.failing):
      raise read.error
    return original(path)

  monkeypatch.setattr(shard_writer.regular_file, "read", reading)
  return read


FAILING = ("train/c/deep.png", "train/c/é011.png")  # In the third shard.


@pytest.mark.parametrize("name", ["ESTALE", "EMFILE", None])
def test_an_outage_ends_a_packing_that_continues(
  photos, whole, tmp_path, read, name
):
  read.failing, read.error, why = FAILING, MemoryError(), "there is not enough"
  if name:
    why = os.strerror(getattr(errno, name))
    read.error = OSError(getattr(errno, name), why)
  output = tmp_path / "packed"
  with pytest.raises(UserError, match=rf"^cannot read .*png: {why}.*; repeat "):
    packing.pack(str(photos), output, SQUARE, shards=4, skip_bad=True)
  assert len(list((output / "train").iterdir())) == 2
  read.failing = ()
  read.clear()
  packing.pack(str(photos), output, SQUARE, shards=4, skip_bad=True)
  # The third and fourth shard of train, and test.
  assert len(read) == 23 + 23 + 13
  _assert_same_files(output, whole)


def test_an_outage_is_no_packing_of_other_images(photos, tmp_path, monkeypatch):
  original = os.stat

  def stat(path, *rest, **keys):
    if str(path).endswith(FAILING):
      raise OSError(errno.EIO, os.strerror(errno.EIO))
    return original(path, *rest, **keys)

  monkeypatch.setattr(os, "stat", stat)
  with pytest.raises(UserError, match=r"^cannot read .*png: Input/outp.*; r"):
    packing.pack(str(photos), tmp_path / "packed", SQUARE)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_images_that_can_be_read_again_are_packed(
  photos, whole, tmp_path, read, skip_bad
):
  output = tmp_path / "packed"
  read.failing = FAILING  # As on a drive that is not there for a moment.
  read.error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
  with pytest.raises(UserError, match=r"^2 of 106 .* first is train/c/") as e:
    packing.pack(str(photos), output, SQUARE, shards=4)
  assert "repair them and repeat the command, or repeat it" in str(e.value)
  read.failing = ()
  read.clear()
  packing.pack(str(photos), output, SQUARE, shards=4, skip_bad=skip_bad)
  assert len(read) == 1 + 23
  _assert_same_files(output, whole)


def test_files_that_were_repaired_or_changed_are_packed_again(
  damaged_photos, photos, tmp_path, read
):
  """A repeated command reads their shards, and tries the other bad images."""
  output = tmp_path / "packed"
  with pytest.raises(UserError, match=r"^3 of 106 images cannot be read"):
    packing.pack(str(damaged_photos), output, SQUARE, shards=4)
  for name in ("train/c/é002.png", "train/b/copy.png"):
    shutil.copy(photos / "test/a/é000.png", damaged_photos / name)
  read.clear()
  packing.pack(str(damaged_photos), output, SQUARE, shards=4, skip_bad=True)
  assert len(read) == 23 + 23 + 2
  _assert_same(
    _load("packed", output, tmp_path),
    _load("folder", damaged_photos, tmp_path, on_error="skip"),
  )


def test_a_class_without_a_readable_image_is_refused(damaged_photos, tmp_path):
  for path in (damaged_photos / "train" / "b").glob("*.png"):
    path.write_bytes(b"")
  with pytest.raises(UserError, match="no image of the class b can be read"):
    packing.pack(str(damaged_photos), tmp_path / "x", SQUARE, skip_bad=True)


def test_an_interrupted_packing_is_refused_and_continues(
  photos, whole, tmp_path, monkeypatch
):
  output, count = tmp_path / "packed", itertools.count()
  original = shard_writer.decode_square

  def interrupted(*arguments):
    if next(count) == 60:  # In the third of the four shards of train.
      raise KeyboardInterrupt
    return original(*arguments)

  monkeypatch.setattr(shard_writer, "decode_square", interrupted)
  with pytest.raises(KeyboardInterrupt):
    packing.pack(str(photos), output, SQUARE, shards=4)
  shards = [x.name for x in sorted((output / "train").iterdir())]
  assert shards == [f"0000{i}-of-00004.array_record" for i in range(2)]
  with pytest.raises(UserError, match="is not finished; repeat the command"):
    _load("packed", output, tmp_path)
  with pytest.raises(UserError, match="other images or with other settings"):
    packing.pack(str(photos), output, SQUARE, shards=3)
  read = next(count)
  packing.pack(str(photos), output, SQUARE, shards=4)
  # Without the 24 and 23 images of the first two shards.
  assert next(count) - read - 1 == 93 + 13 - 24 - 23
  _assert_same_files(output, whole)


@pytest.mark.parametrize(
  "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"cut")]
)
def test_a_damaged_shard_is_written_again(
  photos, whole, tmp_path, monkeypatch, damage
):
  output = tmp_path / "packed"
  with monkeypatch.context() as patch:
    patch.setattr(packing, "_finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      packing.pack(str(photos), output, SQUARE, shards=4)
  damage(output / SHARD)
  packing.pack(str(photos), output, SQUARE, shards=4)
  _assert_same_files(output, whole)


def test_a_set_that_another_process_finished_stays(
  photos, whole, tmp_path, monkeypatch
):
  output = tmp_path / "packed"
  prepare = packing._prepare

  def slow(*arguments):
    prepare(*arguments)
    monkeypatch.setattr(packing, "_prepare", prepare)
    packing.pack(str(photos), output, SQUARE, shards=4)

  monkeypatch.setattr(packing, "_prepare", slow)
  with pytest.raises(UserError, match="is a packed data set already"):
    packing.pack(str(photos), output, SQUARE, shards=3)
  _assert_same_files(output, whole)


def test_the_home_folder_of_a_source_is_expanded(
  photos, whole, tmp_path, monkeypatch
):
  monkeypatch.setenv("HOME", str(photos.parent))
  source = f"~/{photos.name}"
  with pytest.raises(UserError, match="is inside of --source"):
    packing.pack(source, photos / "packed", SQUARE)
  packing.pack(source, tmp_path / "packed", SQUARE, shards=4)
  _assert_same_files(tmp_path / "packed", whole)


def test_processes_write_the_same_shards(photos, whole, tmp_path, capsys):
  output = tmp_path / "packed"
  flags = ["--pack", f"--source={photos}", f"--output={output}"]
  command.main([*flags, "--cache_size=8", "--shards=4", "--workers=2"])
  _assert_same_files(output, whole)
  out = capsys.readouterr().out
  assert out.startswith("packed 93 train, 13 test images into 8 shards, ")
  assert "files with the suffix .txt (1, the first: train/c/notes.txt)" in out


def _assert_same_files(one, other):
  names = sorted(x.relative_to(other) for x in other.rglob("*"))
  assert sorted(x.relative_to(one) for x in one.rglob("*")) == names
  for name in names:
    if (other / name).is_file():
      assert (one / name).read_bytes() == (other / name).read_bytes(), name


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 3] ^= 255
  path.write_bytes(content)


SHARD = "train/00002-of-00004.array_record"


@pytest.mark.parametrize(
  ("damage", "sentence"),
  [
    (lambda x: (x / SHARD).unlink(), f"{SHARD} is damaged: No such file"),
    (
      lambda x: (x / SHARD).write_bytes(b""),
      f"{SHARD} is damaged: it has 0 bytes",
    ),
    (lambda x: _flip(x / packed.HEADER), "packed.json is damaged"),
    (lambda x: (x / packed.HEADER).write_text("[]"), "packed.json is damaged"),
    (lambda x: (x / packed.HEADER).unlink(), "is no packed data set"),
    *(
      (
        lambda x, name=name: _flip(x / "train" / f"{name}.npy"),
        f"train/{name}.npy is damaged: its checksum is wrong",
      )
      for name in packed.ARRAYS
    ),
  ],
)
def test_damage_is_refused_at_the_opening(copied, tmp_path, damage, sentence):
  damage(copied)
  with pytest.raises(UserError, match=sentence):
    _load("packed", copied, tmp_path)


@pytest.mark.parametrize("how", ["flipped", "exchanged"])
@pytest.mark.parametrize("placement", ["stream", "host"])
def test_a_damaged_shard_is_named_when_it_is_read(
  copied, tmp_path, how, placement
):
  path = copied / SHARD
  if how == "exchanged":
    other = path.with_name(path.name.replace("2-", "1-"))
    assert other.stat().st_size == path.stat().st_size
    shutil.copy(other, path)
  else:
    content = path.read_bytes()
    place = content.find(b"IDAT") + 20
    path.write_bytes(content[:place] + b"~~~~" + content[place + 4 :])
  match = f"{SHARD} is damaged: .*; copy the packed data set again"
  with pytest.raises(UserError, match=match):
    _batches(_load("packed", copied, tmp_path, placement=placement).train)


def _ids_of(folder):
  return packed.Packed.splits(str(folder))["train"].ids


def test_a_newer_format_is_refused(copied, tmp_path):
  header = json.loads((copied / packed.HEADER).read_text())
  header |= {"format": packed.FORMAT + 1, "mixaug_jax": "9.0"}
  (copied / packed.HEADER).write_text(json.dumps(header))
  with pytest.raises(UserError, match=r"by a newer version .*9\.0.; update"):
    _load("packed", copied, tmp_path)


def test_the_other_kind_of_folder_is_named(photos, whole, tmp_path):
  with pytest.raises(UserError, match=r"set config\.data\.name=packed"):
    _load("folder", whole, tmp_path)
  with pytest.raises(UserError, match=r"or set config\.data\.name=folder"):
    _load("packed", photos, tmp_path)
  with pytest.raises(UserError, match="must name the folder that mixaug data"):
    packed.Packed.splits(None)
  # `evaluate --data_dir` finds out what it is.
  assert labelled.source_name("folder", str(whole)) == "packed"
  assert labelled.source_name("packed", str(photos)) == "folder"


@pytest.mark.parametrize(
  ("flags", "sentence"),
  [
    (["--source={photos}"], "--pack needs --output"),
    (["--output={new}"], "--pack needs --source"),
    (["--source={new}", "--output={new}/x"], "there is no folder .*; --source"),
    (["--source={whole}", "--output={new}"], "is packed already"),
    (["--source={photos}", "--output={whole}"], "is a packed data set already"),
    (["--source={photos}", "--output={photos}"], "is inside of --source"),
    (["--source={photos}", "--output={photos}/x/y"], "is inside of --source"),
    (["--source={photos}", "--output={full}"], "is not empty"),
    (["--source={photos}", "--output={full}/file"], "cannot make --output"),
    (["--source={photos}", "--output={new}", "--shards=0"], "1 to 1,024"),
    (["--source={photos}", "--output={new}", "--workers=x"], "1 to 1,024"),
    (["--source={photos}", "--output={new}", "--cache_dir=x"], "no cache"),
    (["--source=gs://x", "--output={new}"], "--source: gs://x is an address"),
  ],
)
def test_mistakes_are_sentences(photos, whole, tmp_path, flags, sentence):
  places = {"photos": photos, "whole": whole, "new": tmp_path / "new"}
  places["full"] = tmp_path / "full"
  places["full"].mkdir()
  (places["full"] / "file").touch()
  with pytest.raises(UserError, match=sentence):
    command.main(["--pack", *(flag.format(**places) for flag in flags)])
  assert not places["new"].exists()


def test_flags_of_packing_need_it(photos):
  with pytest.raises(UserError, match="--source is a flag of --pack"):
    command.main(["--info", f"--source={photos}"])


def test_names_that_differ_in_their_form_are_refused(tmp_path):
  _images(tmp_path / "photos", 3)
  for name in ("e\u0301.png", "\u00e9.png"):
    shutil.copy(tmp_path / "photos/a/é000.png", tmp_path / "photos/a" / name)
  with pytest.raises(UserError, match=r"two images have the name a/é\.png"):
    packing.pack(str(tmp_path / "photos"), tmp_path / "x", SQUARE)


def test_ids_stay_in_their_file(whole):
  ids = _ids_of(whole)
  names = list(ids)
  assert ids[3] == names[3]
  assert ids[-1] == names[-1]
  assert list(ids[2:9:3]) == names[2:9:3]
  assert list(ids.take(np.array([5, 5, 0]))) == [names[5], names[5], names[0]]
  assert len(ids) == len(set(names)) == 93
  with pytest.raises(IndexError):
    ids[93]


def test_an_example_takes_no_object_of_its_own(whole, tmp_path):
  """The number of objects does not depend on the images, and bytes hardly."""
  assert _load("packed", whole, tmp_path).identity  # Modules are imported.
  blocks, peaks = [], []
  for count in (300, 1800):
    _images(tmp_path / f"{count}" / "train", count)
    packing.pack(str(tmp_path / f"{count}"), tmp_path / f"{count}p", SQUARE)
    tracemalloc.start()
    sets = _load("packed", tmp_path / f"{count}p", tmp_path)
    assert sets.identity
    peaks.append(tracemalloc.get_traced_memory()[1])
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    blocks.append(sum(x.count for x in snapshot.statistics("filename")))
    assert isinstance(sets.train.ids, StoredIds)
  print(blocks, peaks)
  assert blocks[1] < blocks[0] + 300
  assert (peaks[1] - peaks[0]) / 1500 < 300  # Bytes; a text alone takes 60.
