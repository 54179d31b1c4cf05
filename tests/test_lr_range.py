"""The learning-rate range test: its curve, its suggestion, its files."""

import csv
import dataclasses
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax.command import lr_range as command
from mixaug_jax.errors import UserError
from mixaug_jax.pages import lr_range as drawn
from mixaug_jax.training import loop, lr_curve, lr_range
from mixaug_jax.training.lr_curve import Curve

RUNS = pathlib.Path(__file__).parent / "data" / "runs"
TINY = {
  "model.name": "tiny_model:Tiny",
  "model.sync_batch_norm": "true",
  "data.classes": "3",
  "data.examples_per_class": "12",
  "data.image_size": "8",
  "data.validation_fraction": "0.5",
  "batch_size": "12",
}
WORDS = [f"--config.{key}={value}" for key, value in TINY.items()]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(RUNS)
  monkeypatch.chdir(tmp_path)
  return tmp_path


def _curve(losses, low=1e-5, high=1.0):
  """A test whose steps have these losses, some of which may be left out."""
  planned = len(losses)
  rates = low * (high / low) ** (np.arange(planned) / (planned - 1))
  losses = np.array(losses, np.float64)
  for count in range(1, planned + 1):
    if lr_curve.diverged(losses[:count], lr_curve.width(planned)):
      break
  return Curve(planned, rates[:count], losses[:count])


def _falling(places, middle=0.5, end=0.8):
  """A loss that falls fastest in the middle, and explodes at the end."""
  fall = 2.0 - 1.5 / (1 + np.exp(-(places - middle) / 0.05))
  return fall + np.exp((places - end) / 0.02)


def test_smoothing_keeps_lines_and_does_not_shift_a_valley():
  places = np.arange(101.0)
  line = lr_curve.smooth(3 + 2 * places, 2.0)
  np.testing.assert_allclose(line[20:-20], 3 + 2 * places[20:-20])
  np.testing.assert_allclose(lr_curve.smooth(np.full(9, 0.7), 2.0), 0.7)
  valley = lr_curve.smooth(np.abs(places - 37), 2.0)
  assert valley.argmin() == 37
  np.testing.assert_allclose(valley[27:37], valley[47:37:-1])


def test_a_loss_that_is_not_finite_stays_alone():
  losses = np.array([1.0, 1.0, np.inf])
  smooth = lr_curve.smooth(losses, 2.0)
  np.testing.assert_allclose(smooth[:2], 1.0)
  assert np.isnan(smooth[2])
  assert lr_curve.diverged(losses, 2.0)
  assert not lr_curve.diverged(losses[:2], 2.0)


def test_the_suggestion_lies_between_the_fall_and_a_tenth_of_the_lowest():
  places = np.linspace(0, 1, 101)
  curve = _curve(_falling(places))
  assert curve.diverged
  assert len(curve.rates) < 90  # It ends at four times the lowest loss.
  found = lr_curve.suggest(curve)
  assert found.steepest == pytest.approx(10 ** (-5 + 5 * 0.5), rel=0.15)
  expected = 10 ** (-5 + 5 * places[_falling(places).argmin()])
  assert found.lowest == pytest.approx(expected, rel=0.3)
  mean = (found.steepest * found.lowest / 10) ** 0.5
  assert found.rate == pytest.approx(mean, rel=0.05)
  assert not found.still_falling
  last = lr_curve.describe(curve, found)[-1]
  assert last == f"--config.optimizer.learning_rate={found.rate:g}"


def test_a_fall_after_the_lowest_loss_does_not_count():
  """A network that jumped away and comes back falls fast at a high rate."""
  places = np.linspace(0, 1, 101)
  jump = np.clip((places - 0.75) / 0.02, 0, 1) - np.clip(
    (places - 0.85) / 0.01, 0, 1
  )
  curve = _curve(_falling(places, end=3.0) + jump)
  assert len(curve.rates) == 101
  curve = dataclasses.replace(curve, losses=curve.losses + 0.1 * (places > 0.8))
  assert np.gradient(curve.smooth).argmin() > 80
  found = lr_curve.suggest(curve)
  assert found.steepest == pytest.approx(10 ** (-5 + 5 * 0.5), rel=0.15)


def test_a_loss_that_falls_to_the_end_asks_for_higher_rates():
  curve = _curve(_falling(np.linspace(0, 1, 101), middle=1.0, end=2.0))
  found = lr_curve.suggest(curve)
  assert found.still_falling
  assert any("raise --max" in x for x in lr_curve.describe(curve, found))


@pytest.mark.parametrize(
  "losses", [[2.0] * 20, np.linspace(1, 3, 20), [9.0, 1]]
)
def test_a_loss_that_does_not_fall_suggests_nothing(losses):
  curve = _curve(losses)
  assert lr_curve.suggest(curve) is None
  assert "no suggestion" in lr_curve.describe(curve, None)[-1]


def test_the_steps_are_those_of_a_run_at_rising_rates(folder):
  """The first loss is that of the first step of a run, bit for bit."""
  config = config_lib.load("cutmix", TINY)
  curve = lr_range.run(config, 1e-3, 1.0, 12)
  np.testing.assert_allclose(curve.rates[[0, -1]], [1e-3, 1.0])
  factors = curve.rates[1:] / curve.rates[:-1]
  np.testing.assert_allclose(factors, 1000 ** (1 / 11))
  again = lr_range.run(config, 1e-3, 1.0, 12)
  np.testing.assert_array_equal(curve.losses, again.losses)
  other = config_lib.load("cutmix", TINY | {"seed": "1"})
  assert lr_range.run(other, 1e-3, 1.0, 12).losses[0] != curve.losses[0]
  # A run at the rate of the first step has the same second loss as well.
  values = TINY | {
    "steps": "2",
    "log.every_steps": "1",
    "log.writers": "",
    "optimizer.learning_rate": "0.001",
    "optimizer.schedule": "constant",
    "data.test": "false",
  }
  loop.train(config_lib.load("cutmix", values), folder / "run")
  rows = [json.loads(x) for x in (folder / "run" / "metrics.jsonl").open()]
  losses = [row["loss"] for row in rows if row["split"] == "train"]
  assert losses == curve.losses[:2].tolist()


def test_the_schedule_rises_and_nothing_is_warmed_up_or_switched_off():
  values = {
    "optimizer.warmup_epochs": "1",
    "optimizer.head_warmup_epochs": "1",
    "mix.off_after_epoch": "1",
  }
  config = config_lib.load("cutmix", TINY | values)
  exp = lr_range._experiment(config, 1e-4, 0.1, 31)
  rates = [float(exp.recipe.schedule(step)) for step in range(31)]
  np.testing.assert_allclose(rates, np.geomspace(1e-4, 0.1, 31), rtol=1e-5)
  assert exp.recipe.mix_until == np.inf
  assert exp.steps == 31
  assert config.mix.off_after_epoch == 1  # The caller's config stays.


def test_a_test_ends_when_the_loss_diverges():
  config = config_lib.load("cutmix", TINY)
  curve = lr_range.run(config, 1e-2, 1e9, 30)
  assert curve.diverged
  assert len(curve.losses) < 30


def test_the_command_writes_two_files_and_prints_a_flag(folder, capsys):
  command.main(["cutmix", *WORDS, "--min=0.001", "--max=10", "--steps=20"])
  assert {x.name for x in folder.iterdir()} == {"lr_range.png", "lr_range.csv"}
  lines = capsys.readouterr().out.splitlines()
  assert lines[-1] == "lr_range.png and lr_range.csv show it"
  assert lines[-2].startswith(("--config.optimizer.learning_rate=", "no sugge"))
  with (folder / "lr_range.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [int(row["step"]) for row in rows] == list(range(len(rows)))
  assert float(rows[0]["learning_rate"]) == 0.001
  with Image.open(folder / "lr_range.png") as picture:
    assert picture.width > 600
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
  # Its own files are replaced, others are not.
  for name in ("lr_range.png", "lr_range.csv"):
    (folder / name).write_text("mine\n")
    with pytest.raises(UserError, match=f"{name} exists and was not made by"):
      command.main(["cutmix", *WORDS])
    (folder / name).unlink()


def test_a_curve_that_ends_in_nan_is_drawn():
  losses = _falling(np.linspace(0, 1, 50), end=3.0)
  losses[40:] = np.nan
  curve = _curve(losses)
  assert len(curve.losses) == 41
  (axes,) = drawn.figure(curve, lr_curve.suggest(curve)).axes
  low, high = axes.get_ylim()
  assert low < 0.7 < 1.9 < high < 3
  without = dataclasses.replace(curve, losses=np.full(41, 2.0))
  assert drawn.figure(without, None).axes[0].get_ylim()[0] < 2


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--min=1", "--max=0.1"], "--min must be above 0 and below --max"),
    (["--min=0"], "--min must be above 0 and below --max, got 0 and 1"),
    (["--max=inf"], "--min must be above 0 and below --max"),
    (["--min=nan"], "--min must be above 0 and below --max"),
    (["--steps=9"], "--steps must be at least 10 and at most 10,000, got 9"),
    (["--steps=x"], "--steps: invalid int value"),
    (["--output=x.pdf"], "--output must end in .png"),
    (["--output=gone/x.png"], "gone/x.png: there is no folder gone"),
    (["--workdir=runs"], "there is no flag --workdir"),
    (["--config.batch_size=5"], "does not divide over"),
  ],
)
def test_a_mistake_is_refused(flags, said, folder):
  with pytest.raises(UserError, match=said):
    command.main(["cutmix", *flags])
  assert not list(folder.iterdir())
