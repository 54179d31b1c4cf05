"""The parts of a run: the steps that events fall on, and refused configs."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment
from mixaug_jax.weights.loading import LoadReport

SMALL = {"batch_size": "4", "evaluate.batch_size": "4"}


def _due(steps, steps_per_epoch, every_epochs):
  exp = experiment.Experiment(None, None, None, steps, steps_per_epoch, None)
  return lambda step: exp.due(step, every_epochs)


@given(
  st.integers(1, 300), st.integers(1, 40), st.integers(1, 50), st.floats(0.1, 9)
)
def test_due_is_the_first_step_at_or_after_each_multiple(
  steps, batch_size, images, every
):
  per_epoch = images / batch_size
  ends = {steps}
  for number in range(1, 10_000):
    ends.add(max(1, math.ceil(number * every * per_epoch - 1e-6)))
  due = _due(steps, per_epoch, every)
  found = {step for step in range(steps + 1) if due(step)}
  assert found == {step for step in ends if step <= steps}


def test_an_epoch_of_a_whole_number_of_steps_ends_there():
  due = _due(400, 1.0 + 1e-12, 10)
  assert [step for step in range(1, 50) if due(step)] == [10, 20, 30, 40]


@pytest.mark.parametrize(
  "numbers", [(2**31 - 1, 1e-99, 5e-324), (2**31 - 1, 1e9, 1e9)]
)
def test_absurd_numbers_take_no_time(numbers):
  due = _due(*numbers)
  assert due(1) == (numbers[1] < 1)
  assert due(2**31 - 1)


def test_more_steps_than_int32_counts_are_refused():
  config = config_lib.load(
    "configs/cutmix.py", {"epochs": "1e9", "batch_size": "4"}
  )
  config.unlock()
  config.evaluate.batch_size = 252
  with pytest.raises(UserError, match="more than 2,147,483,647"):
    experiment.build(config)


@pytest.mark.parametrize(
  "settings",
  [{"optimizer.freeze": "stem"}, {"model.freeze_batch_norm": "true"}],
)
def test_random_weights_are_not_frozen(settings):
  ((key, value),) = settings.items()
  config = config_lib.load("configs/cutmix.py", {**SMALL, **settings})
  with pytest.raises(UserError, match=f"^config.{key}={value} would keep"):
    experiment.build(config)


def test_statistics_that_the_file_lacks_are_not_frozen():
  config = config_lib.load("configs/cutmix.py", SMALL)
  exp = dataclasses.replace(experiment.build(config), weights=_Partial())
  assert "bn9" in exp.initial_state()[1]
  with exp.config.unlocked():
    exp.config.model.freeze_batch_norm = True
  with pytest.raises(UserError, match="left as initialised: bn9; set it to"):
    exp.initial_state()


class _Partial:
  def load(self, variables):
    return variables, LoadReport("x.npz", ("bn1",), ("bn9",), (), None)
