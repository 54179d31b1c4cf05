"""The root logger of a program that imports this package."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
  """Removes the handler that absl gives the root logger at its first message.

  Orbax sends one when it is imported. With the handler, a later
  `logging.basicConfig` of the program would have no effect.
  """
  before = logging.root.handlers[:]
  try:
    yield
  finally:
    logging.root.handlers[:] = before
