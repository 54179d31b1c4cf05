"""Batches contain every example once an epoch and depend on the step alone."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixaug_jax import data
from mixaug_jax.data import batches, datasets, decode
from mixaug_jax.errors import UserError


def _split(count, placement="host"):
  images = np.arange(count * 12, dtype=np.uint32).astype(np.uint8)
  return datasets.Split(
    labels=np.arange(count, dtype=np.int32),
    ids=[str(i) for i in range(count)],
    placement=placement,
    rows=np.arange(count)[::-1].copy(),
    store=images.reshape(count, 2, 2, 3),
    source=None,
    square=decode.Settings(2),
    hashes=np.arange(count, dtype=np.uint64),
  )


def _take(count, split, batch_size, **options):
  stream = batches.train_batches(split, batch_size, seed=3, **options)
  taken = list(itertools.islice(stream, count))
  stream.close()
  return taken


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 3))
def test_every_example_comes_once_an_epoch_over_all_processes(
  examples, share, processes
):
  split, size = _split(examples), share * processes
  steps = -(-3 * examples // size)
  shares = [
    _take(steps, split, size, process_index=i, process_count=processes)
    for i in range(processes)
  ]
  stream = np.concatenate(
    [
      shares[i][step]["label"]
      for step in range(steps)
      for i in range(processes)
    ]
  )
  for epoch in range(3):
    seen = stream[epoch * examples : (epoch + 1) * examples]
    np.testing.assert_array_equal(np.sort(seen), np.arange(examples))


def test_a_start_at_a_later_step_skips_to_it():
  whole = _take(9, _split(10), 4)
  late = _take(4, _split(10), 4, start_step=5)
  for a, b in zip(whole[5:], late, strict=True):
    np.testing.assert_array_equal(a["label"], b["label"])
    np.testing.assert_array_equal(a["image"], b["image"])


@pytest.mark.parametrize(
  ("examples", "batch_size", "start_step", "expected"),
  [
    (7, 2, 0, [[5, 6], [2, 1], [4, 3], [0, 2], [1, 4], [0, 5], [6, 3]]),
    (7, 2, 12345, [[6, 0], [2, 3], [1, 5], [3, 4]]),
    (3, 8, 12345, [[1, 2, 0, 2, 0, 1, 2, 0], [1, 1, 0, 2, 2, 0, 1, 1]]),
  ],
)
def test_the_order_is_the_recorded_one(
  examples, batch_size, start_step, expected
):
  """A changed order would change every run that is resumed or repeated."""
  taken = _take(
    len(expected), _split(examples), batch_size, start_step=start_step
  )
  assert [batch["label"].tolist() for batch in taken] == expected


def test_epochs_and_seeds_differ_in_order():
  labels = [batch["label"].tolist() for batch in _take(2, _split(30), 30)]
  assert labels[0] != labels[1]
  other = next(batches.train_batches(_split(30), 30, seed=4))
  assert other["label"].tolist() not in labels


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 3))
def test_evaluation_sees_every_example_once(examples, share, processes):
  split, size = _split(examples), share * processes
  shares = [
    list(
      batches.eval_batches(
        split, size, process_index=i, process_count=processes
      )
    )
    for i in range(processes)
  ]
  assert len({len(some) for some in shares}) == 1
  every = [batch for some in shares for batch in some]
  assert all(len(batch["mask"]) == share for batch in every)
  positions = np.concatenate([b["position"][b["mask"] > 0] for b in every])
  np.testing.assert_array_equal(np.sort(positions), np.arange(examples))
  for batch in every:
    np.testing.assert_array_equal(
      batch["label"], split.labels[batch["position"]]
    )


def test_host_and_device_give_the_same_batches():
  host, device = _split(10), _split(10, "device")
  arrays = data.device_arrays(device)
  assert data.device_arrays(host) == {}
  pairs = zip(_take(6, host, 4), _take(6, device, 4), strict=True)
  for one, other in pairs:
    assert other.keys() == {"index"}
    for a, b in zip(
      data.fetch({}, one), data.fetch(arrays, other), strict=True
    ):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("labels", [np.arange(10), np.eye(10, dtype=np.uint8)])
def test_repeated_images_are_stored_once_and_batches_are_the_same(labels):
  positions = np.array([7, 1, 7, 7, 0, 1, 9])
  host, device = (
    dataclasses.replace(_split(10, placement), labels=labels).keep(positions)
    for placement in ("host", "device")
  )
  arrays = data.device_arrays(device)
  assert {name: len(x) for name, x in arrays.items()} == {
    "image": 4,
    "label": 4,
  }
  for one, other in zip(_take(6, host, 4), _take(6, device, 4), strict=True):
    for a, b in zip(
      data.fetch({}, one), data.fetch(arrays, other), strict=True
    ):
      np.testing.assert_array_equal(a, b)


class _Source:
  """Arrays as a source; the row `broken` cannot be read."""

  def __init__(self, images, broken=None):
    self._images, self._broken = images, broken
    self.ids = [str(i) for i in range(len(images))]

  def __len__(self):
    return len(self._images)

  def __getitem__(self, index):
    image = b"" if index == self._broken else self._images[index]
    return {"image": image, "label": index, "id": self.ids[index]}


def test_a_stream_gives_the_same_batches_as_the_host():
  host = _split(10)
  stream = dataclasses.replace(
    host, placement="stream", store=None, source=_Source(host.store)
  )
  for one, other in zip(_take(6, host, 4), _take(6, stream, 4), strict=True):
    np.testing.assert_array_equal(one["image"], other["image"])
    np.testing.assert_array_equal(one["label"], other["label"])


def test_a_bad_image_in_a_stream_is_reported_and_nothing_hangs():
  host = _split(10)
  stream = dataclasses.replace(
    host, placement="stream", store=None, source=_Source(host.store, broken=4)
  )
  with pytest.raises(UserError, match="4 cannot be read any more: the file"):
    _take(6, stream, 4)
  assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_closing_leaves_no_thread_behind():
  stream = batches.train_batches(_split(10), 4, seed=0)
  next(stream)
  stream.close()
  assert not [t for t in threading.enumerate() if t.name.startswith("batches")]
