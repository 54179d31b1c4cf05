"""CSV files as people have them: every dialect, and one sentence a mistake."""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.data.csv_source import CsvSource
from mixaug_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
FILES = [f"im/{name}{k}.png" for name in ("cat", "dog") for k in range(4)]
ROWS = [(name, name[3:6]) for name in FILES]


@pytest.fixture
def folder(tmp_path):
  """A folder with the images of FILES, which differ."""
  (tmp_path / "im").mkdir()
  for red, name in enumerate(FILES):
    Image.new("RGB", (8, 8), (red * 20, 0, 0)).save(tmp_path / name)
  return tmp_path


def _text(rows=ROWS, delimiter=",", end="\n", header=None):
  rows = ([header] if header else []) + list(rows)
  return "".join(delimiter.join(row) + end for row in rows)


def _open(folder, content, name="list.csv"):
  if isinstance(content, str):
    content = content.encode()
  (folder / name).write_bytes(content)
  return CsvSource.splits(str(folder / name))


HEADER = ("path", "class")
QUOTED = [tuple(f'"{cell}"' for cell in row) for row in (HEADER, *ROWS)]
INDEXED = [(str(k), row[1], row[0]) for k, row in enumerate(ROWS)]


@pytest.mark.parametrize(
  "content",
  [
    _text(),
    _text().rstrip("\n"),
    _text(end="\r\n"),
    _text(end="\r"),
    _text(header=HEADER),
    _text(header=("Image_Path", "Labels")),
    _text(((c, p) for p, c in ROWS), header=("breed", "file name")),
    _text(INDEXED, header=("", "label", "filepaths")),
    _text(INDEXED, header=("id", "species", "image")),
    "\ufeff" + _text(),
    "\ufeff" + _text(header=HEADER),
    _text(header=HEADER).encode("utf-16"),
    "\n" + _text() + "\n \n,\n",
    _text(delimiter=", ", header=HEADER),
    _text(delimiter=" , "),
    _text(delimiter=";"),
    _text(delimiter=";", header=HEADER),
    _text(delimiter="\t"),
    _text(QUOTED),
    _text(QUOTED, delimiter=";"),
    _text(QUOTED, delimiter=", "),
    _text((f"./{p}", f"{c},") for p, c in ROWS),
  ],
)
def test_a_dialect_gives_the_same_rows(folder, content):
  sources = _open(folder, content)
  assert set(sources) == {"all"}
  source = sources["all"]
  assert source.class_names == ("cat", "dog")
  assert source.ids == FILES
  assert source.labels.tolist() == [0] * 4 + [1] * 4
  assert source.left_out == {}
  for row, name in enumerate(FILES):
    assert source[row]["image"] == (folder / name).read_bytes()


def test_a_quoted_cell_may_hold_the_delimiter_and_a_newline(folder):
  for name in ("a,b.png", "a\nb.png"):
    (folder / name).write_bytes((folder / FILES[0]).read_bytes())
  text = 'path,class\n"a,b.png","cat, big"\n"a\nb.png",dog\n'
  source = _open(folder, text)["all"]
  assert source.ids == ["a,b.png", "a\\nb.png"]
  assert source.class_names == ("cat, big", "dog")
  assert source[1]["image"]


def test_paths_may_be_absolute_or_begin_with_a_tilde(folder, monkeypatch):
  monkeypatch.setenv("HOME", str(folder))
  rows = [(str(folder / FILES[0]), "cat"), (f"~/{FILES[4]}", "dog")]
  assert _open(folder, _text(rows))["all"].ids == [FILES[0], FILES[4]]
  (folder / "lists").mkdir()
  rows = [(f"../{FILES[0]}", "cat"), (str(folder / FILES[4]), "dog")]
  source = _open(folder, _text(rows), "lists/l.csv")["all"]
  assert source.ids == [f"../{FILES[0]}", str(folder / FILES[4])]
  assert source[0]["image"] == (folder / FILES[0]).read_bytes()


def test_names_that_are_not_utf8_are_read(folder):
  raw = os.fsdecode(b"caf\xe9.png")
  (folder / raw).write_bytes(b"x")
  source = _open(folder, b"caf\xe9.png,cat\nim/dog0.png,dog\n")["all"]
  assert source.ids == ["caf\\udce9.png", "im/dog0.png"]
  assert source[0]["image"] == b"x"
  with pytest.raises(UserError, match=r"line 1: the class is not UTF-8"):
    _open(folder, b"im/dog0.png,chi\xe9n\n")


def test_nfc_and_nfd_are_the_same_class(folder):
  rows = [(FILES[0], "\u00e9"), (FILES[1], "e\u0301"), (FILES[4], "dog")]
  assert _open(folder, _text(rows))["all"].labels.tolist() == [1, 1, 0]


def test_the_lists_of_a_folder_are_its_splits(folder):
  for name, rows in {"Train.csv": ROWS[1:7], "val.tsv": ROWS[:1]}.items():
    delimiter = "\t" if name.endswith("tsv") else ","
    (folder / name).write_text(_text(rows, delimiter))
  (folder / "TEST.csv").write_text("id\nim/dog3.png\n")
  (folder / "sample_submission.csv").write_text("id,label\n")
  (folder / "._Train.csv").write_bytes(b"\0\5\26\7")
  sources = CsvSource.splits(str(folder))
  assert {name: s.ids for name, s in sources.items()} == {
    "train": FILES[1:7],
    "validation": FILES[:1],
  }
  assert sources["validation"].class_names == ("cat", "dog")
  assert sources["train"].left_out == {
    "images of TEST.csv without a class": ["im/dog3.png"],
    "lists that are no split": ["sample_submission.csv"],
  }


def test_a_column_divides_a_list(folder):
  names = ["train"] * 3 + ["valid", "train", "train", "train", "test"]
  rows = [(*row, name) for row, name in zip(ROWS, names, strict=True)]
  sources = _open(folder, _text(rows, header=(*HEADER, "data set")))
  assert {name: s.ids for name, s in sources.items()} == {
    "train": [*FILES[:3], *FILES[4:7]],
    "validation": [FILES[3]],
    "test": [FILES[7]],
  }


def test_repeated_rows_are_left_out_and_counted(folder):
  source = _open(folder, _text([*ROWS, (f"im/../{FILES[2]}", "cat")]))["all"]
  assert source.ids == FILES
  assert source.left_out == {"rows that repeat a file": ["list.csv:9"]}


def test_a_missing_file_is_an_image_that_cannot_be_read(folder):
  rows = [("im/gone.png", "cat"), *ROWS]
  source = _open(folder, _text(rows))["all"]
  assert len(source) == 9
  assert source.fingerprint()
  with pytest.raises(FileNotFoundError):
    source[0]


def _fails(folder, content, sentence):
  with pytest.raises(UserError, match=sentence) as raised:
    _open(folder, content)
  assert str(folder / "list.csv") in str(raised.value)


@pytest.mark.parametrize(
  ("content", "sentence"),
  [
    ("", "has no rows of path and class"),
    ("path,class\n", "has no rows of path and class"),
    ("picture,kind\n" + _text(), "line 1: it is neither a header with the"),
    (_text(INDEXED), "line 1: it is neither a header with the columns path"),
    (_text(header=("path", "kind")), "has no column class; name one"),
    (_text(header=("what", "class")), "has no column path; name one"),
    (
      _text(((p, c, c) for p, c in ROWS), header=(*HEADER, "breed")),
      "class and breed, which mean the same",
    ),
    (_text() + "im/cat0.png\n", "line 9: the class is empty; add it"),
    (_text() + ",cat\n", "line 9: the path is empty; add it"),
    (_text() + "im/a,b.png,cat\n", "line 9: 3 cells in place of 2; put"),
    (_text() + 'im/cat0.png,"cat\n', "line 9: .*; check the quotes"),
    (
      _text() + "im/cat0.png,dog\n",
      r"line 9: .* has the class dog, but cat in line 1;",
    ),
    (_text() + "gs://b/0.png,cat\n", "line 9: gs://b/0.png is an address"),
    (_text() + "a\0b.png,cat\n", "line 9: the path holds a zero byte"),
    (
      _text([(*ROWS[0], "train"), (*ROWS[1], "x")], header=(*HEADER, "split")),
      "line 3: the split 'x' is not train, validation, test",
    ),
    (
      _text([("0a1", "cat"), ("0a2", "dog")], header=("id", "breed")),
      "none of the 2 files .* exists, .*0a1; a path is relative",
    ),
  ],
)
def test_a_wrong_list_is_one_sentence(folder, content, sentence):
  _fails(folder, content, sentence)


def test_what_is_no_list_is_one_sentence(folder):
  open_ = lambda path: CsvSource.splits(str(path) if path else None)
  for path, sentence in (
    (None, r"config\.data\.dir must name a CSV file, or the folder"),
    ("gs://bucket/l.csv", r"config\.data\.dir: gs://bucket/l\.csv is an add"),
    (folder / "no.csv", r"cannot read .*no\.csv: No such file"),
    (folder / "no", "is neither a folder with train.csv nor a .csv or .tsv"),
    (folder, "has no train.csv, but no CSV file"),
  ):
    with pytest.raises(UserError, match=sentence):
      open_(path)
  (folder / "labels.csv").write_text(_text())
  with pytest.raises(UserError, match=r"has no train\.csv, but labels\.csv; t"):
    open_(folder)
  (folder / "train.csv").write_text(_text(ROWS[:4]))
  (folder / "test.csv").write_text(_text(ROWS[3:]))
  with pytest.raises(UserError, match=r"test\.csv line 2: train does not have"):
    open_(folder)
  (folder / "train.tsv").write_text(_text())
  with pytest.raises(UserError, match="which name the same list"):
    open_(folder)
  (folder / "train.tsv").unlink()
  rows = [(*row, "test") for row in ROWS]
  (folder / "train.csv").write_text(_text(rows, header=(*HEADER, "split")))
  with pytest.raises(UserError, match=r"line 2: the split is 'test' in the l"):
    open_(folder)


def test_the_fingerprint_follows_files_and_classes(folder):
  fingerprint = lambda rows: _open(folder, _text(rows))["all"].fingerprint()
  before = fingerprint(ROWS)
  assert fingerprint(ROWS) == before
  changed = [fingerprint([(ROWS[0][0], "dog"), *ROWS[1:]])]
  changed += [fingerprint(ROWS[::-1]), fingerprint(ROWS[1:])]
  changed += [fingerprint([(p, c.replace("cat", "bat")) for p, c in ROWS])]
  os.utime(folder / FILES[0], ns=(1, 1))
  changed += [fingerprint(ROWS)]
  assert len({before, *changed}) == 6


def test_lists_are_trained_on_by_their_name(folder):
  (folder / "train.csv").write_text(_text(header=HEADER, end="\r\n"))
  (folder / "test.csv").write_text(_text(ROWS[2:5]))
  overrides = {
    "data.name": "csv",
    "data.dir": str(folder),
    "data.cache_dir": str(folder / "cache"),
    "data.image_size": "8",
    "data.cache_size": "8",
    "data.validation_fraction": "0.25",
  }
  config = config_lib.load(f"{ROOT}/configs/baseline.py:folder", overrides)
  sets = data.load(config.data, 0)
  assert np.bincount(sets.validation.labels).tolist() == [1, 1]
  assert sets.test.ids == FILES[2:5]
  assert sets.test.images(np.arange(3))[:, 0, 0, 0].tolist() == [40, 60, 80]
