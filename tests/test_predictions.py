"""Predictions of files with any name."""

import os

import numpy as np

from mixaug_jax.analysis import predictions
from mixaug_jax.analysis.likelihood import SOFTMAX


def test_a_name_that_cannot_be_printed_is_escaped_and_read(tmp_path):
  path = tmp_path / os.fsdecode(b"two\nlines\xe9.png")
  image = np.zeros((8, 8, 3), np.uint8)
  draw = lambda images, classes, files: files
  read = {path: image}.__getitem__
  logits = lambda images: np.zeros((len(images), 2))
  (row,), errors = predictions.classify(
    [path], read, logits, "ab", SOFTMAX, draw
  )
  assert row["image"] == row["overlay"] == f"{tmp_path}/two\\nlines\\udce9.png"
  assert row["image"].isprintable()
  assert not errors


def test_a_class_name_forges_no_line():
  names = ["a\nb", r"a\nb"]  # The second one is escaped already.
  top = [{"class": name, "probability": 0.5} for name in names]
  table = predictions.table([{"image": "x.png", "top": top}], "")
  assert table.splitlines() == ["x.png", *[r"   50.00%  a\nb"] * 2]
