"""Putting the arrays of a weight file into the variables of a model."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from mixaug_jax.errors import UserError
from mixaug_jax.weights import dialects, formats


@dataclasses.dataclass(frozen=True)
class LoadReport:
  """The names in a weight file that were loaded, and those that were not.

  Attributes:
    source: the weights, as the user names them.
    loaded: names in the file that went into the model.
    missing: names that the model expects and the file lacks, and batch norms
      whose convolution the file lacks; their variables keep their initial
      values.
    left_over: names in the file that were not used.
    new_head: why the head keeps its initial values, or None.
  """

  source: str
  loaded: tuple[str, ...]
  missing: tuple[str, ...]
  left_over: tuple[str, ...]
  new_head: str | None

  @property
  def unused(self) -> list[str]:
    """The names left over that are not among the missing.

    A batch norm without its convolution is both.
    """
    return [name for name in self.left_over if name not in self.missing]

  def __str__(self) -> str:
    parts = [f"{len(self.loaded)} arrays loaded from {self.source}"]
    if self.new_head:
      parts.append(f"new head: {self.new_head}")
    if self.missing:
      parts.append(f"left as initialised: {_some(self.missing)}")
    if self.unused:
      parts.append(f"not used: {_some(self.unused)}")
    return "; ".join(parts)


def load(
  path: pathlib.Path,
  dialect: dialects.Dialect,
  variables: Any,
  *,
  source: str,
  allow_partial: bool,
  new_head: str | None = None,
) -> tuple[Any, LoadReport]:
  """Loads a weight file into a model's variables.

  The head is loaded if its shape fits, and otherwise keeps its initial values.
  So does a batch norm whose convolution is not in the file: its statistics are
  those of that convolution, and after a random one they let activations
  explode.

  Args:
    path: the file.
    dialect: of the names in it.
    variables: `params` and `batch_stats`, as initialised.
    source: the weights, as the user names them; for the report.
    allow_partial: whether the file may lack arrays or hold others.
    new_head: as in `assign`.

  Returns:
    Variables of the same structure, as float32 numpy arrays, and a report.

  Raises:
    UserError: the file cannot be read or does not fit; it names every array
      that does not.
  """
  return assign(
    dialects.translate_aliases(dialect, formats.read(path)),
    dialects.entries(dialect, variables),
    variables,
    path=path,
    source=source,
    allow_partial=allow_partial,
    new_head=new_head,
  )


def assign(
  arrays: formats.Arrays,
  entries: dict[dialects.Path, dialects.Entry],
  variables: Any,
  *,
  path: pathlib.Path,
  source: str,
  allow_partial: bool,
  new_head: str | None = None,
) -> tuple[Any, LoadReport]:
  """Puts arrays into a model's variables, as `load` does.

  Args:
    arrays: by name.
    entries: the name of each variable and its order of axes.
    variables: as in `load`.
    path: where the arrays come from; for errors.
    source: as in `load`.
    allow_partial: as in `load`.
    new_head: why the head is not to be loaded, or None to judge by its shape.
  """
  flat = traverse_util.flatten_dict(variables)
  head = [key for key in flat if key[1] == dialects.HEAD]
  new_head = new_head or _new_head(entries, flat, head, arrays)
  if new_head:
    for key in head:
      arrays.pop(entries.pop(key).name, None)
  lacking = [
    key
    for key in entries
    if (kernel := dialects.normalised_kernel(key)) in entries
    and entries[kernel].name not in arrays
  ]
  missing = [entries.pop(key).name for key in lacking]
  values = {key: np.asarray(x, np.float32) for key, x in flat.items()}
  loaded, wrong, unusable = [], [], []
  for key, entry in sorted(entries.items(), key=lambda item: item[1].name):
    array = arrays.pop(entry.name, None)
    wanted = entry.export(values[key]).shape
    if array is None:
      missing.append(entry.name)
      lacking.append(key)
    elif array.shape != wanted:
      wrong.append(f"{entry.name} {array.shape} in place of {wanted}")
    elif (numbers := _finite(array)) is None:
      unusable.append(entry.name)
    else:
      values[key] = entry.load(numbers)
      loaded.append(entry.name)
  report = LoadReport(
    source,
    tuple(loaded),
    tuple(sorted(missing)),
    tuple(sorted(arrays)),
    new_head,
  )
  last_stage = _last_stage(set(flat) - set(head) - set(lacking), lacking)
  _check(path, report, wrong, unusable, allow_partial, last_stage)
  return traverse_util.unflatten_dict(values), report


def _check(
  path: pathlib.Path,
  report: LoadReport,
  wrong: list[str],
  unusable: list[str],
  allow_partial: bool,
  last_stage: str | None,
) -> None:
  """Raises one UserError for everything that does not fit."""
  faults = []
  if wrong:
    faults.append(f"of another shape: {_some(wrong)}")
  if unusable:
    faults.append(f"not finite numbers: {_some(unusable)}")
  if not (allow_partial and report.loaded):
    if report.missing:
      faults.append(f"missing: {_some(report.missing)}")
    if report.unused:
      faults.append(f"not used: {_some(report.unused)}")
  if not faults:
    return
  fix = "choose weights of config.model.name, or that model"
  if unusable and not wrong:
    fix = "write or fetch the file again"
  elif report.loaded and not wrong:
    fix = "set config.model.allow_partial=true to load the arrays that fit"
    if last_stage and not report.unused:
      fix = f"set config.model.last_stage={last_stage}, where the file ends"
  raise UserError(
    f"the weights {path} do not fit the model; {'; '.join(faults)}; {fix}"
  )


def _last_stage(
  held: Iterable[dialects.Path], lacking: Iterable[dialects.Path]
) -> str | None:
  """Returns the stage at which a file ends, or None if it lacks others."""
  there = max((key[1] for key in held if key[1] < "stem"), default="stem")
  gone = {key[1] for key in lacking}
  ends = gone and all(there < name < "stem" for name in gone)
  return there if ends else None


def _new_head(
  entries: Mapping[dialects.Path, dialects.Entry],
  flat: Mapping[dialects.Path, Any],
  head: Iterable[dialects.Path],
  arrays: Mapping[str, np.ndarray],
) -> str | None:
  """Returns why the head of the file cannot be loaded, or None if it can."""
  for key in head:
    array = arrays.get(entries[key].name)
    if array is None:
      return "the file has none"
    theirs, ours = array.shape, flat[key].shape
    if key[-1] == "bias" and theirs != ours and len(theirs) == 1:
      return f"the file's has {theirs[0]:,} classes"
  return None


def other_classes(
  holder: str, theirs: Sequence[str], ours: Sequence[str]
) -> str | None:
  """Returns why a head for classes is not for others, or None if it is.

  Args:
    holder: what has the head, such as `the run`.
    theirs: the classes of the head, by class id.
    ours: those of the data.
  """
  if len(theirs) != len(ours):
    return f"{holder} has {len(theirs):,} classes, the data {len(ours):,}"
  for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
    if one != other:
      return f"class {number} is {one!r} in {holder} and {other!r} in the data"
  return None


def _finite(array: np.ndarray) -> np.ndarray | None:
  """Returns the array as float32, or None if it holds other than numbers."""
  try:
    numbers = np.asarray(array, np.float32)
  except (TypeError, ValueError):  # Text, for example.
    return None
  return numbers if np.isfinite(numbers).all() else None


def _some(names: Iterable[str]) -> str:
  """Lists up to twelve names, or ten and the number of the others."""
  names = list(names)
  if len(names) <= 12:
    return ", ".join(names)
  return f"{', '.join(names[:10])} and {len(names) - 10} more"
