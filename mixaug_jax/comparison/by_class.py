"""What the page of a comparison shows about classes, arm by arm."""

from collections.abc import Mapping, Sequence
from typing import Any


def rows(
  arms: Mapping[str, Mapping[str, Any]], class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Returns a row for each arm with a finished run.

  Args:
    arms: those of `summary.summarise`.
    class_names: by class id.

  Returns:
    By arm, `balanced`, the balanced accuracy with its interval over the seeds,
    and `lowest`, the class of the lowest mean accuracy, with `accuracy`.
  """
  found = {}
  for name, arm in arms.items():
    known = [
      (x, class_name)
      for x, class_name in zip(
        arm["per_class"] or [], class_names, strict=bool(arm["per_class"])
      )
      if x is not None
    ]
    if known:
      accuracy, lowest = min(known)
      found[name] = {
        "balanced": arm["balanced_accuracy"],
        "lowest": lowest,
        "accuracy": accuracy,
      }
  return found
