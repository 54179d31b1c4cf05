"""The parts of a run: the steps that events fall on, and refused configs."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from mixaug_jax import config as config_lib
from mixaug_jax import models
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, optim, state, step
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


@given(st.integers(1, 300), st.floats(0.1, 30), st.floats(0.1, 9), st.data())
def test_events_that_are_left_are_counted(steps, per_epoch, every, data):
  exp = experiment.Experiment(None, None, None, steps, per_epoch, None)
  step = data.draw(st.integers(0, steps))
  left = [x for x in range(step + 1, steps + 1) if exp.due(x, every)]
  assert exp.count_due(step, every) == len(left)


def test_batches_to_evaluate_are_those_of_all_evaluations_that_are_left():
  values = {"epochs": "4", "evaluate.every_epochs": "2", "ema.decay": "0.9"}
  config = config_lib.load(
    "cutmix", {**SMALL, **values, "evaluate.batch_size": "40"}
  )
  exp = experiment.build(config)
  once, last = (
    2,
    2 + 25,
  )  # Batches of 50 images of validation and 1,000 of test.
  assert exp.batches_to_evaluate(0) == 2 * 2 * once + last
  assert exp.batches_to_evaluate(exp.steps - 1) == 2 * once + last
  assert exp.batches_to_evaluate(exp.steps) == last


@pytest.mark.parametrize(
  ("settings", "sentence"),
  [
    ({"mix.alpha": "-1"}, "alpha must be above 0"),
    ({"batch_size": "5"}, "does not divide over"),
    ({"augment.random_hue.max_delta": "9"}, "max_delta"),
    ({"model.dropout": "0.5", "model.last_stage": "nose"}, "last_stage"),
    ({"optimizer.head_from": "nose"}, "head_from: the model has no part nose"),
    ({"data.name": "nonesuch"}, "config.data.name must be one of"),
    ({"data.name": "folder", "data.dir": "nowhere"}, "no folder nowhere"),
    ({"model.pretrained": "runs/nowhere"}, "runs/nowhere is not a run dir"),
    ({"epochs": "2", "optimizer.warmup_epochs": "2"}, "take 2 epochs, and the"),
  ],
)
def test_a_mistake_is_found_without_reading_images(
  settings, sentence, monkeypatch
):
  monkeypatch.setattr(experiment.data, "load", None)
  with pytest.raises(UserError) as caught:
    experiment.check(config_lib.load("configs/cutmix.py", SMALL | settings))
  assert sentence in str(caught.value)


def test_a_config_without_a_mistake_passes():
  experiment.check(config_lib.load("cutmix"))


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


def _experiment(**overrides):
  return experiment.build(
    config_lib.load("configs/cutmix.py", {**SMALL, **VALUES, **overrides})
  )


def _lowered(exp):
  """Returns the text of the train step before compilation."""
  create = lambda variables: state.create(
    variables, exp.recipe.optimizer, exp.recipe.ema_decay is not None
  )
  abstract = models.abstract_variables(exp.recipe.model, 16)
  batch = {
    "image": np.zeros((4, 16, 16, 3), np.uint8),
    "label": np.zeros(4, np.int32),
  }
  run = jax.jit(step.make_train_step(exp.recipe, step.Devices()))
  return run.lower(
    jax.eval_shape(create, abstract),
    np.uint32(exp.config.seed),
    exp.recipe.hyperparameters(),
    {},
    batch,
  ).as_text()


VALUES = {
  "model.name": "small_vit",
  "ema.decay": "0.9",
  "optimizer.warmup_epochs": "1",
  "optimizer.head_warmup_epochs": "1",
}
OTHER_VALUES = {
  "optimizer.learning_rate": "0.03",
  "optimizer.weight_decay": "0.2",
  "optimizer.momentum": "0.8",
  "optimizer.warmup_epochs": "2",
  "optimizer.head_warmup_epochs": "2",
  "steps": "77",
  "mix.alpha": "0.3",
  "mix.probability": "0.1",
  "mix.off_after_epoch": "1",
  "loss.label_smoothing": "0.1",
  "ema.decay": "0.99",
  "seed": "7",
}


@pytest.mark.parametrize(
  "recipe",
  [
    {"optimizer.schedule": "cosine"},
    {"optimizer.schedule": "step", "mix.name": "mixup,fmix"},
    {"optimizer.schedule": "constant", "optimizer.name": "adamw"},
  ],
)
def test_recipes_of_other_values_share_a_program(recipe):
  one, other = _experiment(**recipe), _experiment(**recipe, **OTHER_VALUES)
  values = [exp.recipe.hyperparameters() for exp in (one, other)]
  assert sum(a != b for a, b in zip(*map(_flat, values), strict=True)) >= 9
  assert _lowered(one) == _lowered(other)


def _flat(arrays):
  return np.concatenate([np.ravel(x) for x in arrays])


@pytest.fixture(scope="module")
def lowered():
  return _lowered(_experiment())


@pytest.mark.parametrize(
  "change",
  [
    {"optimizer.weight_decay": "0"},
    {"optimizer.momentum": "0"},
    {"optimizer.nesterov": "false"},
    {"optimizer.warmup_epochs": "0"},
    {"optimizer.schedule": "step"},
    {"optimizer.schedule": f"{__name__}:my_schedule"},
    {"ema.decay": "none"},
    {"mix.name": "mixup"},
    {"mix.min_lambda": "0.1"},
  ],
)
def test_a_recipe_of_another_structure_has_its_own_program(lowered, change):
  assert _lowered(_experiment(**change)) != lowered


def my_schedule(peak, total_steps, warmup_steps):
  assert type(peak) is float
  assert type(total_steps) is type(warmup_steps) is int
  return lambda step: peak * (1 - step / (total_steps - warmup_steps))


class _Linear(nn.Module):
  """Scores the mean colour of an image."""

  @nn.compact
  def __call__(self, x, *, train):
    return nn.Dense(10, name="head")(x.mean((1, 2)))


def _linear(**overrides):
  """Returns an experiment with the model `_Linear`, and its variables."""
  exp, model = _experiment(**overrides), _Linear()
  images = np.zeros((1, 16, 16, 3), np.float32)
  variables = model.init(jax.random.key(0), images, train=False)
  optimizer, schedule = optim.make_optimizer(
    experiment.optimizer_settings(exp.config.optimizer),
    total_steps=exp.steps,
    steps_per_epoch=10.0,
    params=variables["params"],
    stages=("head",),
  )
  parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
  recipe = dataclasses.replace(exp.recipe, **parts)
  return dataclasses.replace(exp, recipe=recipe), variables


def test_a_program_takes_the_values_of_another_recipe():
  """Compares the step with NumPy in float64, as the papers have it."""
  values = {
    "optimizer.head_warmup_epochs": "0",
    "optimizer.learning_rate": "0.2",
    "optimizer.weight_decay": "0.03",
    "optimizer.momentum": "0.7",
    "optimizer.warmup_epochs": "0.5",
    "steps": "20",
    "mix.probability": "0",
    "loss.label_smoothing": "0.1",
    "ema.decay": "0.3",
  }
  first, _ = _linear(**{"optimizer.head_warmup_epochs": "0", "steps": "900"})
  exp, variables = _linear(**values)
  run = jax.jit(step.make_train_step(first.recipe, step.Devices()))
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (12, 16, 16, 3), np.uint8)
  labels = rng.integers(0, 10, 12).astype(np.int32)
  batch = {"image": images, "label": labels}

  inputs = exp.recipe.preprocess(images.astype(np.float32) / 255)
  inputs = np.asarray(inputs, np.float64).mean((1, 2))
  target = 0.9 * np.eye(10)[labels] + 0.1 / 10
  kernel = np.asarray(variables["params"]["head"]["kernel"], np.float64)
  bias, velocities, average = np.zeros(10), [0.0, 0.0], kernel
  now = state.create(variables, exp.recipe.optimizer, True)
  for count in range(20):
    now, measured = run(
      now, np.uint32(0), exp.recipe.hyperparameters(), {}, batch
    )
    logits = inputs @ kernel + bias
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -(target * log_softmax).sum(1).mean()
    error = (np.exp(log_softmax) - target) / 12
    gradients = [inputs.T @ error, error.sum(0)]
    velocities = [
      0.7 * v + g for v, g in zip(velocities, gradients, strict=True)
    ]
    moved = [g + 0.7 * v for v, g in zip(velocities, gradients, strict=True)]
    rate = 0.2 * (count + 1) / 6
    if count >= 5:
      rate = 0.1 * (1 + np.cos(np.pi * (count - 5) / 15))
    kernel = kernel - rate * (moved[0] + 0.03 * kernel)
    bias = bias - rate * moved[1]
    decay = min(0.3, (1 + count) / (10 + count))
    average = decay * average + (1 - decay) * kernel
    assert float(measured["learning_rate"]) == pytest.approx(rate, rel=1e-5)
    assert float(measured["loss"]) == pytest.approx(loss, rel=1e-5)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  close(now.params["head"]["kernel"], kernel)
  close(now.params["head"]["bias"], bias)
  close(now.ema["params"]["head"]["kernel"], average)
