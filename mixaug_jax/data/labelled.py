"""Labelled images to score a trained run on, with its class ids."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from mixaug_jax.data import datasets, decode, selection, splits
from mixaug_jax.data.sources import left_out
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
  sources = datasets.open_sources(config)
  if "all" in sources:
    name = "all"
  if name not in sources:
    raise UserError(
      f"{config.dir} has no split {name}, but {', '.join(sources)}"
    )
  found = {name: {**left_out(sources[name])}}
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
