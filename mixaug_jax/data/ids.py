"""The ids of a split: any sequence of texts, or one that stays in a file."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

_CHUNK = 4096  # Ids that are decoded at a time.


class StoredIds(Sequence[str]):
  """Ids in one block of UTF-8, such as a memory-mapped file.

  A list of a million texts takes 100 MB or more of each process. These take
  none before they are read, and processes on a host share the file.

  They are unique and printable, also after their composition (NFC of Unicode).

  Args:
    text: the ids one after the other, uint8.
    ends: where each of them ends in `text`, int64 `[N]`.
    ranks: the place of each of them in their sorted order, after composition,
      int32 `[N]`.
    rows: the row of each id in `ends`, int `[M]`, which may repeat; None: all.
  """

  def __init__(
    self,
    text: np.ndarray,
    ends: np.ndarray,
    ranks: np.ndarray,
    rows: np.ndarray | None = None,
  ):
    self._text, self._ends, self._ranks, self._rows = text, ends, ranks, rows

  def __len__(self) -> int:
    return len(self._ends if self._rows is None else self._rows)

  @overload
  def __getitem__(self, place: int) -> str: ...
  @overload
  def __getitem__(self, place: slice) -> "StoredIds": ...
  def __getitem__(self, place):
    if isinstance(place, slice):
      return self.take(np.arange(len(self))[place])
    place = range(len(self))[place]  # Negative ones; raises IndexError.
    return next(self._decoded(self._at(np.array([place]))))

  def __iter__(self) -> Iterator[str]:
    return self.of(np.arange(len(self)))

  def of(self, positions: np.ndarray) -> Iterator[str]:
    """Yields the ids at some positions."""
    for first in range(0, len(positions), _CHUNK):
      yield from self._decoded(self._at(positions[first : first + _CHUNK]))

  def take(self, positions: np.ndarray) -> "StoredIds":
    """Returns the ids at some positions, which may repeat."""
    return StoredIds(self._text, self._ends, self._ranks, self._at(positions))

  def in_order(self) -> np.ndarray:
    """Returns the positions of the ids in sorted order, after composition."""
    ranks = self._ranks if self._rows is None else self._ranks[self._rows]
    return np.argsort(ranks, kind="stable")

  def _at(self, positions: np.ndarray) -> np.ndarray:
    return positions if self._rows is None else self._rows[positions]

  def _decoded(self, rows: np.ndarray) -> Iterator[str]:
    ends = self._ends[rows].tolist()
    begins = np.where(rows, self._ends[rows - 1], 0).tolist()
    text = memoryview(self._text)
    for begin, end in zip(begins, ends, strict=True):
      yield str(text[begin:end], "utf-8")


def take(ids: Sequence[str], positions: np.ndarray) -> Sequence[str]:
  """Returns the ids at some positions, int `[M]`, which may repeat."""
  if isinstance(ids, StoredIds):
    return ids.take(positions)
  return [ids[p] for p in positions.tolist()]


def joined(ids: Sequence[str]) -> Iterator[str]:
  r"""Yields `"\0".join(ids)` in parts, of which none is long."""
  for first in range(0, len(ids), _CHUNK):
    yield "\0" * bool(first) + "\0".join(ids[first : first + _CHUNK])
