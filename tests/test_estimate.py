"""The estimate of the time of a comparison."""

import sys
import types

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.comparison import arms, estimate, plan
from mixaug_jax.comparison.executors import local
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment


def _config(**values):
  settings = {"evaluate.every_epochs": "2", "evaluate.batch_size": "5"}
  return config_lib.load("cutmix", settings | values)


def test_the_estimate_of_a_run_includes_its_evaluations():
  # Five steps of half an epoch: two evaluations of 2 batches of 5 images, the
  # last included, then validation and the 4 batches of test.
  result = types.SimpleNamespace(
    steps=5,
    epochs=2.5,
    seconds=8.0,
    evaluation_seconds=25.0,
    examples=types.SimpleNamespace(validation=10),
    test=types.SimpleNamespace(examples=20),
  )
  timed = estimate._of_run(_config(), result, wall=40.0)
  assert timed.overhead == 40 - 8 - 25
  assert timed.step == 8 / 4  # The first step compiles.
  assert timed.epoch == 2
  assert timed.batch == 25 / (2 * 2 + 2 + 4)
  cell = lambda **values: types.SimpleNamespace(config=_config(**values))
  run = timed.seconds(cell(epochs="10"))
  assert run == pytest.approx(7 + 20 * 2 + (5 * 2 + 2 + 4) * 2.5)
  # A trial leaves test unread; a moving average is evaluated as well.
  trial = timed.seconds(
    cell(epochs="10", **{"data.test": "false", "ema.decay": "0.9"})
  )
  assert trial == pytest.approx(7 + 20 * 2 + (2 * 5 * 2 + 2) * 2.5)
  assert timed.seconds(cell(steps="20")) == run


def test_evaluations_are_counted_as_in_training():
  config = _config(**{"evaluate.every_epochs": "1.5", "ema.decay": "none"})
  epoch, images = 50 / 48, 50
  for steps in (1, 7, 33, 400):
    exp = experiment.Experiment(config, None, None, steps, epoch, None)
    count = sum(exp.evaluate_at(step) for step in range(steps + 1))
    batches = estimate._evaluated(config, steps, epoch, images, 0)
    assert batches == (count + 1) * 10


def test_a_terminal_shows_the_numbers_and_a_few_of_many_runs(
  monkeypatch, capsys, tmp_path
):
  comparison = plan.make(
    arms.load("compare", {"tune.trials": "10"}), tmp_path / "runs", None
  )
  timed = types.SimpleNamespace(seconds=lambda cell: 60.0, overhead=7.0)
  monkeypatch.setattr(estimate, "_time", lambda *_: timed)
  monkeypatch.setattr(local, "places", lambda jobs: [{}] * jobs)
  estimate.dry_run(comparison, [], local.Local(2))
  piped = capsys.readouterr().out.splitlines()
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
  monkeypatch.setenv("COLUMNS", "500")
  estimate.dry_run(comparison, [], local.Local(2))
  shown = capsys.readouterr().out.splitlines()
  cells = len(comparison.trials) + len(comparison.cells)
  assert f"{len(comparison.trials)} trials: " in shown[0]
  assert shown[:21] == piped[:21]
  assert shown[21] == f"and {cells - 20} more; --dry_run | cat lists all"
  assert shown[22:] == piped[cells + 1 :]
  assert ", 2 at a time, which share the CPU: about " in shown[-1]


def test_the_timed_run_is_short_whatever_its_arm_sets(tmp_path, monkeypatch):
  commands = []

  def fail(command, **_):
    commands.append(command)
    return types.SimpleNamespace(returncode=2, stderr="x")

  monkeypatch.setattr(estimate.subprocess, "run", fail)
  own = {"epochs": "9", "optimizer.warmup_epochs": "3"}
  own = {f"arms.baseline.{key}": text for key, text in own.items()}
  config = arms.load("compare", own | {"tune.trials": "0"})
  with pytest.raises(UserError, match="baseline/0 fails: x"):
    estimate._time(plan.make(config, tmp_path, check=False), [])
  start = "--config."
  flags = [x.removeprefix(start) for x in commands[0] if x.startswith(start)]
  timed = arms.load("compare", own | dict(x.split("=") for x in flags))
  arm = arms.of_arm(timed, "baseline")
  assert (arm.epochs, arm.steps, arm.optimizer.warmup_epochs) == (None, 5, 0)
