"""The pages: links as on GitHub, the reference, the examples of docstrings.

`.ci/run` builds the site with warnings as errors, which checks the links there.
"""

import doctest
import importlib
import pathlib
import re

import pytest

import mixaug_jax
from mixaug_jax import augment

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
PACKAGE = ROOT / "mixaug_jax"
WITH_EXAMPLES = sorted(
  path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text("utf-8")
)


def _anchors(page: pathlib.Path) -> set[str]:
  """The anchors that GitHub gives to the headings of a page."""
  text = FENCED.sub("", page.read_text("utf-8"))
  titles = re.findall(r"^#+ (.*)$", text, re.M)
  letters = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
  return {title.replace(" ", "-") for title in letters}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
  text = FENCED.sub("", page.read_text("utf-8"))
  for link in re.findall(r"\]\(([^)\s]+)\)", text):
    if link.startswith("https://"):
      continue
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.is_file(), link
    assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_have_a_description(page):
  assert "![](" not in page.read_text("utf-8")


def test_every_page_is_in_the_contents_of_the_site():
  contents = (ROOT / "docs" / "index.md").read_text("utf-8")
  pages = {
    path.relative_to(ROOT / "docs").with_suffix("").as_posix()
    for path in ROOT.glob("docs/**/*")
    if path.suffix in (".md", ".rst", ".ipynb")
  }
  listed = set(re.findall(r"^[\w./]+$", contents, re.M))
  assert pages - {"index"} == listed


@pytest.mark.parametrize(
  ("page", "package"), [("python", mixaug_jax), ("augment", augment)]
)
def test_the_reference_holds_every_public_name(page, package):
  text = (ROOT / "docs" / "api" / f"{page}.rst").read_text("utf-8")
  kinds = r"auto(?:function|class|exception)|py:data"
  named = re.findall(rf"^\.\. (?:{kinds}):: (\w+)$", text, re.M)
  # A package, such as `mixaug_jax.augment`, has a page of its own.
  names = {
    name
    for name in package.__all__
    if not hasattr(getattr(package, name), "__path__")
  }
  assert not names - set(named)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_docstrings(path):
  name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
  result = doctest.testmod(importlib.import_module(name))
  assert result.attempted
  assert not result.failed
