"""Lists of image files and their classes, in CSV files, as a data source."""

import codecs
import csv
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from mixaug_jax import names
from mixaug_jax.data import class_names as class_wantedlib
from mixaug_jax.data import split_names, tree
from mixaug_jax.data.labelled_files import LabelledFiles
from mixaug_jax.errors import UserError

_SUFFIXES = (".csv", ".tsv")
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


@dataclasses.dataclass(frozen=True)
class _Row:
  """A row of a list. `line` is its last line in the file."""

  line: int
  path: str
  label: str
  split: str | None


class CsvSource(LabelledFiles):
  """The rows of a CSV file: the path of an image and its class.

  Paths are absolute, or relative to the folder of the file. docs/data.md
  describes the format.

  Args:
    file: the CSV file, for messages.
    rows: some of its rows.
    class_names: the classes that may occur; None takes those of the rows.

  Raises:
    UserError: a mistake in a row, or no file of the list exists.
  """

  @classmethod
  def splits(cls, directory: str | None) -> dict[str, "CsvSource"]:
    """Opens the lists of a folder, or one list.

    Returns:
      The splits whose lists are in the folder, such as train.csv. The list of
      one file is divided by its column `split`; without one it is `all`.

    Raises:
      UserError: no list, or a mistake in one.
    """
    if directory is None:
      raise UserError(
        "config.data.dir must name a CSV file, or the folder that contains "
        "train.csv"
      )
    path = names.local_path("config.data.dir", directory)
    if os.path.isdir(path):
      return cls._of_folder(path)
    if path.suffix.lower() not in _SUFFIXES:
      raise UserError(
        f"config.data.dir={_shown(path)} is neither a folder with train.csv "
        "nor a .csv or .tsv file"
      )
    rows = _read(path)
    if rows[0].split is None:
      return {"all": cls(path, rows)}
    by_name: dict[str, list[_Row]] = {}
    for row in rows:
      by_name.setdefault(row.split or "", []).append(row)
    roles = split_names.by_role(by_name, f"the column split of {_shown(path)}")
    if unknown := by_name.keys() - set(roles.values()):
      row = by_name[min(unknown)][0]
      raise _mistake(
        path,
        row.line,
        f"the split {row.split!r} is not train, validation, test",
      )
    return cls._open({role: (path, by_name[n]) for role, n in roles.items()})

  @classmethod
  def _of_folder(cls, folder: pathlib.Path) -> dict[str, "CsvSource"]:
    files = {file.stem: file for file in _lists(folder)}
    roles = split_names.by_role(files, _shown(folder))
    if "train" not in roles:
      found = ", ".join(_shown(pathlib.Path(f.name)) for f in files.values())
      raise UserError(
        f"{_shown(folder)} has no train.csv, but {found or 'no CSV file'}; to "
        "divide one list, set config.data.dir=FOLDER/LIST.csv"
      )
    lists, unlabelled = {}, {}
    for role, name in roles.items():
      file = files[name]
      rows = _read(file, optional_class=role != "train")
      if not rows[0].label:
        unlabelled[f"images of {_shown(file.name)} without a class"] = [
          names.printable(row.path) for row in rows
        ]
        continue
      for row in rows:
        usual = split_names.NAMES[role]
        if row.split is not None and row.split.lower() not in usual:
          raise _mistake(
            file,
            row.line,
            f"the split is {row.split!r} in the list of {role}; to divide one "
            f"list, set config.data.dir={_shown(file)}",
          )
      lists[role] = file, rows
    sources = cls._open(lists)
    sources["train"].left_out |= unlabelled
    if other := [f for name, f in files.items() if name not in roles.values()]:
      sources["train"].left_out["lists that are no split"] = [
        _shown(file.name) for file in other
      ]
    return sources

  @classmethod
  def _open(
    cls, lists: dict[str, tuple[pathlib.Path, Sequence[_Row]]]
  ) -> dict[str, "CsvSource"]:
    """Opens splits, all with the classes of the first one."""
    sources: dict[str, CsvSource] = {}
    known = None
    for role, (file, rows) in lists.items():
      sources[role] = cls(file, rows, known)
      known = sources[role].class_names
    return sources

  def __init__(
    self,
    file: pathlib.Path,
    rows: Sequence[_Row],
    class_names: tuple[str, ...] | None = None,
  ):
    if class_names is None:
      class_names = tuple(sorted({row.label for row in rows}))
    ids = {name: label for label, name in enumerate(class_names)}
    root = os.path.abspath(file.parent)
    kept: dict[str, _Row] = {}
    left_out: dict[str, list[str]] = {}
    for row in rows:
      if row.label not in ids:
        raise _mistake(
          file,
          row.line,
          f"the class {row.label} does not occur in train; all splits must have "
          "the classes of train",
        )
      path = os.path.normpath(os.path.join(root, row.path))
      first = kept.setdefault(path, row)
      if first.label != row.label:
        raise _mistake(
          file,
          row.line,
          f"{names.printable(row.path)} has the class {row.label}, but "
          f"{first.label} in line {first.line}; keep one of them",
        )
      if first is not row:
        place = f"{_shown(file.name)}:{row.line}"
        left_out.setdefault("rows that repeat a file", []).append(place)
    if not any(map(os.path.exists, kept)):
      first = names.printable(next(iter(kept)))
      raise UserError(
        f"none of the {len(kept):,} files that {_shown(file)} names exists, "
        f"the first is {first}; a path is relative to the folder of the CSV "
        "file and has a suffix, such as train/0.jpg"
      )
    base = tree.Tree(root)
    super().__init__(
      root,
      list(kept),
      [base.name(path) for path in kept],
      [ids[row.label] for row in kept.values()],
      class_names,
      left_out,
    )


def _lists(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the CSV files in a folder that are not hidden."""
  try:
    found = sorted(os.listdir(folder))
  except OSError as error:
    raise UserError(f"cannot read {_shown(folder)}: {error.strerror}") from None
  files = [folder / name for name in found if not name.startswith(".")]
  return [file for file in files if file.suffix.lower() in _SUFFIXES]


def _read(file: pathlib.Path, optional_class: bool = False) -> list[_Row]:
  """Reads a CSV file of at least one row.

  Args:
    file: its path.
    optional_class: accepts a list without classes; its labels are empty.

  Raises:
    UserError: the file cannot be read, or a row is wrong.
  """
  lines = list(_cells(file, _text(file)))
  header = lines[0][1] if lines and _is_header(lines[0][1]) else None
  if len(lines) == (header is not None):
    raise UserError(f"{_shown(file)} has no rows of path and class")
  if header:
    lines = lines[1:]
    columns = [_column(file, header, c) for c in (_PATH, _CLASS, _SPLIT)]
    width = len(header)
  else:
    width = len(lines[0][1])
    columns = [0, 1 if width > 1 else None, None]
    if width > 2 or not _is_image(lines[0][1][0]):
      raise _mistake(
        file,
        lines[0][0],
        "it is neither a header with the columns path and class nor a row of "
        "an image and its class",
      )
  path, label, split = columns
  if path is None or (label is None and not optional_class):
    missing = "path" if path is None else "class"
    raise UserError(
      f"{_shown(file)} has no column {missing}; name one of its columns so in "
      "the first line"
    )
  rows = []
  for line, cells in lines:
    if len(cells) > width:
      raise _mistake(
        file,
        line,
        f"{len(cells)} cells in place of {width}; put a text with a delimiter "
        "in quotes",
      )
    cells += [""] * (width - len(cells))
    try:
      rows.append(
        _Row(
          line,
          _path(cells[path]),
          "" if label is None else _class(cells[label]),
          None if split is None else cells[split],
        )
      )
    except ValueError as error:
      raise _mistake(file, line, str(error)) from None
  return rows


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
    raise ValueError("the class is empty; add it or remove the row")
  try:
    cell.encode()
  except UnicodeEncodeError:
    raise ValueError("the class is not UTF-8; save the list as UTF-8") from None
  return class_wantedlib.canonical(cell)


def _text(file: pathlib.Path) -> str:
  """Reads a text, in UTF-16 if it begins so, otherwise in UTF-8.

  Other bytes become surrogates, as in the names of files that are not UTF-8.
  """
  try:
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
      return content.decode("utf-16")
    return content.decode("utf-8-sig", "surrogateescape")
  except OSError as error:
    raise UserError(f"cannot read {_shown(file)}: {error.strerror}") from None
  except UnicodeDecodeError:
    raise UserError(f"{_shown(file)} is damaged; save it as UTF-8") from None


def _cells(file: pathlib.Path, text: str) -> Iterator[tuple[int, list[str]]]:
  """Yields the rows that are not blank, with the number of their last line.

  The delimiter is the one that makes the first row a header, or an image and
  its class.
  """
  rows = lambda delimiter: csv.reader(
    io.StringIO(text, newline=""),
    delimiter=delimiter,
    skipinitialspace=True,
    strict=True,
  )
  reader = None
  try:
    for delimiter in _DELIMITERS:
      first = next(filter(any, map(_stripped, rows(delimiter))), [])
      if _is_header(first) or (len(first) == 2 and _is_image(first[0])):
        break
    else:
      delimiter = ","
    reader = rows(delimiter)
    for row in reader:
      if cells := _stripped(row):
        yield reader.line_num, cells
  except csv.Error as error:
    line = reader.line_num if reader else 1
    raise _mistake(file, line, f"{error}; check the quotes") from None


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
      f"{_shown(file)} has the columns {both}, which mean the same; rename or "
      "remove one"
    )
  return found[0] if found else None


def _shown(path: str | os.PathLike) -> str:
  return names.printable(str(path))


def _mistake(file: pathlib.Path, line: int, what: str) -> UserError:
  return UserError(f"{_shown(file)} line {line}: {what}")
