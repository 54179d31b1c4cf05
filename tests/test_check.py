"""The regression check names what got worse, and repeats what wavers."""

import json

import pytest

from benchmarks import check, harness


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


@pytest.fixture
def count(tmp_path, monkeypatch):
  """Runs the check of made-up programs, beside the recorded ones."""
  record = tmp_path / "recorded.json"
  recorded = {
    "a step": {"compiler": "jaxlib 1", "flops": 2e6, "bytes_accessed": 1000.0},
    "elsewhere": {"compiler": "libtpu 1", "flops": 5.0},
  }
  content = {"machine": "that one", "ratios": {"a": 1}, "programs": recorded}
  record.write_text(json.dumps(content))
  monkeypatch.setattr(check, "RECORD", record)

  def of(*flags, **program):
    monkeypatch.setattr(check, "programs", lambda: {"a step": program})
    code = check.main(["--only=programs", *flags])
    return code, json.loads(record.read_text())

  return of


def test_a_figure_within_one_percent_of_its_record_passes(count, capsys):
  now = {"compiler": "jaxlib 1", "flops": 2.01e6, "bytes_accessed": 900.0}
  assert count(**now)[0] == 0
  out, err = capsys.readouterr()
  assert "| a step | flops | 2,000,000 | 2,010,000 |" in out
  assert not err


def test_a_figure_that_rose_by_more_is_named(count, capsys):
  now = {"compiler": "jaxlib 1", "flops": 2e6, "bytes_accessed": 1011.0}
  assert count(**now)[0] == 1
  err = capsys.readouterr().err
  assert err == ("a step: 1,011 bytes_accessed, more than 1% above 1,000\n")


def test_figures_of_another_compiler_are_printed_and_not_compared(
  count, capsys
):
  now = {"compiler": "jaxlib 2", "flops": 9e6, "bytes_accessed": 1000.0}
  assert count(**now)[0] == 0
  out = capsys.readouterr().out
  assert "| a step | flops | 2,000,000 | 9,000,000 |" in out
  assert "a step: recorded with jaxlib 1, so not compared" in out


def test_recording_programs_replaces_those_that_were_compiled(count, capsys):
  now = {"compiler": "jaxlib 2", "flops": 9e6, "bytes_accessed": 1.0}
  code, record = count("--record", **now)
  assert code == 0
  assert record["ratios"] == {"a": 1}
  assert record["machine"] == "that one"
  assert record["programs"]["a step"] == now
  assert record["programs"]["elsewhere"]["flops"] == 5
  assert "nan" not in capsys.readouterr().out


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


def test_a_machine_is_named_with_its_instruction_set():
  flags = "model name\t: X\nflags\t\t: fpu avx avx2{}\nbugs\t: y\n"
  widest = lambda more: harness.instruction_set(flags.format(more))
  assert widest("") == "avx2"
  assert widest(" avx512f") == "avx512f"
  assert widest(" avx512f amx_tile") == "amx"
  assert harness.instruction_set("model name\t: X\n") == ""


def test_a_figure_that_was_not_measured_leaves_its_cell_empty():
  assert harness.cell(2.5e9, 1e9, ".1f") == "2.5"
  assert harness.cell(None, 1, ".1f") == ""
  assert harness.cell(float("nan"), 1, ".1f") == ""


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
