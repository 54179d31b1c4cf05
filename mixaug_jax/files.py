"""Files that are whole whenever they are there, and locks between processes.

An OSError that leaves this module names its file.
"""

import contextlib
import errno
import os
import pathlib
import stat
import zlib
from collections.abc import Iterator

import filelock

from mixaug_jax.errors import UserError, reason


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Gives the name `path` to an OSError that has none.

  Writing to an open file, flushing and closing it raise such errors.
  """
  try:
    yield
  except OSError as error:
    if error.errno is not None and error.filename is None:
      error.filename = os.fspath(path)
    raise


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Writes a file beside its place and moves it there when it is whole.

      with files.replacing(path) as part:
        part.write_text("...")

  A reader of `path` sees the old content or the new one. The content is on the
  disk before the move, and the move is before this returns, so that both
  survive a loss of power. After an exception `path` is as it was and nothing
  is left beside it. No link is followed: a link in either place is replaced.
  One process at a time may write a path.

  Args:
    path: the file to write.

  Yields:
    The path to write to, in the same folder and with the same suffix. There is
    an empty file.

  Raises:
    OSError: the folder cannot be written, or the disk is full.
  """
  # Short, because the name of the file may be as long as the disk allows.
  number = zlib.crc32(os.fsencode(path.name))
  part = path.with_name(f".{number:08x}.part{path.suffix}")
  with naming(path):
    try:
      part.unlink(missing_ok=True)
      part.touch(exist_ok=False)
      mode = part.stat().st_mode
      yield part
      # A library may have put a file in its place that others cannot read.
      if part.stat().st_mode != mode:
        part.chmod(mode)
      sync(part)
      os.replace(part, path)
    except BaseException:
      with contextlib.suppress(OSError):
        part.unlink()
      raise
    sync(path.parent)


def make_folder(name: str, folder: pathlib.Path) -> None:
  """Makes a folder; raises UserError, which calls it `name`."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"cannot make {name}={folder}: {reason(error)}; name another folder"
    ) from None


def sync(path: pathlib.Path) -> None:
  """Puts the content of a file, or the names in a folder, on the disk."""
  with naming(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    except OSError as error:
      # Some network file systems cannot do so with folders.
      if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise
    finally:
      os.close(descriptor)


def read_bytes(path: str | os.PathLike, most: int | None = None) -> bytes:
  """Reads a regular file; a pipe or a device, which may never end, is refused.

  Args:
    path: the file.
    most: the largest size, in bytes, that is read.

  Raises:
    OSError: there is no such file, it is larger, or it cannot be read.
  """
  with naming(path), open(path, "rb", opener=_without_waiting) as file:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
      raise OSError(errno.EINVAL, "not a regular file")
    if most is not None and status.st_size > most:
      why = f"it has {status.st_size:,} bytes, more than {most:,}"
      raise OSError(errno.EFBIG, why)
    if most is None:
      return file.read()
    # Python allocates as much as it is asked to read.
    content = file.read(min(most, status.st_size + 1))
    if len(content) > status.st_size:  # It grows, or has no size, as in /proc.
      content += file.read(most - len(content))
    return content


def _without_waiting(path: str, flags: int) -> int:
  """Opens a pipe without waiting for its writer; Windows has no such flag."""
  return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(path: pathlib.Path) -> str:
  """Reads a text file in UTF-8, see `read_bytes`; may raise ValueError."""
  return read_bytes(path).decode("utf-8")


def refuse_link(path: pathlib.Path) -> int:
  """Raises UserError unless `path` is a regular file or free.

  A run directory from elsewhere may hold a link to any file of the user.

  Returns:
    The number of names of the file, above 1 if it has hard links.
  """
  try:
    status = os.lstat(path)
  except FileNotFoundError:
    return 0
  if not stat.S_ISREG(status.st_mode):
    raise UserError(
      f"{path} is not a regular file, and no link is followed; delete it and "
      "repeat the command"
    )
  return status.st_nlink


@contextlib.contextmanager
def locked(path: pathlib.Path, wait: bool = True) -> Iterator[None]:
  """Holds a lock between processes; it ends when its process does.

  Args:
    path: the lock file. Its content is the caller's to use.
    wait: whether to wait for another process that holds the lock.

  Raises:
    BlockingIOError: another process holds the lock and `wait` is false.
    UserError: the lock file is a link, has a hard link, or is no regular file.
    OSError: the lock file cannot be created.
  """
  if refuse_link(path) > 1:
    raise UserError(
      f"{path} has a hard link, and its other name may be any file; delete it "
      "and repeat the command"
    )
  # The soft lock is a marker file, which would outlive a killed process.
  lock = filelock.FileLock(path, fallback_to_soft=False)
  with naming(path):
    try:
      lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout as error:
      raise BlockingIOError(f"another process holds {path}") from error
  try:
    yield
  finally:
    with contextlib.suppress(OSError):  # The end of the process releases it.
      lock.release()
