"""Files that are whole whenever they are there, and locks between processes."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import filelock


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Writes a file beside its place and moves it there when it is whole.

      with files.replacing(path) as part:
        part.write_text("...")

  A reader of `path` sees the old content or the new one. The content is on the
  disk before the move, so that it survives a loss of power. After an exception
  `path` is as it was and nothing is left beside it. One process at a time may
  write a path.

  Args:
    path: the file to write.

  Yields:
    The path to write to, in the same folder and with the same suffix.

  Raises:
    OSError: the folder cannot be written, or the disk is full.
  """
  part = path.with_name(f".{path.stem}.part{path.suffix}")
  try:
    yield part
    with open(part, "rb") as file:
      os.fsync(file.fileno())
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: pathlib.Path, wait: bool = True) -> Iterator[None]:
  """Holds a lock between processes; it ends when its process does.

  Args:
    path: the lock file. Its content is the caller's to use.
    wait: whether to wait for another process that holds the lock.

  Raises:
    BlockingIOError: another process holds the lock and `wait` is false.
    OSError: the lock file cannot be created.
  """
  # The soft lock is a marker file, which would outlive a killed process.
  lock = filelock.FileLock(path, fallback_to_soft=False)
  try:
    lock.acquire(timeout=-1 if wait else 0)
  except filelock.Timeout as error:
    raise BlockingIOError(f"another process holds {path}") from error
  try:
    yield
  finally:
    lock.release()
