"""The notebooks of the course: in step with their source, and they run."""

import json
import pathlib

import nbformat
import pytest

from docs import make_course

ROOT = pathlib.Path(__file__).parent.parent

# In place of the cell tagged `parameters`: few steps and few runs.
QUICK = """
DATA, PHOTOS, JOBS, ARMS, SEEDS = "digits", None, 2, ["mixup"], 1
CHANGES = {"steps": 6, "evaluate.every_epochs": 2.0, "log.every_steps": 1}
"""


def _stored(language):
  return nbformat.read(make_course.NOTEBOOKS[language], as_version=4)


@pytest.mark.parametrize("language", make_course.NOTEBOOKS)
def test_a_notebook_is_what_the_source_makes(language):
  stored, made = _stored(language), make_course.notebook(language)
  nbformat.validate(stored)
  assert [(x.id, x.source) for x in stored.cells] == [
    (x.id, x.source) for x in made.cells
  ], "run: python docs/make_course.py --keep_outputs"


def test_both_languages_have_the_same_code_and_as_much_text():
  english, korean = _stored("en"), _stored("ko")
  assert make_course.code_cells(english) == make_course.code_cells(korean)
  assert [x.cell_type for x in english.cells] == [
    x.cell_type for x in korean.cells
  ]


def test_the_outputs_are_those_of_one_execution_and_of_no_machine():
  cells = make_course.code_cells(_stored("en"))
  assert [x.execution_count for x in cells] == [*range(1, len(cells) + 1)]
  outputs = [output for cell in cells for output in cell.outputs]
  assert not [x for x in outputs if x.output_type == "error"]
  pictures = [x for x in outputs if "image/png" in x.get("data", {})]
  assert len(pictures) > 15
  shown = json.dumps(outputs)
  for warning in ("Waiting for previous save", "has no effect"):
    assert warning not in shown, warning
  text = json.dumps(
    [x.get("text", x.get("data", {}).get("text/plain")) for x in outputs]
  )
  for private in ("/home", "/tmp", "/work", "/root", " s\\n", " s, about "):
    assert private not in text, private
  for path in make_course.NOTEBOOKS.values():
    assert path.stat().st_size < 1.5e6


def test_the_course_runs(tmp_path, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
  book = make_course.notebook("en")
  cells = make_course.code_cells(book)
  (cell,) = (x for x in cells if "parameters" in x.metadata.tags)
  cell.source = QUICK
  make_course.execute(book, str(tmp_path))
  course = tmp_path / "runs" / "course" / "digits"
  assert (course / "comparison" / "report.html").stat().st_size > 10_000
  assert len(list(course.glob("*/result.json"))) == 5
  one, compared = (
    json.loads((course / part / "config.json").read_text())["mix"]
    for part in ("mixup", "comparison/mixup/seed_0")
  )
  assert one == compared
