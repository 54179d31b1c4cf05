"""What a comparison does when its cells end: the others go on, or do not."""

import dataclasses
import pathlib

import pytest

from mixaug_jax.comparison import arms, launch, plan
from mixaug_jax.comparison.executors import Executor, local
from mixaug_jax.errors import UserError

_CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "compare.py"
_NO_MEMORY = "mixaug_jax: there is not enough memory; lower batch_size"
_FULL = "there is no space left on the disk; make room"


def _plan(workdir, **overrides):
  overrides = {key.replace("__", "."): x for key, x in overrides.items()}
  values = {"tune.trials": "0", "seeds": "2"} | overrides
  return plan.make(arms.load(str(_CONFIG), values), workdir, ["cutmix"])


@dataclasses.dataclass
class _Ended(Executor):
  """Ends cells with exit codes and last lines, by name; others with 1."""

  ends: dict

  def __post_init__(self):
    self.ended = []

  def at_once(self, count):
    return 1

  def train(self, workdir, cells, command, watcher):
    for cell in cells:
      code, printed = self.ends.get(cell.name, (1, "an error"))
      cell.log.parent.mkdir(parents=True, exist_ok=True)
      if printed is not None:
        cell.log.write_text(f"step 1\n{printed}\n")
      watcher.started(cell)
      self.ended.append(cell.name)
      watcher.ended(cell, code)

  def stop(self):
    self.over = True


def _run(comparison, cells, **ends):
  executor = _Ended({key.replace("__", "/"): x for key, x in ends.items()})
  failed = launch.run(comparison, cells, [], executor)
  assert failed == [x for x in cells if x.name in executor.ended]
  assert not executor.over
  return executor.ended


def test_a_run_that_never_started_failed_and_the_others_go_on(tmp_path, capsys):
  comparison = _plan(tmp_path)
  names = _run(comparison, comparison.cells, baseline__0=(137, None))
  assert names == ["baseline/0", "cutmix/0", "baseline/1", "cutmix/1"]
  printed = capsys.readouterr().out
  assert "baseline/0: failed with 137: it printed nothing (" in printed
  assert "cutmix/1: failed with 1: an error (" in printed


def test_a_mistake_in_the_config_of_all_arms_ends_the_comparison(tmp_path):
  comparison = _plan(tmp_path)
  with pytest.raises(UserError, match="not enough memory"):
    _run(comparison, comparison.cells, baseline__0=(2, _NO_MEMORY))


@pytest.mark.parametrize("file", ["result.json", "diverged.json"])
def test_a_failure_of_a_config_that_can_run_is_that_of_one_run(
  file, tmp_path, capsys
):
  comparison = _plan(tmp_path)
  comparison.cells[0].workdir.mkdir(parents=True)
  (comparison.cells[0].workdir / file).write_text('{"step": 3}')
  names = _run(comparison, comparison.cells, baseline__1=(2, _NO_MEMORY))
  assert names == ["cutmix/0", "baseline/1", "cutmix/1"]
  assert "baseline/1: failed with 2: there is not" in capsys.readouterr().out


def test_a_trial_of_wrong_values_does_not_end_the_comparison(tmp_path):
  comparison = _plan(tmp_path, tune__trials="4")
  trials = comparison.trials
  assert not trials[0].trial.values  # The recipe as it is written.
  wrong = (2, _NO_MEMORY)
  assert len(_run(comparison, trials, baseline__trial_01=wrong)) == len(trials)
  with pytest.raises(UserError, match="memory"):
    _run(comparison, trials, baseline__trial_00=wrong)


def test_a_full_disk_ends_the_comparison(tmp_path):
  comparison = _plan(tmp_path)
  with pytest.raises(UserError, match="no space left"):
    _run(comparison, comparison.cells, cutmix__0=(2, _FULL))


def test_a_comparison_ends_while_an_earlier_run_is_still_running(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(local, "places", lambda jobs: [{}, {}])
  program = (
    "import select, sys\n"
    "if '--only=cutmix/0' not in sys.argv:\n"
    "  select.select([sys.stdin], [], [], 30)"  # Until it is stopped.
  )
  comparison = _plan(tmp_path)
  ended = []

  class _Seen:
    def started(self, cell):
      pass

    def ended(self, cell, code):
      ended.append(cell.name)
      raise UserError("no further run can succeed")

  executor = local.Local()
  with pytest.raises(UserError, match="no further run"):
    executor.train(tmp_path, comparison.cells[:2], ["-c", program], _Seen())
  assert ended == ["cutmix/0"]
  executor.stop()
  assert ended == ["cutmix/0", "baseline/0"]
