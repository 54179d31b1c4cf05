"""The optimizer: schedules, decay, freezing, learning rates by depth."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import default
from mixaug_jax import models
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, optim

PARTS = ("stem", "stage1", "stage2", "stage3", "head")


@pytest.fixture(scope="module")
def params():
  model = models.create_model("small_resnet", 10)
  images = jnp.zeros((1, 16, 16, 3))
  return model.init(jax.random.key(0), images, train=False)["params"]


def _settings(**values):
  config = default.get_config().optimizer
  config.update(
    {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.0, **values}
  )
  return experiment.optimizer_settings(config)


def _make(
  params, total_steps=100, steps_per_epoch=10.0, stages=PARTS, **values
):
  return optim.make_optimizer(
    _settings(**values),
    total_steps=total_steps,
    steps_per_epoch=steps_per_epoch,
    params=params,
    stages=stages,
  )


def _updates(optimizer, params, steps=1, gradients=None):
  """Returns the updates of the last of `steps` steps with equal gradients."""
  state = optimizer.init(params)
  if gradients is None:
    gradients = jax.tree.map(jnp.ones_like, params)
  for _ in range(steps):
    updates, state = optimizer.update(gradients, state, params)
  return updates


def _rates(updates):
  """Returns how far each part's parameters moved; equal within a part."""
  rates = {}
  for part, below in updates.items():
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(below)])
    assert np.ptp(values) <= 1e-6 * np.abs(values).max()
    rates[part] = -float(values[0])
  return rates


@given(
  st.sampled_from(["cosine", "step", "constant"]),
  st.integers(2, 500),
  st.floats(0, 0.9),
)
def test_schedules_rise_to_the_peak_and_then_only_fall(name, total, share):
  warmup = min(int(share * total), total - 1)
  _, schedule = _make(
    {"head": jnp.zeros((2, 2))},
    total_steps=total,
    steps_per_epoch=1.0,
    schedule=name,
    warmup_epochs=float(warmup),
  )
  rates = np.array([schedule(step) for step in range(total + 1)])
  assert (rates[:-1] > 0).all()
  # In a short run the first fall may come before the end of the warm-up.
  assert (np.diff(rates[: warmup + (name != "step")]) > 0).all()
  assert (np.diff(rates[warmup:]) <= 1e-9).all()
  assert rates.max() <= 0.1 + 1e-7
  if name != "step":
    assert rates[warmup] == pytest.approx(0.1, rel=1e-6)
  if name == "cosine":
    assert rates[-1] == pytest.approx(0, abs=1e-8)


def test_the_step_schedule_falls_tenfold_three_times(params):
  _, schedule = _make(params, total_steps=90, schedule="step")
  rates = [float(schedule(step)) for step in (0, 29, 30, 59, 60, 79, 80, 89)]
  expected = [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4]
  np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_nesterov_sgd_follows_its_formula(params):
  """v <- m v + g, p <- p - lr (g + m v), see Sutskever et al. (2013)."""
  optimizer, _ = _make(params, momentum=0.9, nesterov=True, schedule="constant")
  velocity = 1 + 0.9 * (1 + 0.9)
  expected = 0.1 * (1 + 0.9 * velocity)
  rates = _rates(_updates(optimizer, params, steps=3))
  for rate in rates.values():
    assert rate == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_decay_is_decoupled_and_spares_batch_norm_and_biases(params, name):
  optimizer, _ = _make(
    params, name=name, weight_decay=0.01, momentum=0.9, schedule="constant"
  )
  params = jax.tree.map(lambda x: x + 1.0, params)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates = _updates(optimizer, params, steps=5, gradients=zero)
  for path, update in jax.tree_util.tree_leaves_with_path(updates):
    name = path[-1].key
    value = params
    for key in path:
      value = value[key.key]
    share = 0.1 * 0.01 if name == "kernel" else 0.0
    np.testing.assert_allclose(update, -share * value, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", models.MODELS)
def test_decay_spares_biases_and_scales_of_every_model(name):
  model = models.create_model(name, 10)
  params = models.abstract_variables(model, 32)["params"]
  decays = jax.tree_util.tree_leaves_with_path(optim.decays(params))
  for path, decayed in decays:
    assert path[-1].key in ("kernel", "bias", "scale")
    assert decayed == (path[-1].key == "kernel")
  if isinstance(model, models.ResNet):  # There, that is decay by dimensions.
    by_dimensions = jax.tree.map(lambda x: x.ndim > 1, params)
    assert optim.decays(params) == by_dimensions


def test_adamw_equals_that_of_optax(params):
  optimizer, schedule = _make(params, name="adamw", weight_decay=0.01)
  peer = optax.adamw(schedule, weight_decay=0.01, mask=optim.decays)
  gradients = jax.tree.map(lambda x: x + 0.1, params)
  ours = _updates(optimizer, params, 3, gradients)
  theirs = _updates(peer, params, 3, gradients)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8),
    ours,
    theirs,
  )


def test_learning_rates_go_by_depth(params):
  optimizer, _ = _make(
    params, layer_decay=0.5, head_multiplier=10.0, schedule="constant"
  )
  rates = _rates(_updates(optimizer, params))
  expected = dict(zip(PARTS, (0.0125, 0.025, 0.05, 0.1, 1.0), strict=True))
  assert rates == pytest.approx(expected, rel=1e-5)


def test_depth_is_the_order_of_the_models_stages():
  """`block10` comes after `block2`, and a stage without parameters is none."""
  stages = ("stem", "block1", "block2", "pool", "block10", "head")
  params = {name: {"kernel": jnp.ones((2, 2))} for name in stages}
  del params["pool"]
  optimizer, _ = _make(
    params, stages=stages, layer_decay=0.5, schedule="constant"
  )
  rates = _rates(_updates(optimizer, params))
  assert rates == pytest.approx(
    {"stem": 0.0125, "block1": 0.025, "block2": 0.05, "block10": 0.1}
    | {"head": 0.1},
    rel=1e-5,
  )


def test_parts_that_count_as_the_head_learn_as_it_does(params):
  values = {
    "head_from": "stage2",
    "layer_decay": 0.5,
    "head_multiplier": 10.0,
    "schedule": "constant",
  }
  optimizer, _ = _make(params, **values)
  rates = _rates(_updates(optimizer, params))
  expected = dict(zip(PARTS, (0.05, 0.1, 1.0, 1.0, 1.0), strict=True))
  assert rates == pytest.approx(expected, rel=1e-5)
  optimizer, _ = _make(params, **values, head_warmup_epochs=1.0)
  for steps, body in ((10, 0.0), (11, 0.1)):
    rates = _rates(_updates(optimizer, params, steps))
    expected = dict(zip(PARTS, (body / 2, body, 1, 1, 1), strict=True))
    assert rates == pytest.approx(expected, rel=1e-5)


def test_frozen_parts_stay_and_do_not_count_in_the_norm(params):
  optimizer, _ = _make(
    params,
    freeze="stem, stage1",
    weight_decay=0.1,
    clip_norm=1.0,
    schedule="constant",
  )
  gradients = jax.tree.map(jnp.zeros_like, params)
  gradients["stem"] = jax.tree.map(lambda x: x + 1e6, gradients["stem"])
  gradients["head"]["bias"] = jnp.full(10, 0.1)
  updates = _updates(optimizer, params, gradients=gradients)
  for part in ("stem", "stage1"):
    assert all((x == 0).all() for x in jax.tree.leaves(updates[part]))
  np.testing.assert_allclose(updates["head"]["bias"], -0.01, rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm(params):
  optimizer, _ = _make(params, clip_norm=0.5, schedule="constant")
  updates = _updates(optimizer, params)
  squares = sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(updates))
  assert squares**0.5 == pytest.approx(0.05, rel=1e-5)


def test_the_head_warms_up_alone_and_then_the_trunk(params):
  optimizer, schedule = _make(
    params, head_warmup_epochs=1.0, warmup_epochs=0.5, weight_decay=0.1
  )
  state = optimizer.init(params)
  gradients = jax.tree.map(jnp.ones_like, params)
  for step in range(20):
    updates, state = optimizer.update(gradients, state, params)
    head = -float(updates["head"]["bias"][0])
    trunk = -float(updates["stage1"]["block1"]["bn1"]["bias"][0])
    assert head == pytest.approx(float(schedule(step)), rel=1e-5)
    expected = head * np.clip((step - 9) / 6, 0, 1)
    assert trunk == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["small_resnet", "small_vit"])
def test_a_frozen_trunk_trains_nothing_but_the_head(name):
  """In the model, batch norm keeps its statistics and no gradient flows."""
  frozen = models.create_model(name, 10).stages[:-1]
  model = models.create_model(name, 10, frozen=frozen)
  images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
  variables = model.init(jax.random.key(0), images, train=False)

  def loss(params):
    logits, changed = model.apply(
      {**variables, "params": params},
      images,
      train=True,
      mutable=["batch_stats"],
    )
    return jnp.sum(jnp.square(logits)), changed

  gradients, changed = jax.grad(loss, has_aux=True)(variables["params"])
  for part in frozen:
    assert all((x == 0).all() for x in jax.tree.leaves(gradients[part]))
  assert any((x != 0).any() for x in jax.tree.leaves(gradients["head"]))
  if changed:
    jax.tree.map(
      np.testing.assert_array_equal,
      changed["batch_stats"],
      variables["batch_stats"],
    )


@pytest.mark.parametrize(
  ("values", "sentence"),
  [
    ({"freeze": "stem,stage9"}, "no part stage9.*stem, stage1"),
    ({"freeze": ",".join(PARTS)}, "nothing to train"),
    ({"head_from": "stage4"}, "head_from.*no part stage4.*stem, stage1"),
    ({"stages": PARTS[1:]}, "outside of its stages, stem; its parts are st"),
    ({"warmup_epochs": 10.0}, "take 100 steps.*has only 100"),
    ({"warmup_epochs": 5.0, "head_warmup_epochs": 6.0}, "take 110 steps"),
  ],
)
def test_a_value_that_does_not_fit_is_reported(params, values, sentence):
  with pytest.raises(UserError, match=sentence):
    _make(params, **values)


def my_optimizer(settings):
  return optax.scale_by_lion(b1=settings.momentum)


def my_schedule(peak, total_steps, warmup_steps):
  return optax.linear_schedule(peak, 0.0, total_steps - warmup_steps)


def test_an_optimizer_and_a_schedule_of_the_users_own(params):
  here = __name__
  optimizer, schedule = _make(
    params,
    name=f"{here}:my_optimizer",
    schedule=f"{here}:my_schedule",
    momentum=0.5,
    warmup_epochs=1.0,
    weight_decay=0.01,
  )
  rates = [float(schedule(step)) for step in (9, 10, 55, 100)]
  np.testing.assert_allclose(rates, [0.1 * 10 / 11, 0.1, 0.05, 0], atol=1e-7)
  peer = optax.lion(
    schedule, b1=0.5, b2=0.99, weight_decay=0.01, mask=optim.decays
  )
  gradients = jax.tree.map(lambda x: x + 0.1, params)
  ours = _updates(optimizer, params, 3, gradients)
  theirs = _updates(peer, params, 3, gradients)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8),
    ours,
    theirs,
  )
