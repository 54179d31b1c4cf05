"""Failures of the machine become sentences, and errors of programs do not."""

import errno
import os

import pytest

from mixaug_jax import files
from mixaug_jax.command import failures
from mixaug_jax.errors import disk_is_full


@pytest.mark.parametrize(
  ("code", "fix"),
  [
    (errno.EIO, "Input/output error; check the disk"),
    (errno.EROFS, "make the file system writable"),
    (errno.EDQUOT, "make room or raise the quota"),
    (errno.EACCES, "Permission denied; allow it"),
    (errno.EFBIG, "raise the limit on the size of files"),
    (errno.ENOSPC, "No space left on device; make room"),
  ],
)
def test_an_error_of_a_file_without_a_name_gets_one(tmp_path, code, fix):
  path = tmp_path / "metrics.jsonl"
  with pytest.raises(OSError, match="metrics") as caught, files.naming(path):
    raise OSError(code, os.strerror(code))  # As file.write does.
  sentence = failures.sentence(caught.value)
  assert sentence.startswith(f"cannot read or write {path}: ")
  assert fix in sentence
  assert disk_is_full(sentence) == (code in (errno.ENOSPC, errno.EDQUOT))
  outer = RuntimeError()
  outer.__cause__ = caught.value
  assert failures.sentence(outer) == sentence


def test_a_full_disk_and_a_full_memory_differ():
  for text, full in (("No space left on device", True), ("HBM", False)):
    error = RuntimeError(f"RESOURCE_EXHAUSTED: {text}")  # TensorStore and XLA.
    assert disk_is_full(failures.sentence(error)) == full


def test_other_errors_have_no_sentence():
  for error in (ValueError("no"), OSError("no"), ConnectionResetError(104, "")):
    assert failures.sentence(error) is None
  mistake = TypeError("in the program")
  mistake.__context__ = FileNotFoundError(errno.ENOENT, "handled", "a.json")
  assert failures.sentence(mistake) is None
