"""Settings of the site, which Sphinx builds from this folder.

python -m sphinx -W --keep-going -b html docs build/site
"""

import contextlib
import importlib
import io
import os
import pathlib
import re
import sys
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import mixaug_jax
from mixaug_jax.command.invocation import COMMANDS

os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "mixaug_jax"
author = "The mixaug_jax authors"
release = mixaug_jax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["sphinx.ext.viewcode"]

nb_execution_mode = "off"  # The notebooks are stored with their outputs.
myst_heading_anchors = 3
# Docstrings quote names and code by single backticks.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"
napoleon_use_ivar = True
napoleon_attr_annotations = False

html_theme = "furo"
html_title = f"mixaug_jax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False

# The pages that include a file of the root folder, by its name.
INCLUDED = re.compile(r"^```\{include\} \.\./(\S+)", re.M)
PAGES = {
  match[1]: page.name
  for page in pathlib.Path(__file__).parent.glob("*.md")
  if (match := INCLUDED.search(page.read_text("utf-8")))
}


def lead_to_pages(_: Sphinx, *where_and_text: object) -> None:
  """Redirects links to files of the root folder to the pages of the site."""
  text = where_and_text[-1]
  for file, page in PAGES.items():
    for link in (f"](../{file}", f"]({file}"):
      text[0] = text[0].replace(link, f"]({page}")


def code_blocks(*name_and_lines: object) -> None:
  """Marks code in a docstring, which is indented by four spaces, as code."""
  lines = name_and_lines[-1]
  for n in range(len(lines) - 1, 1, -1):
    starts = lines[n].startswith("    ") and not lines[n - 1]
    if starts and lines[n - 2][:1].strip():
      lines[n - 1 : n - 1] = ["", "::"]


class Commands(SphinxDirective):
  """A section for each command, with the text that `--help` prints."""

  def run(self) -> list[nodes.Node]:
    sections = []
    for name in COMMANDS:
      title = f"mixaug {name}"
      section = nodes.section(ids=[nodes.make_id(title)])
      text = _help(name)
      section += [nodes.title("", title), nodes.literal_block(text, text)]
      section[-1]["language"] = "none"
      sections.append(section)
    return sections


def _help(name: str) -> str:
  module = importlib.import_module(f"mixaug_jax.command.{name}")
  text = io.StringIO()
  with (
    mock.patch.object(sys, "argv", ["mixaug"]),
    mock.patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"),
    contextlib.redirect_stdout(text),
    contextlib.suppress(SystemExit),
  ):
    module.main(["--help"])
  return text.getvalue()


def setup(app: Sphinx) -> None:
  app.add_directive("commands", Commands)
  app.connect("source-read", lead_to_pages)
  app.connect("include-read", lead_to_pages)
  app.connect("autodoc-process-docstring", code_blocks, priority=400)
