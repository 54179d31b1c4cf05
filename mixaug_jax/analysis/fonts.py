"""Fonts of this machine that have the characters of a text."""

import functools
from collections.abc import Iterator

from matplotlib import font_manager

FIRST = "DejaVu Sans"  # matplotlib brings it along.


def families(text: str) -> list[str]:
  """Returns the names of fonts that have the characters of a text.

  `FIRST` comes first. A character that no font has is ignored.
  """
  left, found = _printed(text), [FIRST]
  for name, path in _fonts():
    if left & _characters(path):
      found.append(name)
      left -= _characters(path)
    if not left:
      break
  return list(dict.fromkeys(found))


def missing(text: str) -> str:
  """Returns the characters of a text that no font of this machine has."""
  left = _printed(text)
  for _, path in _fonts():
    if not left:
      break
    left -= _characters(path)
  return "".join(map(chr, sorted(left)))


def file(text: str) -> str:
  """Returns the path of the font that has most of the characters of a text."""
  wanted = _printed(text)
  best, most = "", -1
  for _, path in _fonts():
    count = len(wanted & _characters(path))
    if count > most:
      best, most = path, count
    if count == len(wanted):
      break
  return best


def _printed(text: str) -> set[int]:
  """The characters of a text that have a shape."""
  return {
    ord(c)
    for c in text
    if c.isprintable()
    and not c.isspace()
    and not "\ufe00" <= c <= "\ufe0f"  # They select a form of the one before.
  }


def _fonts() -> Iterator[tuple[str, str]]:
  """Yields the name and the path of each upright font, `FIRST` at first."""
  first = font_manager.findfont(FIRST)
  yield FIRST, first
  for font in font_manager.fontManager.ttflist:
    # Fonts of last resort have a box for every character.
    resort = font.name.replace(" ", "").lower().startswith((".", "lastresort"))
    if font.fname != first and font.style == "normal" and not resort:
      yield font.name, font.fname


@functools.cache
def _characters(path: str) -> frozenset[int]:
  """The characters of a font; none if matplotlib cannot draw it.

  It cannot draw fonts of bitmaps, as those of coloured emoji are.
  """
  try:
    return frozenset(font_manager.get_font(path).get_charmap())
  except (OSError, RuntimeError):
    return frozenset()
