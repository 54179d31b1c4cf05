"""Image files that a user names, one by one or by their folders."""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

from mixaug_jax.data import tree
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable


@dataclasses.dataclass(frozen=True)
class Found:
  """An image file.

  Attributes:
    path: its path.
    place: its path below the folder that the user named, or its name.
  """

  path: pathlib.Path
  place: pathlib.PurePath


def find(paths: Sequence[pathlib.Path]) -> list[Found]:
  """Returns the files among `paths`, and the images below the folders.

  What is left out of a folder is printed on stderr.

  Raises:
    UserError: a folder without an image, or without permission.
  """
  files = []
  for path in paths:
    if not os.path.isdir(path):
      files.append(Found(path, pathlib.PurePath(path.name)))
      continue
    found = tree.Tree(path)
    images = found.images(path)
    if not images:
      raise UserError(tree.no_image(path))
    if found.left_out:
      print(
        f"mixaug_jax: left out of {printable(str(path))}: "
        f"{tree.counts(found.left_out)}",
        file=sys.stderr,
      )
    below = map(pathlib.Path, images)
    files += [Found(image, image.relative_to(path)) for image in below]
  return files
