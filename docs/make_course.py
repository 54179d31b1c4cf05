"""Writes docs/course.ipynb and docs/course.ko.ipynb from docs/course.py.

    python docs/make_course.py

Executes the course once, in a temporary folder, and keeps its outputs in both
notebooks: their code is the same. `--keep_outputs` takes the outputs of the
notebook that exists instead, after a change of the text.
"""

import argparse
import base64
import io
import pathlib
import re
import tempfile
from collections.abc import Iterator

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode, v4
from PIL import Image

DOCS = pathlib.Path(__file__).parent
SOURCE = DOCS / "course.py"
NOTEBOOKS = {"en": DOCS / "course.ipynb", "ko": DOCS / "course.ko.ipynb"}
_SECONDS = re.compile(r"; \d+ s(, about .* left)?$", re.MULTILINE)


def notebook(language: str) -> NotebookNode:
  """Returns the notebook in a language, `en` or `ko`, without outputs."""
  blocks = re.split(r"^# %%(.*)\n", SOURCE.read_text("utf-8"), flags=re.M)[1:]
  cells = []
  for number, (kind, body) in enumerate(
    zip(blocks[::2], blocks[1::2], strict=True)
  ):
    words = kind.split()
    if words[:1] != ["[markdown]"]:
      cell = v4.new_code_cell(body.strip(), metadata={"tags": words})
    elif language == (words[1:] or ["en"])[0]:
      text = re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)
      cell = v4.new_markdown_cell(text)
    else:
      continue
    cell.id = f"cell-{number}"  # The same each time.
    cells.append(cell)
  kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
  return v4.new_notebook(
    cells=cells,
    metadata={"kernelspec": kernel, "language_info": {"name": "python"}},
  )


def code_cells(book: NotebookNode) -> list[NotebookNode]:
  return [cell for cell in book.cells if cell.cell_type == "code"]


def same_code(one: NotebookNode, other: NotebookNode) -> bool:
  codes = [[cell.source for cell in code_cells(book)] for book in (one, other)]
  return codes[0] == codes[1]


def execute(book: NotebookNode, folder: str) -> None:
  """Executes a notebook in place, with `folder` as the current folder."""
  resources = {"metadata": {"path": folder}}
  NotebookClient(
    book, timeout=None, resources=resources, coalesce_streams=True
  ).execute()


def _kept(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
  """Yields outputs without progress bars and without times of this machine."""
  for output in outputs:
    if output.output_type == "stream":
      if output.name == "stdout":
        output.text = _SECONDS.sub("", output.text)
        yield output
    elif not any("widget" in kind for kind in output.data):
      if "image/png" in output.data:
        output.data["image/png"] = _small(output.data["image/png"])
      yield output


def _small(png: str) -> str:
  """Returns a picture in 256 colours, PNG in base64."""
  picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
  small = io.BytesIO()
  picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE)
  picture.save(small, "png", optimize=True)
  return base64.b64encode(small.getvalue()).decode()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--keep_outputs", action="store_true")
  books = {language: notebook(language) for language in NOTEBOOKS}
  if parser.parse_args().keep_outputs:
    done = nbformat.read(NOTEBOOKS["en"], as_version=4)
    if not same_code(done, books["en"]):
      parser.error("the code changed, so execute it: leave out --keep_outputs")
  else:
    done = notebook("en")
    with tempfile.TemporaryDirectory() as folder:
      execute(done, folder)
    for cell in code_cells(done):
      cell.outputs = list(_kept(cell.outputs))
  for language, book in books.items():
    for cell, executed in zip(code_cells(book), code_cells(done), strict=True):
      cell.outputs = executed.outputs
      cell.execution_count = executed.execution_count
    nbformat.validate(book)
    nbformat.write(book, NOTEBOOKS[language])


if __name__ == "__main__":
  main()
