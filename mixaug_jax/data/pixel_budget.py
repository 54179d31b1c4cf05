"""A limit on the memory of decoding, over all threads of a process."""

import contextlib
import threading
from collections.abc import Iterator


class PixelBudget:
  """Lets threads decode as long as their pixels fit into a budget together.

  An image that is larger than the whole budget waits until it is alone.

  Args:
    pixels: the number of pixels that may be in memory at a time.
  """

  def __init__(self, pixels: int):
    self._free = pixels
    self._total = pixels
    # One thread at a time waits for room, so that small images do not overtake
    # a large one for ever.
    self._turn = threading.Lock()
    self._changed = threading.Condition()

  @contextlib.contextmanager
  def taking(self, pixels: int) -> Iterator[None]:
    """Waits for room and holds it; one thread must not hold it twice."""
    pixels = min(pixels, self._total)
    with self._turn, self._changed:
      self._changed.wait_for(lambda: self._free >= pixels)
      self._free -= pixels
    try:
      yield
    finally:
      with self._changed:
        self._free += pixels
        self._changed.notify()
