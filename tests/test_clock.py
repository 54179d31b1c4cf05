"""Seconds of training leave pauses out, and the bar shows what they give."""

import contextlib
import io

import pytest

from mixaug_jax import progress
from mixaug_jax.training import clock as clock_lib
from mixaug_jax.training.bar import TrainingBar


class _Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def now(monkeypatch):
  """The time, in a list of one."""
  now = [0.0]
  monkeypatch.setattr(clock_lib.time, "monotonic", lambda: now[0])
  return now


def _trained(now):
  """A clock of ten steps in ten seconds, one compilation and two pauses."""
  clock = clock_lib.Clock(seconds=100.0, compile_seconds=7.0)
  with clock.evaluating(10):  # One that a resumed run makes up for.
    now[0] += 50
  with clock.compiling():
    now[0] += 1000
  clock.tick()
  now[0] += 4
  with clock.pause("saving"):  # The first one makes folders.
    now[0] += 300
  with clock.pause("saving"):
    now[0] += 200
  now[0] += 6
  for _ in range(10):
    clock.tick()
  return clock


def test_compilation_and_pauses_are_left_out(now):
  clock = _trained(now)
  assert clock.seconds == 110
  assert clock.compile_seconds == 1007
  assert clock.rate() == 1
  # The second pause comes again for as many steps, and a batch takes 5 s.
  assert clock.time_left(89, 7) == 89 * (10 + 200) / 10 + 7 * 5
  assert clock.evaluation_seconds == 50


def test_a_pause_that_ends_in_an_exception_is_left_out_too(now):
  def fail():
    now[0] += 5
    raise OSError

  clock = clock_lib.Clock()
  with clock.compiling():
    pass
  for pause in (clock.pause("saving"), clock.evaluating(3)):
    with pytest.raises(OSError), pause:  # noqa: PT011
      fail()
  assert not clock.knows_evaluation
  now[0] += 2
  assert clock.seconds == 2


def test_there_is_no_rate_before_a_step_that_did_not_compile(now):
  clock = clock_lib.Clock()
  assert clock.rate() is None
  with clock.compiling():
    now[0] += 9
  clock.tick()
  now[0] += 1
  assert clock.rate() is None
  assert clock.time_left(3, 4) is None
  assert clock.seconds == 1


def test_the_bar_shows_the_rate_and_the_time_left_of_the_clock(
  now, monkeypatch
):
  monkeypatch.setenv("COLUMNS", "100")
  terminal = _Terminal()
  shown = lambda: terminal.getvalue().rpartition("\r")[2]
  with (
    contextlib.redirect_stderr(terminal),
    TrainingBar(100, 1, 10, _trained(now), lambda step: 100 - step) as bar,
  ):
    bar.update(10)
    bar.refresh()
    assert "11/100  10 images/s  39 min left" in shown()
    with bar.phase("evaluating"):
      assert "11/100  evaluating ..." in shown()
    progress.write("[11] loss=0.5")
    # The line goes above, and the bar is drawn again below it.
    above, below = terminal.getvalue().rsplit("[11] loss=0.5\n", 1)
    assert above.endswith("\r")
    assert "images/s" in below
  assert shown() == ""


def test_the_bar_of_a_run_that_may_stop_early_shows_a_bound(now, monkeypatch):
  monkeypatch.setenv("COLUMNS", "80")
  with contextlib.redirect_stderr(_Terminal()):
    bar = TrainingBar(
      *(100, 11, 10, _trained(now), lambda step: 100 - step), may_stop=True
    )
    assert str(bar).endswith("10 images/s  at most 39 min left")
    bar.close()


def test_there_is_no_bar_on_a_pipe(now, capfd):
  bar = TrainingBar(100, 0, 10, _trained(now), lambda step: 0)
  with bar, bar.phase("saving"):
    bar.update(100)
  assert capfd.readouterr() == ("", "")


def test_compilation_does_not_count_as_evaluation(now):
  clock = clock_lib.Clock(evaluation_seconds=7.0)
  with clock.compiling():
    pass
  for _ in range(2):
    clock.tick()
  now[0] += 1
  with clock.evaluating(10), clock.compiling_evaluation():
    now[0] += 1000
  with clock.evaluating(10):
    now[0] += 10
  assert clock.time_left(0, 100) == pytest.approx(50)
  assert clock.evaluation_seconds == 17
  assert clock.seconds == 1


def test_the_bar_reports_that_evaluation_is_not_timed_yet(now, monkeypatch):
  clock = clock_lib.Clock()
  with clock.compiling():
    pass
  clock.tick()
  clock.tick()
  now[0] += 10
  terminal = _Terminal()
  for columns, text in (
    (80, "1 images/s  2 min + evaluation left"),
    (40, "10/20  2 min + evaluation left"),
    (35, "10/20  2 min + evaluation"),
  ):
    monkeypatch.setenv("COLUMNS", str(columns))
    with contextlib.redirect_stderr(terminal):
      bar = TrainingBar(20, 10, 10, clock, lambda step: 5)
      shown = str(bar)
      bar.close()
      assert shown.endswith(text)
      assert len(shown) < columns
