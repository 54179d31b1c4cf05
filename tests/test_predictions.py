"""Overlays of files with equal names are all kept."""

import pathlib

import numpy as np

from mixaug_jax.analysis import predictions


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
