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
        raise ValueError("it is compressed by other means than deflate")
      if not entry.compress_type and entry.compress_size != entry.file_size:
        raise ValueError(f"it is damaged: {entry.filename} has two sizes")
    self._archive = archive

  def read(self, name: str) -> bytes:
    """Returns the content of an entry, with its declared size.

    Raises:
      KeyError: there is no such entry.
      zipfile.BadZipFile: the entry is damaged or encrypted.
    """
    entry = self.entries[name]
    try:
      with self._archive.open(entry) as stream:
        # Without a size, a small entry could unpack to a GiB.
        content = stream.read(entry.file_size)
    except (EOFError, RuntimeError, zlib.error) as error:
      raise zipfile.BadZipFile(f"cannot read {name}: {error}") from error
    if len(content) != entry.file_size:
      raise zipfile.BadZipFile(f"{name} is shorter than it declares")
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
    file.limit = limits.MAX_BYTES
    yield Archive(archive)


class _Bounded(io.FileIO):
  """A file that refuses to read more than `limit` bytes at once."""

  limit = limits.MAX_DESCRIPTION  # zipfile reads the directory whole.

  def read(self, size: int | None = -1) -> bytes:
    if size is not None and size > self.limit:
      limits.check_description(size)
    return super().read(size)
