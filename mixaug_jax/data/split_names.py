"""The usual names of the splits of a data set."""

from collections.abc import Iterable

from mixaug_jax.errors import UserError

NAMES = {
  "train": ("train", "training"),
  "validation": ("validation", "val", "valid", "dev"),
  "test": ("test", "testing"),
}


def by_role(names: Iterable[str], where: str) -> dict[str, str]:
  """Finds the splits among names, in any case.

  Args:
    names: the names of folders, files or splits.
    where: what holds them, for a message.

  Returns:
    The name of each split that is among them, by `train`, `validation` and
    `test`, in this order.

  Raises:
    UserError: two names for the same split.
  """
  names = sorted(names)
  found = {}
  for role, usual in NAMES.items():
    matches = [name for name in names if name.lower() in usual]
    if len(matches) > 1:
      raise UserError(
        f"{where} has {' and '.join(matches)}, which both name the split "
        f"{role}; rename or remove one"
      )
    if matches:
      found[role] = matches[0]
  return found
