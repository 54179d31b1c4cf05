"""Class names as people read them."""

import re
import unicodedata
from collections.abc import Sequence

from mixaug_jax.names import printable


def canonical(name: str) -> str:
  """Returns a class name in composed form (NFC of Unicode) and printable.

  macOS writes an accent as a character of its own (NFD). Both are the same
  class.
  """
  return printable(composed(name))


def composed(name: str) -> str:
  """Returns a name in composed form (NFC of Unicode)."""
  return unicodedata.normalize("NFC", name)


def readable(class_names: Sequence[str]) -> list[str]:
  """Returns class names without the ImageNet number: `n02085620-Chihuahua`."""
  return [re.sub(r"^n\d{8}-", "", name) for name in class_names]
