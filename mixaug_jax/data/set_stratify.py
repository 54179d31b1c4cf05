"""A held-out share of images with label sets, stratified by every label."""

import numpy as np


def hold_out(
  labels: np.ndarray,
  fraction: float,
  rng: np.random.Generator,
  hashes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Splits examples into two parts by iterative stratification.

  The labels are visited from the rarest one on. Each of its examples goes to
  the part that lacks the label most (Sechidis et al., 2011,
  doi:10.1007/978-3-642-23808-6_10). The first example of a label goes to the
  rest, and the second one to the held-out part, unless rarer labels decided
  about them. Copies stay in one part.

  Args:
    labels: 0 or 1, uint8 `[N, C]`.
    fraction: the share to hold out.
    rng: draws the examples.
    hashes: equal for copies, `[N]`; None: there are no copies.

  Returns:
    Positions of the rest and of the held-out part, both sorted. The latter is
    empty if there is one example, or only copies of one.
  """
  group = np.arange(len(labels))
  if hashes is not None:
    group = np.unique(hashes, return_inverse=True)[1]
  sizes = np.bincount(group)
  # As small as the largest group allows, because there may be many labels.
  kind = np.min_scalar_type(sizes.max())
  total = np.zeros((len(sizes), labels.shape[1]), kind)
  np.add.at(total, group, labels)
  # By part: how many examples it still lacks, in all and of each label. The
  # rest is part 0.
  shares = np.array([1 - fraction, fraction])
  lacks = shares[:, None] * total.sum(0, dtype=np.int64)
  lacks_any = shares * len(labels)
  part = np.full(len(total), -1)
  has = np.zeros((2, labels.shape[1]), bool)
  left = np.count_nonzero(total, 0)  # Groups of each label without a part.
  order = rng.permutation(len(total))  # Of equal groups, as the seed draws.

  def put(one: int, where: int) -> None:
    part[one] = where
    lacks[where] -= total[one]
    lacks_any[where] -= sizes[one]
    has[where] |= total[one] > 0
    left[:] -= total[one] > 0

  while True:
    open_groups = order[part[order] < 0]
    if not left.any():
      break
    label = int(np.argmin(np.where(left, left, len(labels) + 1)))
    for one in open_groups[total[open_groups, label] > 0]:
      missing = np.flatnonzero(~has[:, label])
      where = missing[0] if len(missing) else _needs(lacks[:, label], lacks_any)
      put(one, where)
  for one in open_groups:
    put(one, int(np.argmax(lacks_any)))
  if not (part == 1).any() and len(total) > 1:  # All labels are of one image.
    part[order[-1]] = 1
  held = part[group] == 1
  return np.flatnonzero(~held), np.flatnonzero(held)


def _needs(lacks: np.ndarray, lacks_any: np.ndarray) -> int:
  """Returns the part that lacks a label most; of equals, examples most."""
  return int(np.lexsort((-lacks_any, -lacks))[0])
