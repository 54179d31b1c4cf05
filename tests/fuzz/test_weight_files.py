"""Checks that a weight file of a stranger is read exactly or refused.

The files come from fixed seeds: whole ones with some bytes changed, pickles of
random instructions, and HDF5 files with random links. The last two are read in
a process of their own with limits on memory and time. All their numbers have
the same bytes, and the files that they may lead to have others.
"""

import io
import os
import pathlib
import pickle
import random
import struct
import sys
import time
import zipfile

import bounded_read
import h5py
import numpy as np
import pytest
import torch_pickles as pickles
from test_fuzz import COUNT, ROOT, SECONDS
from test_fuzz import _mutated as mutated
from test_fuzz import _one_sentence as one_sentence
from test_fuzz import _report as report

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError

BYTE = 0x40  # Of all numbers in the files.
TENSOR = pickles.tensor(pickles.storage())


class _Hostile:
  """Writes a file when it is unpickled."""

  def __init__(self, path):
    self._path = str(path)

  def __reduce__(self):
    return (pathlib.Path.touch, (pathlib.Path(self._path),))


def _weight_files(proof: pathlib.Path):
  """Names and contents: whole small files in each format, and hostile ones."""
  rng = np.random.default_rng(0)
  arrays = {
    "conv1.weight": rng.normal(size=(64, 3, 7, 7)).astype(np.float32),
    "bn1.weight": np.ones(64, np.float32),
    "layer1.0.conv1.weight": np.ones((64, 64, 3, 3), np.float16),
  }
  safetensors = pytest.importorskip("safetensors.numpy")
  yield "w.safetensors", safetensors.save(arrays)
  file = io.BytesIO()
  np.savez(file, **{"conv1_conv/kernel": arrays["conv1.weight"].T})
  yield "w.npz", file.getvalue()
  file = io.BytesIO()
  np.savez(file, a=np.array([_Hostile(proof)], object))
  yield "hostile.npz", file.getvalue()
  yield "hostile.pth", pickle.dumps({"conv1.weight": _Hostile(proof)})
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps(_Hostile(proof)))
    archive.writestr("archive/version", "3\n")
    archive.writestr("../../escaped", "x")
  yield "hostile.pt", file.getvalue()
  huge = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
  yield "huge.safetensors", struct.pack("<Q", 2**62) + huge
  file = io.BytesIO()
  with h5py.File(file, "w") as h5:
    h5["conv1_conv/conv1_conv/kernel:0"] = arrays["conv1.weight"].T
  yield "w.h5", file.getvalue()
  pth = pickles.write(io.BytesIO(), pickles.state(x=TENSOR))
  yield "w.pth", pth.getvalue()


def test_weight_files(tmp_path, capsys):
  from mixaug_jax.training import experiment
  from mixaug_jax.weights import sources

  rng = random.Random(3)
  proof = tmp_path / "code_was_run"
  files = list(_weight_files(proof))
  base = {"model.name": "resnet18", "data.image_size": "32"}
  base |= {"batch_size": "48", "evaluate.batch_size": "252"}
  config = config_lib.load(f"{ROOT}/configs/mixup.py", base)
  exp = experiment.build(config)
  variables = exp.init_variables()
  refused = 0
  for number in range(COUNT):
    name, content = files[number % len(files)]
    path = tmp_path / f"{number}{name}"
    whole = number < len(files)
    path.write_bytes(content if whole else mutated(content, rng))
    overrides = {
      **base,
      "model.pretrained": str(path),
      "model.allow_partial": rng.choice(["true", "false"]),
    }
    begin = time.process_time()
    try:
      changed = config_lib.load(f"{ROOT}/configs/mixup.py", overrides)
      model = changed.model
      source = sources.resolve(
        model.pretrained, model.name, model.allow_partial
      )
      source.load(variables)
    except UserError as error:
      refused += 1
      one_sentence(error)
    assert time.process_time() - begin < SECONDS
    assert not proof.exists()
    path.unlink()
  report("weight files", COUNT, refused, capsys)
  assert not (tmp_path.parent / "escaped").exists()


# Lengths, places and steps at which a check may be off.
_NUMBERS = (0, 0, 1, 1, 2, 3, 4, 5, 16, -1, 2**31, 2**40, 2**62, 2**63, 10**9)
_NAMES = (
  *(("os", "system"), ("builtins", "eval"), ("torch", "Size")),
  *(("collections", "OrderedDict"), ("torch", "BFloat16Storage")),
  *(("torch._utils", "_rebuild_parameter"), ("torch", "_utils")),
)
_INSTRUCTIONS = [
  getattr(pickle, name)
  for name in (
    *("APPEND", "APPENDS", "BUILD", "REDUCE", "SETITEM", "SETITEMS", "MARK"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "STACK_GLOBAL", "BINPERSID"),
    *("MEMOIZE", "NEWOBJ", "OBJ", "DUP", "POP", "POP_MARK", "EMPTY_SET"),
    *("ADDITEMS", "FROZENSET", "NEXT_BUFFER", "READONLY_BUFFER", "STOP"),
  )
]


def _number(rng):
  return rng.choice(_NUMBERS)


def _memo(rng, opcodes):
  """Stores or fetches a value at an index, which may be large."""
  short, long = opcodes
  if rng.random() < 0.8:
    return short + bytes([rng.randrange(8)])
  return long + struct.pack("<I", rng.choice([0, 3, 2**16, 2**31, 2**32 - 1]))


def _doubled(rng):
  """A tuple of a tuple twice, and so on."""
  return pickle.EMPTY_TUPLE + b"".join(
    pickle.BINPUT + bytes([n]) + pickle.BINGET + bytes([n]) + pickle.TUPLE2
    for n in range(rng.choice([1, 3, 60]))
  )


def _claim(rng):
  """Bytes or text that claim a length."""
  opcode, size = rng.choice(
    [
      (pickle.BINUNICODE, "<I"),
      (pickle.BINUNICODE8, "<Q"),
      (pickle.BINBYTES8, "<Q"),
      (pickle.BYTEARRAY8, "<Q"),
      (pickle.LONG4, "<I"),
      (pickle.FRAME, "<Q"),
    ]
  )
  return opcode + struct.pack(size, rng.choice([1, 2**30, 2**31 - 1])) + b"x"


def _storage(rng):
  if rng.random() < 0.1:
    return _value(rng)
  kind = rng.choice(["FloatStorage"] * 3 + ["BFloat16Storage", "BoolStorage"])
  size = 4 if rng.random() < 0.7 else _number(rng)
  return pickles.storage(rng.choice("0001"), size, kind)


def _tensor(rng):
  within = _storage(rng)
  if rng.random() < 0.15:  # A tensor without elements, but with a length.
    within = pickles.tensor(within, 0, [_number(rng), 0], [0, 0])
  if rng.random() < 0.7:
    return pickles.tensor(within)
  axes = rng.randrange(4)
  shape = [_number(rng) for _ in range(axes)]
  strides = [_number(rng) for _ in range(axes if rng.random() < 0.95 else 2)]
  return pickles.tensor(within, _number(rng), shape, strides)


def _value(rng, depth=0):
  """A value of any kind; one in a few is not well-formed."""
  kind = rng.randrange(16 if depth < 4 else 8)
  inner = lambda: _value(rng, depth + 1)
  match kind:
    case 0 | 1:
      return _tensor(rng)
    case 2:
      return _storage(rng)
    case 3:
      return pickles.integer(_number(rng))
    case 4:
      return pickles.text(rng.choice(["storage", "x", "os", "system", "0"]))
    case 5:
      return pickles.name(*rng.choice(_NAMES))
    case 6:
      return rng.choice([pickle.NONE, pickle.NEWTRUE, pickle.EMPTY_TUPLE])
    case 7:
      return _memo(rng, (pickle.BINGET, pickle.LONG_BINGET))
    case 8:
      return pickles.sequence(*(inner() for _ in range(rng.randrange(4))))
    case 9:
      return pickle.EMPTY_LIST + inner() + pickle.APPEND
    case 10:
      return pickle.EMPTY_DICT + inner() + inner() + pickle.SETITEM
    case 11:
      return inner() + _memo(rng, (pickle.BINPUT, pickle.LONG_BINPUT))
    case 12:
      return inner() + inner() + rng.choice([pickle.REDUCE, pickle.BUILD])
    case 13:
      return _doubled(rng)
    case 14:
      return _claim(rng)
    case _:
      return inner() + rng.choice(_INSTRUCTIONS)


def _program(rng):
  """A state dict, with few or many values that no state dict has."""
  body, strange = pickle.EMPTY_DICT + pickle.MARK, rng.choice([0, 0.1, 0.5])
  for number in range(rng.randint(1, 5)):
    any_key, any_value = rng.random() < strange / 4, rng.random() < strange
    if any_key:
      body += rng.choice([_doubled, _value])(rng)
    else:
      body += pickles.text(f"x{number}")
    body += _value(rng) if any_value else _tensor(rng)
  return body + pickle.SETITEMS


def _assert_only_the_file(path, read):
  """Checks that no array has bytes from elsewhere; returns if refused."""
  if isinstance(read, str):
    assert "\n" not in read
    assert str(path) in read
    return True
  for name, (shape, _, distinct) in read.items():
    # A large one is one number many times, by strides of 0.
    assert distinct in ([], [BYTE], None), (path, name, shape, distinct)
  return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pickles(tmp_path, capsys):
  rng = random.Random(9)
  data = bytes([BYTE]) * 16
  paths = [
    pickles.write(
      tmp_path / f"{n}.pth", _program(rng), data, **{"data/1": data}
    )
    for n in range(COUNT)
  ]
  read = bounded_read.read(paths)
  refused = sum(map(_assert_only_the_file, paths, read))
  assert 0 < refused < COUNT
  report("pickles", COUNT, refused, capsys)


def _write_tree(path, rng, secrets):
  """Writes groups, datasets and links; returns if all are plain."""
  plain = True
  numbers = np.full(8, BYTE, np.uint8).view(np.float32)
  with h5py.File(path, "w", libver=rng.choice(["latest", "earliest"])) as file:
    groups, items = [file], [file]
    strange = rng.choice([0, 0.05, 0.3])
    for number in range(rng.randint(1, 12)):
      group, secret = rng.choice(groups), str(rng.choice(secrets))
      name = f"{number}"
      if rng.random() < 0.05 and "model_weights" not in file:
        group, name = file, "model_weights"
      if rng.random() >= strange:
        if rng.random() < 0.4 or name == "model_weights":
          groups.append(group.create_group(name))
          items.append(groups[-1])
        else:
          compressed = rng.choice([None, "gzip"])
          items.append(
            group.create_dataset(name, data=numbers, compression=compressed)
          )
        continue
      plain = False
      match rng.randrange(7):
        case 0:
          group[name] = rng.choice(items)
        case 1:
          group[name] = h5py.SoftLink(rng.choice(items).name)
        case 2:
          group[name] = h5py.ExternalLink(secret, rng.choice("/x"))
        case 3:
          group.create_dataset(name, (4,), "f4", external=[(secret, 0, 16)])
        case 4:
          layout = h5py.VirtualLayout((4,), "f4")
          layout[:] = h5py.VirtualSource(secret, "x", (4,))
          group.create_virtual_dataset(name, layout)
        case 5:
          group[name] = np.dtype("f4")
        case _:
          group.create_dataset(name, (2**30,), "f4")
  return plain


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_hdf5_links(tmp_path, capsys):
  rng = random.Random(10)
  secret = tmp_path / "secret"
  with h5py.File(secret, "w") as file:
    file["x"] = np.arange(4, dtype=np.float32)
  os.mkfifo(tmp_path / "pipe")
  secrets = [secret, tmp_path / "pipe", "/dev/zero", tmp_path / "gone"]
  paths = [tmp_path / f"{number}.h5" for number in range(COUNT)]
  plain = [_write_tree(path, rng, secrets) for path in paths]
  refused = 0
  for path, well_formed, read in zip(
    paths, plain, bounded_read.read(paths), strict=True
  ):
    was_refused = _assert_only_the_file(path, read)
    assert not (well_formed and was_refused), (path, read)
    refused += was_refused
  assert 0 < refused < COUNT
  report("HDF5 files", COUNT, refused, capsys)
