"""Fills the template of a page: one file that loads nothing."""

import base64
import importlib.resources
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe

from mixaug_jax import durations
from mixaug_jax.errors import UserError, reason
from mixaug_jax.pages.words import number
from mixaug_jax.training import records


def write(path: pathlib.Path, template: str, **content: Any) -> None:
  """Writes a page; see `render` for the arguments.

  Bytes that are not UTF-8, which a path may hold, become escapes.

  Raises:
    UserError: the file cannot be written.
  """
  html = render(template, **content).encode("utf-8", "backslashreplace")
  try:
    records.write_text(path, html.decode())
  except OSError as error:
    raise UserError(
      f"cannot write {path}: {reason(error)}; repair that and repeat the "
      "command"
    ) from None


def render(template: str, **content: Any) -> str:
  """Returns a page with its content; text is escaped, `Markup` is not.

  Args:
    template: the text of a template, which may extend page.html and use the
      macros of parts.html. Each `<h2 id="...">` is an entry of the contents.
    **content: the names that the template uses.
  """
  folder = importlib.resources.files(__package__)
  environment = jinja2.Environment(
    loader=jinja2.DictLoader(
      {
        name: (folder / name).read_text("utf-8")
        for name in ("page.html", "parts.html")
      }
    ),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {
    "contents": _contents,
    "decimals": _decimals,
    "mean": _mean,
    "percent": _percent,
    "points": _points,
    "p_value": _p_value,
    "duration": _duration,
  }
  return environment.from_string(template).render(**content)


def embedded(
  png: bytes, description: str, width: int | None = None
) -> markupsafe.Markup:
  """Returns the content of a PNG file as an element of the page.

  Args:
    png: the content of the file.
    description: plain text for readers who cannot see it.
    width: pixels of the page; by default those of the file.
  """
  size = "" if width is None else markupsafe.Markup(' width="{}"').format(width)
  return markupsafe.Markup(
    '<img alt="{}"{} src="data:image/png;base64,{}">'
  ).format(description, size, base64.b64encode(png).decode())


def download(name: str, content: str) -> markupsafe.Markup:
  """Returns a link that saves a text, which the page holds, as a file."""
  data = base64.b64encode(content.encode()).decode()
  return markupsafe.Markup(
    '<a download="{0}" href="data:application/octet-stream;base64,{1}">{0}</a>'
  ).format(name, data)


def _contents(body: str) -> list[dict[str, markupsafe.Markup]]:
  """Returns the id and the title of each heading of a page."""
  headings = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', body, re.DOTALL)
  return [
    {"id": markupsafe.Markup(name), "title": markupsafe.Markup(title)}
    for name, title in headings
  ]


def _mean(interval: Mapping[str, Any] | None) -> float | None:
  return None if interval is None else interval["mean"]


def _decimals(number: float | None, places: int) -> str:
  return "—" if number is None else f"{number:,.{places}f}"


def _percent(interval: Mapping[str, Any] | float | None) -> str:
  """Formats a number as `81.2`, an interval as `81.2 (79.0 to 83.1)`."""
  if interval is None or (
    isinstance(interval, Mapping) and interval["mean"] is None
  ):
    return "—"
  if not isinstance(interval, Mapping):
    return number(100 * interval)
  return _spanned(interval)


def _points(interval: Mapping[str, Any] | None) -> str:
  """Formats a difference as `+8.1 (6.0 to 10.3)`."""
  return "—" if interval is None else _spanned(interval, "+")


def _spanned(interval: Mapping[str, Any], sign: str = "") -> str:
  text = number(100 * interval["mean"], sign)
  if interval["low"] is None:
    return text
  low, high = (number(100 * interval[end]) for end in ("low", "high"))
  return f"{text} ({low} to {high})"


def _p_value(p: float | None) -> str:
  if p is None:
    return "—"
  return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _duration(seconds: float | None) -> str:
  return "—" if seconds is None else durations.duration(seconds)
