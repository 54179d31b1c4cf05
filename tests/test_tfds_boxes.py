"""The bounding boxes of a TFDS data set, read when they are asked for."""

import types

import numpy as np
import tensorflow_datasets as tfds

from mixaug_jax.data.tfds_source import Tfds

BOXES = [
  [[0.1, 0.2, 0.5, 0.6]],
  [[0.3, 0.1, 0.4, 0.9], [0.2, 0.5, 0.8, 0.7]],
  np.zeros((0, 4)),
]


class _Records(list):
  """As a TFDS data source gives them, counting how often it is read."""

  reads = 0

  def __getitem__(self, index):
    self.reads += 1
    return super().__getitem__(index)


def _source(with_boxes):
  features = {
    "image": tfds.features.Image(),
    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
  }
  records = _Records({"image": b"", "label": 0} for _ in BOXES)
  if with_boxes:
    box = tfds.features.BBoxFeature()
    features["objects"] = tfds.features.Sequence({"bbox": box})
    for record, boxes in zip(list(records), BOXES, strict=True):
      record["objects"] = {"bbox": np.float32(boxes)}
  split = types.SimpleNamespace(num_examples=len(records), num_bytes=9)
  builder = types.SimpleNamespace(
    data_path="pets/1.0.0",
    info=types.SimpleNamespace(
      features=tfds.features.FeaturesDict(features), splits={"test": split}
    ),
    as_data_source=lambda split, decoders: records,
  )
  return Tfds(builder, "test"), records


def test_several_objects_have_one_box_around_them():
  boxes = _source(with_boxes=True)[0].boxes
  assert boxes.dtype == np.float32
  np.testing.assert_allclose(
    boxes,
    [[0.1, 0.2, 0.5, 0.6], [0.2, 0.1, 0.8, 0.9], [np.nan] * 4],
    rtol=1e-6,
  )


def test_boxes_are_read_at_first_use_and_once():
  source, records = _source(with_boxes=True)
  opened = records.reads
  assert opened == len(BOXES)  # For the labels.
  assert source.boxes is source.boxes
  assert records.reads == opened + len(BOXES)


def test_a_set_without_boxes_has_none():
  source, records = _source(with_boxes=False)
  opened = records.reads
  assert source.boxes is None
  assert records.reads == opened
