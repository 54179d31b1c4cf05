"""The command that packs data sets, and lists or removes caches of images."""

from collections.abc import Sequence

from mixaug_jax.command import flags, packing_flags


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "data", "Packs images into shards; lists or removes caches of images."
  )
  action = parser.add_mutually_exclusive_group(required=True)
  action.add_argument("--info", action="store_true", help="list the caches")
  action.add_argument("--clear", action="store_true", help="remove all caches")
  action.add_argument(
    "--pack",
    action="store_true",
    help="write shards for config.data.name=packed",
  )
  parser.add_argument(
    "--cache_dir", type=flags.path, help="default: the user's cache directory"
  )
  packing_flags.add(parser)
  arguments = flags.parse(parser, argv)
  if arguments.pack:
    packing_flags.run(arguments)
    return
  packing_flags.refuse(arguments)
  from mixaug_jax.data import cache

  if arguments.clear:
    freed = cache.clear(arguments.cache_dir)
    print(
      f"freed {freed / 2**20:,.1f} MiB in {cache.root(arguments.cache_dir)}"
    )
    return
  caches = cache.info(arguments.cache_dir)
  for path, size, state in caches:
    print(f"{size / 2**20:10,.1f} MiB  {state}  {path}")
  total = sum(size for _, size, _ in caches)
  print(f"{total / 2**20:10,.1f} MiB  in total")
