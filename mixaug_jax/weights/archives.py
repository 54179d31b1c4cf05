"""Reads the zip archives that hold weights, in bounded memory.

`zipfile` trusts what an archive declares: two entries may share their bytes, an
entry may unpack to more than its declared size, and a directory of any length
is read whole.
"""

import contextlib
import io
import itertools
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

from mixaug_jax.weights import limits

_LOCAL_HEADER = 30  # Bytes before an entry's name and content, at least.
_PIECE = 2**20  # Bytes.


class Archive:
  """The entries of a zip archive.

  Attributes:
    entries: what the archive declares of each entry, by name.
  """

  def __init__(self, archive: zipfile.ZipFile) -> None:
    listed = archive.infolist()
    limits.check_arrays(len(listed))
    self.entries = {entry.filename: entry for entry in listed}
    if len(self.entries) < len(listed):
      raise ValueError("it is damaged: two entries have the same name")
    limits.check_bytes(sum(entry.file_size for entry in listed))
    places = [(e.header_offset, e.compress_size) for e in listed]
    places = [*sorted(places), (archive.start_dir, 0)]
    for (start, size), (following, _) in itertools.pairwise(places):
      if start + _LOCAL_HEADER + size > following:
        raise ValueError("it is damaged: two entries overlap")
    for entry in listed:
      # Other methods of compression do not bound what they unpack.
      if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed in another way than deflate")
      if not entry.compress_type and entry.compress_size != entry.file_size:
        raise ValueError(f"it is damaged: {entry.filename} has two sizes")
      if entry.file_size > limits.MAX_DEFLATE * entry.compress_size:
        raise ValueError(f"{entry.filename} declares more than it stores")
    self._archive = archive

  def read(self, name: str) -> bytearray:
    """Returns the content of an entry, with its declared size.

    Raises:
      KeyError: there is no such entry.
      zipfile.BadZipFile: the entry is damaged or encrypted.
    """
    entry = self.entries[name]
    content = bytearray(entry.file_size)
    place = 0
    try:
      with self._archive.open(entry) as stream:
        # In one piece, what an entry unpacks to would take its size twice.
        while place < len(content):
          piece = memoryview(content)[place : place + _PIECE]
          # It is a zipfile.ZipExtFile.
          read = stream.readinto(piece)  # type: ignore[attr-defined]
          if not read:
            raise EOFError("it is shorter than declared")
          place += read
    except (EOFError, RuntimeError, zlib.error) as error:
      raise zipfile.BadZipFile(f"cannot read {name}: {error}") from error
    return content


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Iterator[Archive]:
  """Opens an archive and checks what it declares.

  Raises:
    zipfile.BadZipFile: it is not a zip archive, or damaged.
    ValueError: it declares too much, or entries that share their bytes or
      their name.
  """
  with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
    yield Archive(archive)


class _Bounded(io.FileIO):
  """A file that refuses to read much at once, as a long directory would."""

  def read(self, size: int | None = -1) -> bytes:
    limits.check_description(-1 if size is None else size)
    return super().read(size)
