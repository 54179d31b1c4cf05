"""The flags that pack a data set, and what they do."""

import argparse
import os
from collections.abc import Callable

from mixaug_jax.command import flags
from mixaug_jax.errors import UserError

_NAMES = (
  *("source", "output", "cache_size", "resize", "bits"),
  *("shards", "workers", "on_error"),
)


def add(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `--pack`."""
  packing = parser.add_argument_group("flags of --pack")
  add = packing.add_argument
  add("--source", help="a folder of images, or a CSV file or folder of them")
  add("--output", type=flags.path, help="the folder of the packed data set")
  add(
    "--cache_size",
    type=_within(8, 4096),
    help="config.data.cache_size of the runs; default: 256",
  )
  add(
    "--resize",
    choices=("crop", "squash", "pad"),
    help="config.data.resize of the runs; default: crop",
  )
  add(
    "--bits",
    type=int,
    choices=(10, 12, 14, 16),
    help="config.data.bits of the runs; default: 16",
  )
  add("--shards", type=_within(1, 1024), help="of each split; default: by size")
  add("--workers", type=_within(1, 1024), help="processes; default: all CPUs")
  add(
    "--on_error",
    choices=("raise", "skip"),
    help="what to do with unreadable images; default: raise",
  )


def refuse(arguments: argparse.Namespace) -> None:
  """Raises UserError if a flag of `--pack` is given without it."""
  for name in _NAMES:
    if getattr(arguments, name) is not None:
      raise UserError(f"--{name} is a flag of --pack")


def run(arguments: argparse.Namespace) -> None:
  """Packs, and prints what was packed; raises UserError."""
  for name in ("source", "output"):
    if getattr(arguments, name) is None:
      raise UserError(f"--pack needs --{name}")
  if arguments.cache_dir is not None:
    raise UserError("--pack writes no cache; leave --cache_dir out")
  from mixaug_jax.data import decode, packing, selection

  cpus = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
  done = packing.pack(
    arguments.source,
    arguments.output,
    decode.Settings(
      arguments.cache_size or 256,
      arguments.resize or "crop",
      arguments.bits or 16,
    ),
    shards=arguments.shards,
    workers=arguments.workers or len(cpus(0)),
    skip_bad=arguments.on_error == "skip",
  )
  sizes = ", ".join(
    f"{n:,}" if split == "all" else f"{n:,} {split}"
    for split, n in done.examples.items()
  )
  print(
    f"packed {sizes} images into {done.shards:,} "
    f"shard{'s' * (done.shards != 1)}, {done.bytes / 2**20:,.1f} MiB, in "
    f"{arguments.output}"
  )
  for line in [*done.notes, *selection.describe(done.left_out)]:
    print(line)


def _within(least: int, most: int) -> Callable[[str], int]:
  """Returns the type of a flag that takes an integer in a range."""

  def convert(text: str) -> int:
    try:
      if least <= (number := int(text)) <= most:
        return number
    except ValueError:
      pass
    raise argparse.ArgumentTypeError(f"{text} is not {least:,} to {most:,}")

  return convert
