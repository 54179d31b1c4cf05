"""TFRecord files are read at random places, and checked when opened."""

import struct

import pytest

from mixaug_jax.data.tfrecord import TfRecords

CONTENTS = [[b"one", b"", b"three" * 1000], [b"four"], []]


def _record(content):
  return struct.pack("<Q4x", len(content)) + content + bytes(4)


@pytest.fixture
def files(tmp_path):
  paths = [tmp_path / f"{number}" for number in range(len(CONTENTS))]
  for path, contents in zip(paths, CONTENTS, strict=True):
    path.write_bytes(b"".join(map(_record, contents)))
  return paths


def test_records_of_several_files_are_in_order(files):
  records = TfRecords(files, [3, 1, 0])
  assert len(records) == 4
  expected = [content for contents in CONTENTS for content in contents]
  assert [records[index] for index in reversed(range(4))] == expected[::-1]


def test_files_that_tensorflow_writes_are_read(tmp_path):
  tf = pytest.importorskip("tensorflow")
  with tf.io.TFRecordWriter(str(tmp_path / "file")) as writer:
    for content in CONTENTS[0]:
      writer.write(content)
  records = TfRecords([tmp_path / "file"], [3])
  assert [records[index] for index in range(3)] == CONTENTS[0]


def test_a_wrong_number_of_records_is_reported(files):
  with pytest.raises(ValueError, match="1 has 1 records instead of 2"):
    TfRecords(files, [3, 2, 0])


@pytest.mark.parametrize("missing", [1, 5, 5010])
def test_a_file_that_is_cut_off_is_reported(files, missing):
  content = files[0].read_bytes()
  files[0].write_bytes(content[:-missing])
  with pytest.raises(ValueError, match="cut off"):
    TfRecords(files, [3, 1, 0])
