"""Class names as people read them."""

import re
from collections.abc import Sequence


def readable(class_names: Sequence[str]) -> list[str]:
  """Returns class names without the ImageNet number: `n02085620-Chihuahua`."""
  return [re.sub(r"^n\d{8}-", "", name) for name in class_names]
