"""Reads lists of image files and their classes from CSV files."""

import codecs
import csv
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mixaug_jax import names
from mixaug_jax.data import class_names, regular_file, split_names, tree
from mixaug_jax.errors import UserError

_DELIMITERS = (",", "\t", ";")
# The usual names of the columns, without case, spaces, `_`, `-` and a plural s.
# A name of the first group that occurs is the column.
_Names = Sequence[set[str]]
_PATH: _Names = (
  {"path", "file", "filename", "filepath", "image", "img", "imagepath"}
  | {"imgpath", "imagefile", "imagename"},
  {"id", "imageid"},
)
_CLASS: _Names = (
  {"class", "classname", "label", "labelname", "category", "target"}
  | {"breed", "species"},
)
_SPLIT: _Names = ({"split", "subset", "partition", "dataset"},)

SETS_ADVICE = (
  ", or set config.data.label_separator if an image may have several labels or "
  "none"
)


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a list.

  Attributes:
    line: its last line in the file, from 1.
    path: the path of the image; not empty.
    label: the class; empty in a list without classes or with label sets.
    split: what the column `split` holds; None if there is no such column.
    labels: the label set, where `Labels` asks for one; None in a list without
      labels.
  """

  line: int
  path: str
  label: str
  split: str | None
  labels: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Labels:
  """How a row holds several labels, or none; with neither, it holds a class.

  Attributes:
    separator: stands between the labels in the cell of the class.
    columns: hold 0 or 1 each, and are named as the labels.
  """

  separator: str | None = None
  columns: tuple[str, ...] = ()

  @property
  def are_sets(self) -> bool:
    return self.separator is not None or bool(self.columns)


def read(
  file: pathlib.Path, optional_class: bool = False, how: Labels | None = None
) -> list[Row]:
  """Reads a CSV file of at least one row.

  Args:
    file: its path.
    optional_class: accepts a list without classes; its labels are empty.
    how: the labels of a row; None: a class.

  Raises:
    UserError: the file cannot be read, or a row is wrong.
  """
  how = how or Labels()
  text = _text(file)
  delimiter = _delimiter(text)
  quote = "put a text with a delimiter in quotes"
  if how.separator == delimiter:
    quote = (
      f"{delimiter!r} separates cells and, by config.data.label_separator, "
      "labels; put the labels of a cell in quotes, or separate them by another "
      "character"
    )
  lines = list(_cells(file, text, delimiter))
  header = lines[0][1] if lines and _is_header(lines[0][1]) else None
  if len(lines) == (header is not None):
    raise UserError(f"{shown(file)} has no rows of path and class")
  if header:
    lines = lines[1:]
    # A column of labels may be named as another column usually is.
    others = [
      "" if class_names.canonical(name) in how.columns else name
      for name in header
    ]
    columns = [
      None if how.columns and usual is _CLASS else _column(file, others, usual)
      for usual in (_PATH, _CLASS, _SPLIT)
    ]
    width = len(header)
    _refuse_another_split(file, header, columns, lines)
  else:
    # The first image may have no label.
    width = max(len(cells) for _, cells in lines[: None if how.are_sets else 1])
    columns = [0, 1 if width > 1 else None, None]
    if width > 2 or not _is_image(lines[0][1][0]):
      raise mistake(
        file,
        lines[0][0],
        "it is neither a header with the columns path and class nor a row of "
        "an image and its class" + f"; {quote}" * (how.separator == delimiter),
      )
  path, label, split = columns
  labelled = label is not None
  labels_of: Callable[[list[str]], tuple[str, ...]] | None = None
  if how.columns:
    places = _label_columns(file, header or (), how.columns, optional_class)
    labelled = bool(places)
    labels_of = lambda cells: _marked(cells, places)
  elif label is not None and (separator := how.separator) is not None:
    place = label
    labels_of = lambda cells: _label_set(cells[place], separator)
  if path is None or not (labelled or optional_class):
    missing = "path" if path is None else "class"
    marks = (
      ", or set config.data.label_columns in place of label_separator if a "
      "column holds 0 and 1 for each label"
    )
    raise UserError(
      f"{shown(file)} has no column {missing}; name one of its columns so in "
      "the first line"
      + marks
      * (missing == "class" and how.separator is not None)
    )
  rows = []
  for line, cells in lines:
    if len(cells) > width:
      raise mistake(
        file,
        line,
        f"{len(cells)} cells in place of {width}; {quote}",
      )
    cells += [""] * (width - len(cells))
    try:
      rows.append(
        Row(
          line,
          _path(cells[path]),
          "" if label is None or how.are_sets else _class(cells[label]),
          None if split is None else cells[split],
          labels_of(cells) if labels_of and labelled else None,
        )
      )
    except ValueError as error:
      raise mistake(file, line, str(error)) from None
  return rows


def _refuse_another_split(
  file: pathlib.Path,
  header: Sequence[str],
  columns: Sequence[int | None],
  lines: Sequence[tuple[int, Sequence[str]]],
) -> None:
  """Raises UserError if a column that is not read names splits."""
  usual = {name for some in split_names.NAMES.values() for name in some}
  for column in set(range(len(header))) - set(columns):
    cells = {row[column].lower() for _, row in lines if len(row) > column}
    if len(cells) > 1 and cells <= usual:
      raise UserError(
        f"{shown(file)} names splits in its column "
        f"{names.printable(header[column])!r}; name the column split"
      )


def _path(cell: str) -> str:
  """Returns the path in a cell; raises ValueError."""
  if not cell:
    raise ValueError("the path is empty; add it or remove the row")
  if "\0" in cell:
    raise ValueError("the path holds a zero byte; remove it")
  return str(names.local(cell))


def _class(cell: str) -> str:
  """Returns the class name in a cell; raises ValueError."""
  if not cell:
    raise ValueError(
      f"the class is empty; add it or remove the row{SETS_ADVICE}"
    )
  try:
    cell.encode()
  except UnicodeEncodeError:
    raise ValueError("the class is not UTF-8; save the list as UTF-8") from None
  return class_names.canonical(cell)


def _label_set(cell: str, separator: str) -> tuple[str, ...]:
  """Returns the labels in a cell, none of an empty one; raises ValueError."""
  if not cell:
    return ()
  parts = [part.strip() for part in cell.split(separator)]
  if separator == " ":
    parts = cell.split()
  if not all(parts):
    raise ValueError(
      f"a label is empty in {names.printable(cell)!r}; remove a {separator!r}"
    )
  labels = [_class(part) for part in parts]
  if twice := [x for x in labels if labels.count(x) > 1]:
    raise ValueError(f"the label {twice[0]} stands there twice; keep one")
  return tuple(labels)


def _label_columns(
  file: pathlib.Path,
  header: Sequence[str],
  wanted: Sequence[str],
  optional: bool,
) -> dict[str, int]:
  """Returns the columns of labels; none if `optional` and the list has none.

  Raises:
    UserError: the list lacks one of them, or has it twice.
  """
  known = [class_names.canonical(name) for name in header]
  if optional and not set(known) & set(wanted):
    return {}
  for name in wanted:
    if known.count(name) > 1:
      raise UserError(
        f"{shown(file)} has two columns {name}, which "
        "config.data.label_columns names; rename or remove one"
      )
    if name not in known:
      same = [x for x in known if x.casefold() == name.casefold()]
      raise UserError(
        f"{shown(file)} has no column {name}, which config.data.label_columns "
        f"names; its columns are {', '.join(known) or 'not named'}"
        + (f"; write {same[0]}" if same else "")
      )
  return {name: known.index(name) for name in wanted}


def _marked(cells: Sequence[str], places: dict[str, int]) -> tuple[str, ...]:
  """Returns the labels whose column holds 1; raises ValueError."""
  for name, place in places.items():
    if cells[place] not in ("0", "1"):
      raise ValueError(
        f"the column {name} holds {names.printable(cells[place])!r}; it must "
        "be 0 or 1"
      )
  return tuple(name for name, place in places.items() if cells[place] == "1")


def _text(file: pathlib.Path) -> str:
  """Reads a text, in UTF-16 if it begins so, otherwise in UTF-8.

  Other bytes become surrogates, as in the names of files that are not UTF-8.
  """
  try:
    content = regular_file.read(file)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
      return content.decode("utf-16")
    return content.decode("utf-8-sig", "surrogateescape")
  except OSError as error:
    raise UserError(f"cannot read {shown(file)}: {error.strerror}") from None
  except UnicodeDecodeError:
    raise UserError(f"{shown(file)} is damaged; save it as UTF-8") from None


def _reader(text: str, delimiter: str, strict: bool) -> Any:
  return csv.reader(
    io.StringIO(text, newline=""),
    delimiter=delimiter,
    skipinitialspace=True,
    strict=strict,
  )


def _delimiter(text: str) -> str:
  """Returns what makes the first row a header, or an image and its class."""
  for delimiter in _DELIMITERS:
    rows = _reader(text, delimiter, strict=False)
    first = next(filter(None, map(_stripped, rows)), [])
    if _is_header(first) or (len(first) == 2 and _is_image(first[0])):
      return delimiter
  return _DELIMITERS[0]


def _cells(
  file: pathlib.Path, text: str, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
  """Yields the rows that are not blank, with the number of their last line."""
  rows = _reader(text, delimiter, strict=True)
  try:
    for row in rows:
      if cells := _stripped(row):
        yield rows.line_num, cells
  except csv.Error as error:
    raise mistake(file, rows.line_num, f"{error}; check the quotes") from None


def _stripped(row: Sequence[str]) -> list[str]:
  """Returns cells without spaces around them and without empty last cells."""
  cells = [cell.strip() for cell in row]
  while cells and not cells[-1]:
    cells.pop()
  return cells


def _is_image(cell: str) -> bool:
  return cell.lower().endswith(tree.SUFFIXES)


def _is_header(cells: Sequence[str]) -> bool:
  return bool(_matches(cells, _PATH)) or (
    bool(_matches(cells, _CLASS)) and not any(map(_is_image, cells))
  )


def _matches(header: Sequence[str], wanted: _Names) -> list[int]:
  """Returns the columns whose name is in the first group that has one."""
  plain = [re.sub(r"[\s_-]", "", cell.lower()) for cell in header]
  for group in wanted:
    if found := [
      column
      for column, name in enumerate(plain)
      if name in group or name.removesuffix("s") in group
    ]:
      return found
  return []


def _column(
  file: pathlib.Path, header: Sequence[str], wanted: _Names
) -> int | None:
  """Returns the column with one of the names; raises UserError for two."""
  found = _matches(header, wanted)
  if len(found) > 1:
    both = " and ".join(names.printable(header[column]) for column in found)
    raise UserError(
      f"{shown(file)} has the columns {both}, which mean the same; rename or "
      "remove one"
    )
  return found[0] if found else None


def shown(path: str | os.PathLike) -> str:
  """Returns a path as messages show it."""
  return names.printable(str(path))


def mistake(file: pathlib.Path, line: int, what: str) -> UserError:
  """Returns the error about a line of a list."""
  return UserError(f"{shown(file)} line {line}: {what}")
