"""The bounding boxes of a TFDS data set are read at their first use."""

import io
import types

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.file_adapters import FileFormat

from mixaug_jax.data.tfds_source import Tfds

BOXES = [
  [(0.1, 0.2, 0.5, 0.6)],
  [(0.3, 0.1, 0.4, 0.9), (0.2, 0.5, 0.8, 0.7)],
  [],
]


class _Records:
  """Serialised examples, which TFDS decodes; counts the reads."""

  def __init__(self, features, examples):
    self._features, self.reads = features, 0
    self._serialised = [
      features.serialize_example(features.encode_example(example))
      for example in examples
    ]

  def __len__(self):
    return len(self._serialised)

  def __getitem__(self, index):
    self.reads += 1
    return self._features.deserialize_example_np(
      self._serialised[index], decoders={"image": tfds.decode.SkipDecoding()}
    )


def _source(directory, with_boxes):
  features = {
    "image": tfds.features.Image(),
    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
  }
  examples = [{"image": _png(), "label": 0} for _ in BOXES]
  if with_boxes:
    box = tfds.features.BBoxFeature()
    features["objects"] = tfds.features.Sequence({"bbox": box})
    for example, boxes in zip(examples, BOXES, strict=True):
      example["objects"] = [{"bbox": tfds.features.BBox(*b)} for b in boxes]
  features = tfds.features.FeaturesDict(features)
  records = _Records(features, examples)
  (directory / "dataset_info.json").touch()
  builder = types.SimpleNamespace(
    data_path=directory,
    info=types.SimpleNamespace(
      features=features,
      splits={"test": types.SimpleNamespace(filepaths=[])},
      file_format=FileFormat.ARRAY_RECORD,
      alternative_file_formats=[],
    ),
    as_data_source=lambda split, decoders: records,
  )
  return Tfds(builder, "test"), records


def _png():
  file = io.BytesIO()
  Image.new("RGB", (8, 6)).save(file, "PNG")
  file.seek(0)
  return file


def test_several_objects_have_one_box_around_them(tmp_path):
  boxes = _source(tmp_path, with_boxes=True)[0].boxes
  assert boxes.dtype == np.float32
  np.testing.assert_allclose(
    boxes,
    [[0.1, 0.2, 0.5, 0.6], [0.2, 0.1, 0.8, 0.9], [np.nan] * 4],
    rtol=1e-6,
  )


def test_boxes_are_read_at_first_use_and_once(tmp_path):
  source, records = _source(tmp_path, with_boxes=True)
  opened = records.reads
  assert opened == len(BOXES)  # For the labels.
  assert source.boxes is source.boxes
  assert records.reads == opened + len(BOXES)


def test_a_set_without_boxes_has_none(tmp_path):
  source, records = _source(tmp_path, with_boxes=False)
  opened = records.reads
  assert source.boxes is None
  assert records.reads == opened
