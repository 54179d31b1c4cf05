"""Lists of image files and their classes, in CSV files, as a data source."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mixaug_jax import names
from mixaug_jax.data import split_names, tree
from mixaug_jax.data.class_names import canonical
from mixaug_jax.data.csv_rows import Labels, Row, mistake, read, shown
from mixaug_jax.data.labelled_files import LabelledFiles
from mixaug_jax.errors import UserError

_SUFFIXES = (".csv", ".tsv")


class CsvSource(LabelledFiles):
  """The rows of a CSV file: the path of an image and its class.

  Paths are absolute, or relative to the folder of the file. docs/data.md
  describes the format.

  Args:
    file: the CSV file.
    class_names: the classes that may occur; None takes those of the rows.
    rows: some of its rows; None reads them all.
    how: the labels of a row; None: a class.

  Raises:
    UserError: a mistake in a row, or no file of the list exists.
  """

  @classmethod
  def splits(
    cls,
    directory: str | None,
    test: bool = True,
    label_separator: str | None = None,
    label_columns: str | None = None,
  ) -> dict[str, "CsvSource"]:
    """Opens the lists of a folder, or one list.

    Args:
      directory: the folder or the list.
      test: whether to read the split test.
      label_separator: as in `config.data`.
      label_columns: likewise.

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
    how = Labels(label_separator, _columns(label_columns))
    if os.path.isdir(path):
      return cls._of_folder(path, test, how)
    if path.suffix.lower() not in _SUFFIXES:
      raise UserError(
        f"config.data.dir={shown(path)} is neither a folder with train.csv "
        "nor a .csv or .tsv file"
      )
    rows = read(path, how=how)
    if rows[0].split is None:
      return {"all": cls(path, rows=rows, how=how)}
    by_name: dict[str, list[Row]] = {}
    for row in rows:
      by_name.setdefault(row.split or "", []).append(row)
    roles = split_names.by_role(by_name, f"the column split of {shown(path)}")
    if unknown := by_name.keys() - set(roles.values()):
      row = by_name[min(unknown)][0]
      raise mistake(
        path,
        row.line,
        f"the split {row.split!r} is not train, validation, test",
      )
    if not test:
      roles.pop("test", None)
    lists = {role: (path, by_name[n]) for role, n in roles.items()}
    return cls._open(lists, how)

  @classmethod
  def _of_folder(
    cls, folder: pathlib.Path, test: bool, how: Labels
  ) -> dict[str, "CsvSource"]:
    files = _lists(folder)
    stems = [file.stem for file in files]
    if twice := [file for file in files if stems.count(file.stem) > 1]:
      raise UserError(
        f"{shown(folder)} has {' and '.join(shown(f.name) for f in twice)}, "
        "which name the same list; remove one of them"
      )
    roles = split_names.by_role(stems, shown(folder))
    if "train" not in roles:
      found = ", ".join(shown(file.name) for file in files)
      raise UserError(
        f"{shown(folder)} has no train.csv, but {found or 'no CSV file'}; to "
        "divide one list, set config.data.dir=FOLDER/LIST.csv"
      )
    lists, unlabelled = {}, {}
    for role, name in roles.items():
      if role == "test" and not test:
        continue
      file = next(file for file in files if file.stem == name)
      rows = read(file, optional_class=role != "train", how=how)
      if not rows[0].label and rows[0].labels is None:
        unlabelled[f"images of {shown(file.name)} without a class"] = [
          names.printable(row.path) for row in rows
        ]
        continue
      for row in rows:
        usual = split_names.NAMES[role]
        if row.split is not None and row.split.lower() not in usual:
          raise mistake(
            file,
            row.line,
            f"the split is {row.split!r} in the list of {role}; to divide one "
            f"list, set config.data.dir={shown(file)}",
          )
      lists[role] = file, rows
    sources = cls._open(lists, how)
    sources["train"].left_out |= unlabelled
    if other := [f for f in files if f.stem not in roles.values()]:
      sources["train"].left_out["lists that are no split"] = [
        shown(file.name) for file in other
      ]
    return sources

  @classmethod
  def _open(
    cls, lists: Mapping[str, tuple[pathlib.Path, Sequence[Row]]], how: Labels
  ) -> dict[str, "CsvSource"]:
    """Opens splits, all with the classes of the first one."""
    sources: dict[str, CsvSource] = {}
    known = None
    for role, (file, rows) in lists.items():
      sources[role] = cls(file, known, rows, how)
      known = sources[role].class_names
    return sources

  def __init__(
    self,
    file: pathlib.Path,
    class_names: tuple[str, ...] | None = None,
    rows: Sequence[Row] | None = None,
    how: Labels | None = None,
  ):
    how = how or Labels()
    if rows is None:
      rows = read(file, how=how)
    if class_names is None:
      found = {label for row in rows for label in _of(row)}
      class_names = tuple(sorted(found | set(how.columns)))
    if not class_names:
      raise UserError(f"no row of {shown(file)} has a label")
    ids = {name: label for label, name in enumerate(class_names)}
    root = os.path.abspath(file.parent)
    kept: dict[str, Row] = {}
    left_out: dict[str, list[str]] = {}
    for row in rows:
      for label in _of(row):
        if label not in ids:
          raise mistake(
            file,
            row.line,
            f"train does not have the class {label}; all splits must have "
            "the classes of train",
          )
      path = os.path.normpath(os.path.join(root, row.path))
      first = kept.setdefault(path, row)
      if set(_of(first)) != set(_of(row)):
        raise mistake(file, row.line, _differ(first, row))
      if first is not row:
        place = f"{shown(file.name)}:{row.line}"
        left_out.setdefault("rows that repeat a file", []).append(place)
    if not any(map(os.path.exists, kept)):
      missing = names.printable(next(iter(kept)))
      raise UserError(
        f"none of the {len(kept):,} files that {shown(file)} names exists, "
        f"the first is {missing}; a path is relative to the folder of the CSV "
        "file and has a suffix, such as train/0.jpg"
      )
    base = tree.Tree(root)
    super().__init__(
      root,
      list(kept),
      [
        base.name(path if os.path.isabs(r.path) else os.path.normpath(r.path))
        for path, r in kept.items()
      ],
      _labels(list(kept.values()), ids, how),
      class_names,
      left_out,
    )


def _columns(text: str | None) -> tuple[str, ...]:
  """Splits `config.data.label_columns`; raises UserError for a wrong name."""
  if text is None:
    return ()
  columns = [canonical(name.strip()) for name in text.split(",")]
  if not all(columns) or len(set(columns)) < len(columns):
    raise UserError(
      "config.data.label_columns must be different names of columns, such as "
      f"cat,dog, got {names.printable(text)!r}"
    )
  return tuple(columns)


def _of(row: Row) -> tuple[str, ...]:
  """Returns the class of a row, or its label set."""
  return (row.label,) if row.labels is None else row.labels


def _differ(first: Row, row: Row) -> str:
  """Returns the sentence about two rows of a file with other labels."""
  path = names.printable(row.path)
  if row.labels is None:
    return (
      f"{path} has the class {row.label}, but {first.label} in line "
      f"{first.line}; keep one of them"
    )
  ours, theirs = (", ".join(_of(x)) or "no label" for x in (row, first))
  return (
    f"{path} has {ours}, but {theirs} in line {first.line}; put all labels of "
    "an image into one row"
  )


def _labels(
  rows: Sequence[Row], ids: Mapping[str, int], how: Labels
) -> np.ndarray:
  """Returns class ids int32 `[N]`, or label sets uint8 `[N, C]`."""
  if not how.are_sets:
    return np.array([ids[row.label] for row in rows], np.int32)
  labels = np.zeros((len(rows), len(ids)), np.uint8)
  for number, row in enumerate(rows):
    labels[number, [ids[label] for label in _of(row)]] = 1
  return labels


def has_train_list(folder: pathlib.Path) -> bool:
  """Returns whether a folder has the list of train that `splits` would read."""
  if not os.path.isdir(folder):
    return False
  usual = split_names.NAMES["train"]
  return any(file.stem.lower() in usual for file in _lists(folder))


def _lists(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the CSV files in a folder that are not hidden."""
  try:
    found = sorted(os.listdir(folder))
  except OSError as error:
    raise UserError(f"cannot read {shown(folder)}: {error.strerror}") from None
  files = [folder / name for name in found if not name.startswith(".")]
  return [file for file in files if file.suffix.lower() in _SUFFIXES]
