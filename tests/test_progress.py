"""Bars and lines on narrow terminals, on pipes and in notebooks."""

import contextlib
import io

import pytest

from mixaug_jax import progress


class _Terminal(io.StringIO):
  def isatty(self):
    return True


class _Notebook(io.StringIO):
  """A stream like that of a notebook."""


_Notebook.__module__ = "ipykernel.iostream"

LENGTHS = ["a long text that is 35 columns wide", "a shorter text", "short"]


@pytest.mark.parametrize(
  ("columns", "total", "shown"),
  [(80, 400, 0), (40, 400, 1), (40, 10**7, 1), (30, 10**7, 2)],
)
def test_the_bar_shows_the_longest_text_that_fits(
  monkeypatch, columns, total, shown
):
  monkeypatch.setenv("COLUMNS", str(columns))
  with contextlib.redirect_stderr(_Terminal()):
    bar = progress.Bar(total, lambda: LENGTHS)
    text = str(bar)
    bar.close()
  assert text.endswith(f"0/{total}  {LENGTHS[shown]}")
  assert len(text) < columns


@pytest.mark.parametrize(
  ("encoding", "blocks"), [("utf-8", True), ("ascii", False), ("cp949", False)]
)
def test_the_bar_is_made_of_letters_that_the_terminal_has(
  monkeypatch, encoding, blocks
):
  monkeypatch.setenv("COLUMNS", "40")
  raw = io.BytesIO()
  terminal = io.TextIOWrapper(raw, encoding)  # Errors are strict.
  terminal.isatty = lambda: True
  with (
    contextlib.redirect_stderr(terminal),
    progress.Bar(10, lambda: ["half"]) as bar,
  ):
    bar.update(5)
    bar.refresh()
  terminal.flush()
  assert ("\N{FULL BLOCK}" in raw.getvalue().decode(encoding)) == blocks


def test_a_long_line_is_broken_at_spaces_on_a_terminal_only(monkeypatch):
  monkeypatch.setenv("COLUMNS", "40")
  text = f"{'word ' * 20}\nshort\n{'x' * 50}"
  assert progress.folded(text, io.StringIO()) == text
  lines = progress.folded(text, _Terminal()).splitlines()
  assert lines[0] == "word word word word word word word word"
  assert lines[1] == "  word word word word word word word"
  assert lines[-2:] == ["short", "x" * 50]
  fields = ["step 40/400", "epoch  38.4", "accuracy  61.2 %", "loss 1.234"]
  assert progress.joined(fields, _Terminal()).splitlines() == [
    "step 40/400  epoch  38.4",
    "  accuracy  61.2 %  loss 1.234",
  ]


def test_a_note_replaces_the_bar_on_a_pipe(monkeypatch, capfd):
  now = [0.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  with progress.Bar(1000, note="decoded") as bar:
    for _ in range(10):
      now[0] += 8
      bar.update(100)
  assert capfd.readouterr().err.splitlines() == [
    "decoded 400 of 1,000",
    "decoded 800 of 1,000",
  ]


def test_a_notebook_has_a_bar_of_text_on_stdout(monkeypatch):
  notebook, errors = _Notebook(), io.StringIO()
  with (
    contextlib.redirect_stdout(notebook),
    contextlib.redirect_stderr(errors),
    progress.Bar(10, lambda: ["half"]) as bar,
  ):
    bar.update(5)
    bar.refresh()
    progress.write("a line")
  assert "5/10  half" in notebook.getvalue()
  assert "a line\n" in notebook.getvalue()
  assert errors.getvalue() == ""
