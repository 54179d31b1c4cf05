"""Predictions of files with any name; overlays of equal names are all kept."""

import os
import pathlib

import numpy as np

from mixaug_jax.analysis import predictions
from mixaug_jax.analysis.likelihood import SOFTMAX


def test_equal_names_are_numbered_across_batches(tmp_path):
  images = np.zeros((2, 8, 8, 3), np.uint8)
  maps = np.ones((2, 2, 2), np.float32)
  taken = set()
  written = []
  for batch in (("a/x.jpg", "b/x.png"), ("c/x.jpg",)):
    paths = [pathlib.Path(name) for name in batch]
    written += predictions.write_overlays(images, maps, paths, tmp_path, taken)
  names = ["x.png", "x_2.png", "x_3.png"]
  assert [path.name for path in written] == names
  assert sorted(path.name for path in tmp_path.iterdir()) == names


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
