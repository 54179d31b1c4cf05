"""Weight files that claim too much, or that lead to other files."""

import itertools
import json
import os
import struct
import sys
import zipfile

import bounded_read
import h5py
import ml_dtypes
import numpy as np
import pytest

from mixaug_jax.errors import UserError
from mixaug_jax.weights import archives, formats, limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ONES = np.full(4, 0x40, np.uint8).repeat(4).view(np.float32)
ONE = ONES.tobytes()
SECRET = bytes(range(0x50, 0x60)) * 4


def _npy(shape=(4,), dtype="<f4"):
  """A `.npy` file with any header."""
  header = repr({"descr": dtype, "fortran_order": False, "shape": shape})
  header = header.ljust(117).encode() + b"\n"
  return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + ONE


def _zip(path, entries, change=lambda infos: None, method=zipfile.ZIP_STORED):
  """Writes an archive whose directory is changed at the end."""
  with zipfile.ZipFile(path, "w", method) as archive:
    for name, content in entries:
      info = zipfile.ZipInfo(name)
      archive.writestr(info, content, method)
    change(archive.filelist)
  return path


def _rename_second(infos):
  infos[1].filename = infos[0].filename


def _same_place(infos):
  infos[1].header_offset = infos[0].header_offset


def _into_the_next(infos):
  infos[0].compress_size += 20
  infos[0].file_size += 20


def _into_the_directory(infos):
  infos[1].compress_size += 20
  infos[1].file_size += 20


def _larger(infos):
  infos[1].file_size += 20


def _smaller(infos):
  infos[1].file_size = 100


def _more_than_deflate_can(infos):
  infos[1].file_size = infos[1].compress_size * 1033


def _encrypted(infos):
  infos[1].flag_bits |= 1


TWO = [("a.npy", _npy()), ("b.npy", _npy())]
# The bytes of an array of a GiB take a MB.
BOMB = [("a.npy", _npy()), ("b.npy", bytes(2**30))]


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (_rename_second, "two entries have the same name"),
    (_same_place, "two entries overlap"),
    (_into_the_next, "two entries overlap"),
    (_into_the_directory, "two entries overlap"),
    (_larger, "b.npy has two sizes"),
    (_encrypted, "damaged or not an .npz"),
  ],
)
def test_an_archive_that_lies_is_refused(tmp_path, change, sentence):
  path = _zip(tmp_path / "x.npz", TWO, change)
  with pytest.raises(UserError, match=rf"x.npz cannot be read: .*{sentence}"):
    formats.read(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_only_deflate_is_unpacked(tmp_path, method):
  path = _zip(tmp_path / "x.npz", TWO, method=method)
  with pytest.raises(UserError, match="another way than deflate"):
    formats.read(path)


def _write_long_directory(path):
  """A directory of 20 MB, behind which lie millions of entries."""
  size = 20 * 2**20
  with path.open("wb") as file:
    file.truncate(size)
    file.seek(size)
    file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0))
  return path


def test_a_long_directory_is_not_read(tmp_path):
  path = _write_long_directory(tmp_path / "x.npz")
  with pytest.raises(UserError, match="describes its arrays in more"):
    formats.read(path)


def test_an_archive_of_very_many_entries_is_refused(tmp_path):
  entries = [(f"{n}", b"") for n in range(limits.MAX_ARRAYS + 1)]
  path = _zip(tmp_path / "x.npz", entries)
  with pytest.raises(UserError, match="more than the 100,000 arrays"):
    formats.read(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_comes_back(tmp_path, compressed):
  arrays = {
    "conv1_conv/kernel": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    "conv1_conv/bias": np.asfortranarray(np.arange(6, dtype=">f4"))[::2],
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": np.float16(2.5),
    "empty": np.zeros((0, 3)),
    "bools": np.array([True, False]),
  }
  save = np.savez_compressed if compressed else np.savez
  save(tmp_path / "x.npz", **arrays)
  read = formats.read(tmp_path / "x.npz")
  assert list(read) == list(arrays)
  for name, array in arrays.items():
    assert read[name].dtype == array.dtype
    np.testing.assert_array_equal(read[name], array)


NPY = {
  "more": (_npy((5,)), "is not of its declared size"),
  "less": (_npy((3,)), "is not of its declared size"),
  "negative": (_npy((-4,)), "is not of its declared size"),
  "negative_twice": (_npy((-2, -2)), "is not of its declared size"),
  "huge": (_npy((2**40,)), "is not of its declared size"),
  "overflow": (_npy((2**32, 2**32)), "is not of its declared size"),
  "objects": (_npy(dtype="|O"), "holds Python objects"),
  "long_header": (_npy(dtype="<f4" * 9999), "Header info length"),
  "cut": (_npy()[:40], "EOF"),
  "version": (b"\x93NUMPY\3" + _npy()[7:], "unknown version"),
  "text": (b"not an array", "magic string"),
  "empty": (b"", "EOF"),
}


def test_a_npy_header_that_lies_is_refused(tmp_path):
  paths = [
    _zip(tmp_path / f"{name}.npz", [("a.npy", content)])
    for name, (content, _) in NPY.items()
  ]
  for path, sentence in zip(paths, bounded_read.read(paths), strict=True):
    assert NPY[path.stem][1] in sentence, (path.stem, sentence)


def test_an_entry_that_cannot_unpack_to_its_size_is_refused(tmp_path):
  path = tmp_path / "x.npz"
  _zip(path, TWO, _more_than_deflate_can, zipfile.ZIP_DEFLATED)
  with pytest.raises(UserError, match=r"b\.npy declares more than it stores"):
    formats.read(path)


def test_what_an_entry_unpacks_to_is_bounded_by_its_size(tmp_path):
  path = _zip(tmp_path / "x.npz", BOMB, _smaller, zipfile.ZIP_DEFLATED)
  assert path.stat().st_size < 2 * 10**6
  (sentence,) = bounded_read.read([path])
  assert "damaged or not an .npz" in sentence


@pytest.mark.parametrize("suffix", formats.READERS)
def test_a_file_above_the_limit_is_not_opened(tmp_path, suffix):
  path = tmp_path / f"x{suffix}"
  path.touch()
  os.truncate(path, limits.MAX_BYTES + 1)  # A hole takes no space.
  with pytest.raises(UserError, match=r"declares 4.0 GiB, more than the 4 GiB"):
    formats.read(path)


def test_prefixes_of_torch_are_removed(tmp_path):
  torch = pytest.importorskip("torch")
  for prefix in ("", "module.", "_orig_mod.", "_orig_mod.module."):
    torch.save({f"{prefix}fc.bias": torch.ones(1)}, tmp_path / "x.pth")
    assert list(formats.read(tmp_path / "x.pth")) == ["fc.bias"]


def test_two_arrays_of_one_name_are_refused(tmp_path):
  torch = pytest.importorskip("torch")
  torch.save(
    {"x": torch.zeros(1), "module.x": torch.ones(1)}, tmp_path / "x.pth"
  )
  np.savez(tmp_path / "x.npz", **{"a/mean": ONES, "a/moving_mean": ONES})
  with h5py.File(tmp_path / "x.h5", "w") as file:
    file["student/a/kernel:0"] = file["teacher/a/kernel:0"] = ONES
  with h5py.File(tmp_path / "y.h5", "w") as file:
    for group in ("student", "teacher"):
      file[f"{group}/vars/0"] = ONES
      file[f"{group}/vars"].attrs["name"] = "a"
  for name in ("x.pth", "x.npz", "x.h5", "y.h5"):
    with pytest.raises(UserError, match="two arrays have the name"):
      formats.read(tmp_path / name)


def test_types_that_are_not_read_are_named(tmp_path):
  with h5py.File(tmp_path / "x.h5", "w") as file:
    file["x"] = np.zeros(2, ml_dtypes.bfloat16)
  header = {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}
  (tmp_path / "x.safetensors").write_bytes(_safetensors({"x": header}, b"ab"))
  for suffix, sentence in {
    ".h5": "x is bfloat16, which is not read from .h5; save it as float32",
    ".safetensors": "x is F8_E4M3, which is not read; convert it",
  }.items():
    with pytest.raises(UserError, match=sentence):
      formats.read(tmp_path / f"x{suffix}")


def test_a_pipe_is_not_opened(tmp_path):
  """It would block for ever."""
  paths = [tmp_path / f"x{suffix}" for suffix in formats.READERS]
  for path in paths:
    os.mkfifo(path)
  for sentence in bounded_read.read(paths):
    assert "is not a file" in sentence


def test_declared_sizes_count_together(tmp_path, monkeypatch):
  monkeypatch.setattr(limits, "MAX_BYTES", 3 * 2**20)
  arrays = {f"{n}/kernel": np.zeros(2**18, np.float32) for n in range(3)}
  arrays["x"] = np.zeros(1, np.float32)
  np.savez_compressed(tmp_path / "x.npz", **arrays)
  with h5py.File(tmp_path / "x.h5", "w") as file:
    for name, array in arrays.items():
      file.create_dataset(name, data=array, compression="gzip")
  for name in ("x.npz", "x.h5"):
    with pytest.raises(UserError, match=r"declares 0\.0 GiB, more than"):
      formats.read(tmp_path / name)


def _safetensors(header, data=ONE, size=None):
  encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
  return struct.pack("<Q", size or len(encoded)) + encoded + data


def _entry(shape=(4,), place=(0, 16)):
  return {"dtype": "F32", "shape": list(shape), "data_offsets": list(place)}


DAMAGED = "Error while deserializing"  # As the library reports it.
SAFETENSORS = {
  "huge_header": (_safetensors({"a": _entry()}, size=2**62), "it describes"),
  "largest_header": (_safetensors({}, size=2**64 - 1), "it describes"),
  "long_header": (_safetensors({"a": _entry()}, size=999), DAMAGED),
  "shape": (_safetensors({"a": _entry((5,))}), DAMAGED),
  "huge": (_safetensors({"a": _entry((2**40,), (0, 2**42))}), DAMAGED),
  "overflow": (_safetensors({"a": _entry((2**32, 2**32))}), DAMAGED),
  "negative": (_safetensors({"a": _entry((-4,))}), DAMAGED),
  "alias": (_safetensors({"a": _entry(), "b": _entry()}), DAMAGED),
  "overlap": (
    _safetensors({"a": _entry(), "b": _entry((2,), (8, 16))}),
    DAMAGED,
  ),
  "hole": (_safetensors({"a": _entry((2,), (8, 16))}), DAMAGED),
  "rest": (_safetensors({"a": _entry((2,), (0, 8))}), DAMAGED),
  "nested": (_safetensors(b"[" * 10**6), DAMAGED),
  "many": (
    _safetensors({f"{n}": _entry((0,), (0, 0)) for n in range(100_001)}, b""),
    "more than the 100,000 arrays",
  ),
  "empty": (b"", DAMAGED),
  "short": (b"1234567", DAMAGED),
}


def test_a_safetensors_header_that_lies_is_refused(tmp_path):
  paths = [tmp_path / f"{name}.safetensors" for name in SAFETENSORS]
  for path in paths:
    path.write_bytes(SAFETENSORS[path.stem][0])
  for path, sentence in zip(paths, bounded_read.read(paths), strict=True):
    assert SAFETENSORS[path.stem][1] in sentence, (path.stem, sentence)


def test_plain_and_compressed_datasets_come_back(tmp_path):
  arrays = {
    "plain": ONES.reshape(2, 2),
    "big_endian": ONES.astype(">f8"),
    "half": ONES.astype(np.float16),
    "bools": np.array([True, False]),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3)),
    "integers": np.arange(5),
  }
  with h5py.File(tmp_path / "x.h5", "w") as file:
    for name, array in arrays.items():
      file[name] = array
    for name, options in {
      "gzip": {"compression": "gzip", "shuffle": True, "fletcher32": True},
      "chunked": {"chunks": (3,), "maxshape": (None,)},
    }.items():
      arrays[name] = np.arange(1000.0)
      file.create_dataset(name, data=arrays[name], **options)
  read = formats.read(tmp_path / "x.h5")
  assert read.keys() == arrays.keys()
  for name, array in arrays.items():
    assert read[name].dtype == array.dtype
    np.testing.assert_array_equal(read[name], array)


def _virtual(file, source, maxshape=None):
  layout = h5py.VirtualLayout((4,), "f4", maxshape=maxshape)
  shape = (4,) if maxshape is None else (h5py.h5s.UNLIMITED,)
  if maxshape is None:
    layout[:] = h5py.VirtualSource(source, "x", shape)
  else:
    origin = h5py.VirtualSource(source, "x", (4,), maxshape=maxshape)
    layout[: h5py.h5s.UNLIMITED] = origin[: h5py.h5s.UNLIMITED]
  file.create_virtual_dataset("x", layout)


def _external(file, source):
  file.create_dataset("x", (4,), "f4", external=[(source, 0, 16)])


def _external_of_any_size(file, source):
  unlimited = h5py.h5f.UNLIMITED
  file.create_dataset("x", (4,), "f4", external=[(source, 0, unlimited)])


def _external_link(file, source):
  file["x"] = h5py.ExternalLink(source, "x")


def _external_group(file, source):
  file["model_weights"] = h5py.ExternalLink(source, "/")


def _soft_link(file, _):
  file["a"] = ONES
  file["x"] = h5py.SoftLink("/a")


def _soft_group(file, _):
  file["a/x"] = ONES
  file["model_weights"] = h5py.SoftLink("/a")


def _soft_to_external(file, source):
  file["b/a"] = h5py.ExternalLink(source, "/")
  file["x"] = h5py.SoftLink("/b/a/x")


def _dangling(file, _):
  file["x"] = h5py.SoftLink("/a")


ESCAPES = {
  "virtual": _virtual,
  "growing": lambda file, source: _virtual(file, source, (None,)),
  "external": _external,
  "endless": _external_of_any_size,
  "external_link": _external_link,
  "external_group": _external_group,
  "soft_link": _soft_link,
  "soft_group": _soft_group,
  "soft_to_external": _soft_to_external,
  "dangling": _dangling,
}


@pytest.fixture
def secret(tmp_path):
  """An HDF5 file whose first bytes and whose dataset are secret."""
  path = tmp_path / "secret.h5"
  with h5py.File(path, "w") as file:
    file["x"] = np.frombuffer(SECRET, np.float32)
  return path


@pytest.mark.parametrize("other", ["secret", "pipe", "device"])
def test_no_other_file_is_opened(tmp_path, secret, other):
  """A pipe would block, and a device never end."""
  pipe = tmp_path / "pipe"
  os.mkfifo(pipe)
  source = {"secret": secret, "pipe": pipe, "device": "/dev/zero"}[other]
  paths = []
  for name, version in itertools.product(ESCAPES, ("latest", "earliest")):
    paths.append(tmp_path / f"{name}_{version}.h5")
    with h5py.File(paths[-1], "w", libver=version) as file:
      ESCAPES[name](file, str(source))
  for path, sentence in zip(paths, bounded_read.read(paths), strict=True):
    assert "another file" in sentence, (path.stem, sentence)


def test_the_escapes_are_real(tmp_path, secret):
  """h5py itself returns what lies in the other file."""
  for name in ("virtual", "growing", "external", "external_link"):
    with h5py.File(tmp_path / f"{name}.h5", "w", libver="latest") as file:
      ESCAPES[name](file, str(secret))
    with h5py.File(tmp_path / f"{name}.h5") as file:
      got = file["x"][:4].tobytes()
    assert got == (secret.read_bytes() if name == "external" else SECRET)[:16]


def _cycle(file):
  file.create_group("a/b")
  file["a/b/c"] = file["a"]


def _cycle_through_the_root(file):
  file.create_group("a")["b"] = file["/"]


def _alias(file):
  file["a"] = ONES
  file["b"] = file["a"]


def _alias_of_a_group(file):
  file["a/x"] = ONES
  file["b"] = file["a"]


def _named_type(file):
  file["x"] = np.dtype("f4")


def _nothing(file):
  file["x"] = h5py.Empty("f4")


def _unwritten(file):
  file.create_dataset("x", (2**28,), "f4")


def _unwritten_chunks(file):
  file.create_dataset("x", (2**28,), "f4", chunks=(2**20,))


def _sparse_chunks(file):
  sparse = file.create_dataset("x", (2**28,), "f4", chunks=(2**10,))
  sparse[:10] = 1


def _overflow(file):
  """The product of the shape is 0 modulo 2**64."""
  file.create_dataset("x", (2**31, 2**31, 4), "f4", chunks=(1, 1, 1))


def _large_chunks(file):
  file.create_dataset(
    "x", (4,), "f4", chunks=(2**26,), maxshape=(None,), compression="gzip"
  )[:] = ONES


def _bomb(file):
  file.create_dataset(
    "x", (2**23 * 129,), "f4", chunks=(2**23,), compression="gzip"
  )[:10] = 1


def _twice_compressed(file):
  properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
  properties.set_chunk((4,))
  properties.set_deflate(9)
  properties.set_deflate(9)
  space = h5py.h5s.create_simple((4,))
  h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, properties)
  file["x"][:] = ONES


def _strange_filter(file):
  file.create_dataset("x", data=ONES, compression="lzf")


def _typed(value, dtype=None):
  return lambda file: file.create_dataset("x", data=value, dtype=dtype)


def _lists(file):
  file.create_dataset("x", (2,), h5py.vlen_dtype(np.int32))[0] = [1, 2]


def _arrays(file):
  file.create_dataset("x", (2,), "(3,)f4")[:] = np.zeros((2, 3))


def _reference(file):
  file["a"] = ONES
  data = np.array([file["a"].ref], h5py.ref_dtype)
  file.create_dataset("x", data=data, dtype=h5py.ref_dtype)


def _dataset_as_group(file):
  file["model_weights"] = ONES


def _layer_name(value):
  def write(file):
    file["layers/a/vars/0"] = ONES
    if value is not None:
      file["layers/a/vars"].attrs["name"] = value

  return write


ODD = {
  "cycle": (_cycle, "two links lead to"),
  "cycle_through_the_root": (_cycle_through_the_root, "two links lead to"),
  "alias": (_alias, "two links lead to"),
  "alias_of_a_group": (_alias_of_a_group, "two links lead to"),
  "named_type": (_named_type, "is not a dataset"),
  "nothing": (_nothing, "does not hold numbers"),
  "unwritten": (_unwritten, "declares more than it stores"),
  "unwritten_chunks": (_unwritten_chunks, "declares more than it stores"),
  "sparse_chunks": (_sparse_chunks, "declares more than it stores"),
  "overflow": (_overflow, "declares more than it stores"),
  "large_chunks": (_large_chunks, "the chunks of x exceed 64 MiB"),
  "bomb": (_bomb, "declares more than it stores"),
  "twice_compressed": (_twice_compressed, "in another way than gzip"),
  "strange_filter": (_strange_filter, "in another way than gzip"),
  "text": (_typed("text"), "does not hold numbers"),
  "texts": (_typed(np.array([b"text"])), "does not hold numbers"),
  "lists": (_lists, "does not hold numbers"),
  "compound": (_typed(np.zeros(2, [("a", "f4")])), "does not hold numbers"),
  "complex": (_typed(np.zeros(2, np.complex64)), "does not hold numbers"),
  "opaque": (_typed(np.zeros(2, "V4")), "does not hold numbers"),
  "arrays": (_arrays, "does not hold numbers"),
  "reference": (_reference, "does not hold numbers"),
  "a_dataset_as_group": (_dataset_as_group, "is not a group"),
  "no_name": (_layer_name(None), "lacks names of layers"),
  "name_of_numbers": (_layer_name(ONES), "name of a layer is not a string"),
  "names": (_layer_name(["a", "b"]), "name of a layer is not a string"),
  "long_name": (
    _layer_name(np.bytes_(2000 * b"a")),
    "name of a layer is not a string",
  ),
}


def test_odd_hdf5_files_are_refused(tmp_path):
  paths = [tmp_path / f"{name}.h5" for name in ODD]
  for path in paths:
    with h5py.File(path, "w") as file:
      ODD[path.stem][0](file)
  for path, sentence in zip(paths, bounded_read.read(paths), strict=True):
    assert ODD[path.stem][1] in sentence, (path.stem, sentence)


def test_two_datasets_that_claim_the_same_bytes_are_refused(
  tmp_path, monkeypatch
):
  with h5py.File(tmp_path / "x.h5", "w") as file:
    file["a"], file["b"] = np.full(10**4, 7.5), np.full(10**4, 8.5)
  content = (tmp_path / "x.h5").read_bytes()
  with h5py.File(tmp_path / "x.h5") as file:
    places = [file[name].id.get_offset() for name in "ab"]
  one, other = (struct.pack("<Q", place) for place in places)
  assert content.count(other) == 1
  shared = content.replace(other, one)[: places[1]]
  (tmp_path / "x.h5").write_bytes(shared)
  with pytest.raises(UserError, match="cannot be read: "):
    formats.read(tmp_path / "x.h5")


def test_the_archive_reader_never_returns_less_than_it_declares(tmp_path):
  path = _zip(tmp_path / "x.zip", [("a", b"x" * 100)])
  with archives.open_archive(path) as archive:
    assert archive.read("a") == b"x" * 100
  content = path.read_bytes().replace(b"x" * 100, b"x" * 99 + b"y")
  path.write_bytes(content)
  with (
    archives.open_archive(path) as archive,
    pytest.raises(zipfile.BadZipFile, match="CRC"),
  ):
    archive.read("a")
