"""The classes that a prepared TFDS folder names, which TFDS would import.

`features.json` names the Python class of each feature. TFDS imports the module
of a class that it does not know, and the current folder is on the path of
`python -m`, so a folder of unknown origin could run any module there.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from mixaug_jax import files
from mixaug_jax.errors import UserError
from mixaug_jax.names import printable

_OWN = re.compile(r"tensorflow_datasets(\.\w+)+", re.ASCII)
# The keys of a feature: of TFDS 3 and 4, and the proto's own spelling.
_KEYS = ("type", "pythonClassName", "python_class_name")


def refuse_foreign(folder: Any) -> None:
  """Raises UserError if a prepared folder names a class outside of TFDS.

  Args:
    folder: the folder of one version of a data set, a `Path`.
  """
  for name, part in (
    ("features.json", lambda content: content),
    # TFDS prefers the features in here, if there are any.
    ("dataset_info.json", lambda content: content["features"]),
  ):
    path = folder / name
    shown = printable(str(path))
    try:
      classes = list(_classes(part(json.loads(files.read_text(path)))))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
      continue  # TFDS reports a file that is missing or damaged.
    except OSError as error:  # TFDS would wait for a pipe.
      raise UserError(f"cannot read {shown}: {error.strerror}") from None
    except RecursionError:
      raise UserError(f"{shown} is damaged: it is nested too deeply") from None
    for used in classes:
      if not _OWN.fullmatch(used):
        raise UserError(
          f"{shown} names the class "
          f"{printable(used[:80])}, and TFDS would import its module; only "
          "classes of tensorflow_datasets are read; prepare the data set with "
          "the features of TFDS"
        )


def _classes(content: Any) -> Iterator[str]:
  """Yields the class names in features; texts in it may hold JSON again."""
  stack = [content]
  while stack:
    node = stack.pop()
    if isinstance(node, dict):
      yield from (node[k] for k in _KEYS if isinstance(node.get(k), str))
      stack += node.values()
    elif isinstance(node, list):
      stack += node
    elif isinstance(node, str) and node.lstrip()[:1] in ("{", "["):
      try:
        stack.append(json.loads(node))
      except ValueError:
        continue  # A text that only begins like JSON.
