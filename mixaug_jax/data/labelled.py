"""Labelled images to score a trained run on, with its class ids."""

import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from mixaug_jax.data import (
  checked,
  datasets,
  decode,
  hf_source,
  packed,
  selection,
  split_names,
  splits,
)
from mixaug_jax.data.csv_source import has_train_list
from mixaug_jax.data.folder import Folder
from mixaug_jax.data.splits import Split
from mixaug_jax.errors import UserError


def load_split(
  config: ConfigDict, name: str, class_names: Sequence[str]
) -> tuple[str, Split, selection.LeftOut]:
  """Opens one split of a data set, or all of one that has no splits.

  Args:
    config: `config.data`.
    name: of the split.
    class_names: the classes of the run.

  Returns:
    The name of what was opened, the images, and what is left out.

  Raises:
    UserError: there is no such split, or a class that the run does not know.
  """
  sources = _sources(config, name)
  if "all" in sources:
    name = "all"
  if name not in sources:
    raise UserError(
      f"{config.dir} has no split {name}, but {', '.join(sources)}"
    )
  found = {name: {**sources[name].left_out}}
  kept, _ = selection.select(
    {name: sources[name]}, config.classes, class_names, found
  )
  refuse_unknown(name, found[name], class_names)
  if name not in kept:
    raise UserError(f"no image of {name} has a class of the run")
  reading = splits.read(
    kept[name],
    decode.settings(config),
    config.placement,
    cache_dir=config.cache_dir,
    skip_bad=config.on_error == "skip",
  )
  if reading.unreadable:
    found[name][datasets.UNREADABLE] = list(reading.unreadable)
  return name, reading.split, found[name]


def source_name(name: str, directory: str) -> str:
  """Returns the source that reads a directory to score a run on.

  Args:
    name: `config.data.name` of the run. A source of the user's own stays.
    directory: a folder of images, a packed one, a CSV file, or a folder with
      lists.
  """
  path = pathlib.Path(directory)
  if ":" in name and not name.startswith(("tfds:", hf_source.PREFIX)):
    return name
  if packed.is_packed(path):
    return "packed"
  if path.suffix.lower() in (".csv", ".tsv"):
    return "csv"
  if name == "csv" and any(path.glob("*.[ct]sv")):
    return "csv"
  # Lists and folders alike may have been packed.
  return "csv" if name == "packed" and has_train_list(path) else "folder"


def _sources(config: ConfigDict, name: str) -> dict[str, checked.Checked]:
  """Opens the data; a folder needs only the split that is scored."""
  if config.name == "folder":
    root = pathlib.Path(config.dir).expanduser()
    folders = [x.name for x in root.glob("*") if x.is_dir()]
    roles = split_names.by_role(folders, str(root))
    if name in roles and "train" not in roles:
      return checked.sources(
        {name: Folder(root / roles[name])}, for_training=False
      )
  return datasets.open_sources(config)


def refuse_unknown(
  split: str, found: selection.LeftOut, class_names: Sequence[str]
) -> None:
  """Raises UserError if a split has images of a class that a run lacks."""
  if unknown := found.get(selection.UNKNOWN_CLASSES):
    raise UserError(
      f"{len(unknown):,} images of {split} have a class that the run does not "
      f"know, the first is {unknown[0]}; the run knows "
      f"{', '.join(class_names[:5])}{', ...' * (len(class_names) > 5)}; rename "
      "or remove the others"
    )
