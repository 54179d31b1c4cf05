"""The result of a run as commands print it."""

import types

import pytest

from mixaug_jax.command import summary


@pytest.mark.parametrize(
  ("chosen", "words"),
  [
    ("best", "best on validation"),
    ("last", "last weights"),
    ("ema", "moving average"),
  ],
)
def test_the_weights_that_test_measures_are_named(chosen, words):
  measured = types.SimpleNamespace(
    accuracy=0.5,
    top5_accuracy=1.0,
    loss=1.0,
    step=2,
    balanced_accuracy=0.25,
  )
  result = types.SimpleNamespace(
    validation=types.SimpleNamespace(last=measured, best=None, ema=None),
    test=measured,
    chosen=chosen,
    chosen_step=2,
    seconds=1.0,
    images_per_second=3.0,
    stopped_early=None,
  )
  text = summary.of_run(result, "x")
  assert f"\ntest ({words}, step 2): 50.00%" in text
  assert "loss 1.000, balanced accuracy 25.00%\n" in text
  measured.balanced_accuracy = None  # Of an older run.
  assert "balanced" not in summary.of_run(result, "x")
