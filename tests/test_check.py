"""The regression check names what fell, and measures what wavers again."""

import json

import pytest

from benchmarks import check


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs the check with made-up ratios, given for each time it measures."""
  record = tmp_path / "recorded.json"
  ratios = {"a step": 1.2, "a start": 2.0}
  record.write_text(json.dumps({"machine": "that one", "ratios": ratios}))
  monkeypatch.setattr(check, "RECORD", record)

  def of(*flags, step, start=(2.0,)):
    left = {"a step": list(step), "a start": list(start)}
    measurements = {
      "step": lambda _: {"a step": left["a step"].pop(0)},
      "start": lambda _: {"a start": left["a start"].pop(0)},
    }
    monkeypatch.setattr(check, "MEASUREMENTS", measurements)
    code = check.main(["--only=step,start", *flags])
    assert not any(left.values())
    return code, json.loads(record.read_text())["ratios"]

  return of


def test_a_ratio_near_its_record_passes(run, capsys):
  assert run(step=[1.03])[0] == 0
  assert "| a step | 1.20 | 1.03 |" in capsys.readouterr().out


def test_a_ratio_that_fell_three_times_is_named_at_its_best(run, capsys):
  assert run(step=[0.9, 1.01, 0.8])[0] == 1
  err = capsys.readouterr().err
  assert "a step: 1.01" in err
  assert "a start" not in err


def test_a_busy_moment_is_forgiven(run, capsys):
  assert run(step=[0.5, 0.6, 1.1])[0] == 0
  assert not capsys.readouterr().err


def test_recording_keeps_the_lowest_and_replaces_nothing_else(run):
  recorded = {"a step": 0.5, "a start": 3.0}
  three = {"step": [0.7, 0.5, 0.6], "start": [3.0, 3.1, 3.2]}
  assert run("--record", **three) == (0, recorded)
  assert run("--only=step", step=[0.45], start=[]) == (0, recorded)


def test_recording_prints_the_earlier_record_beside_the_new_one(run, capsys):
  run("--record", step=[0.7, 0.5, 0.6], start=[3.0, 3.1, 3.2])
  assert "| a step | 1.20 | 0.50 |" in capsys.readouterr().out


def test_the_first_record_leaves_the_column_of_the_earlier_one_empty(
  run, capsys
):
  check.RECORD.unlink()
  run("--record", "--only=step", step=[0.7, 0.5, 0.6], start=[])
  assert "| a step | | 0.50 |" in capsys.readouterr().out


def test_a_ratio_is_the_median_of_the_rounds_ratios():
  assert check.ratio([1.0, 10.0, 3.0], [1.0, 5.0, 1.0]) == 2.0


def test_an_unknown_measurement_is_refused_with_the_known_ones(run, capsys):
  with pytest.raises(SystemExit):
    run("--only=steps", step=[], start=[])
  assert "step, start" in capsys.readouterr().err


def test_without_a_record_the_error_names_the_flag_that_writes_it(
  monkeypatch, tmp_path, capsys
):
  monkeypatch.setattr(check, "RECORD", tmp_path / "recorded.json")
  with pytest.raises(SystemExit):
    check.main([])
  assert "--record writes it" in capsys.readouterr().err
