"""PyTorch's files: read exactly; a hostile one is refused in bounded memory."""

import pickle
import struct
import sys
import zipfile

import bounded_read
import numpy as np
import pytest
import torch_pickles as pickles
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays_of

from mixaug_jax.weights import limits, torch_file


def _assert_equal(read, state):
  """Compares arrays with tensors, also in their shapes and dtypes."""
  import torch

  assert list(read) == list(state)
  for key, value in state.items():
    expected = value.detach()
    assert read[key].shape == tuple(expected.shape)
    assert f"torch.{read[key].dtype}" == str(expected.dtype)
    np.testing.assert_array_equal(
      read[key].astype(np.float64), expected.to(torch.float64).numpy()
    )


@pytest.fixture(scope="module")
def trained():
  """A network with a batch norm, and its optimizer after a step."""
  torch = pytest.importorskip("torch")
  model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
  optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
  model(torch.ones(2, 3, 8, 8)).sum().backward()
  optimizer.step()
  return model, optimizer


@pytest.mark.parametrize("protocol", [1, 2, 4])
@pytest.mark.parametrize(
  "key", [None, "state_dict", "model_state_dict", "model"]
)
def test_a_checkpoint_comes_back(trained, tmp_path, protocol, key):
  """The state dict of a module has `_metadata`, as an attribute."""
  import torch

  model, optimizer = trained
  saved = model.state_dict()
  if key:
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    saved = {
      **{"epoch": 3, "best": 0.25, "done": False, "name": None},
      **{"large": 2**40, "negative": -5, "shape": model[0].weight.shape},
      "optimizer": optimizer.state_dict(),
      "scheduler": scheduler.state_dict(),
      key: saved,
    }
  path = tmp_path / "x.pth"
  torch.save(saved, path, pickle_protocol=protocol)
  _assert_equal(torch_file.read_state_dict(path), model.state_dict())


def test_strided_shared_and_narrow_tensors_come_back(tmp_path):
  torch = pytest.importorskip("torch")
  base = torch.arange(24.0).reshape(4, 6)
  state = {
    "transposed": base.T,
    "part": base[1:3, ::2],
    "expanded": base[0].expand(5, 6),
    "parameter": torch.nn.Parameter(base[0]),
    "half": base.half(),
    "bfloat16": base.bfloat16(),
    "bytes": base.to(torch.uint8),
    "bools": base > 3,
    "integers": torch.arange(3),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "end": torch.zeros(5)[5:],
  }
  torch.save(state, tmp_path / "x.pth")
  read = torch_file.read_state_dict(tmp_path / "x.pth")
  _assert_equal(read, state)
  assert np.shares_memory(read["transposed"], read["part"])


@given(
  arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=4, max_side=4))
)
@settings(max_examples=10)
def test_any_tensor_comes_back(tmp_path_factory, array):
  torch = pytest.importorskip("torch")
  path = tmp_path_factory.mktemp("any") / "x.pth"
  torch.save({"x": torch.tensor(array)}, path)
  np.testing.assert_array_equal(torch_file.read_state_dict(path)["x"], array)


TENSOR = pickles.tensor(pickles.storage())
ONE = pickles.state(x=TENSOR)


@pytest.mark.parametrize(
  ("entries", "order"),
  [({}, "<"), ({"byteorder": "little"}, "<"), ({"byteorder": "big"}, ">")],
)
@pytest.mark.parametrize(
  ("kind", "dtype"), [("FloatStorage", "f4"), ("BFloat16Storage", "u2")]
)
def test_the_byte_order_is_that_of_the_file(
  tmp_path, entries, order, kind, dtype
):
  """PyTorch before 2.1 wrote no order, and ran on little-endian machines."""
  data = np.arange(1, 5).astype(order + dtype)
  body = pickles.state(x=pickles.tensor(pickles.storage(kind=kind)))
  path = pickles.write(tmp_path / "x.pth", body, data.tobytes(), **entries)
  read = torch_file.read_state_dict(path)["x"]
  np.testing.assert_array_equal(read.view(dtype), [1, 2, 3, 4])


def test_an_unknown_byte_order_is_refused(tmp_path):
  path = pickles.write(tmp_path / "x.pth", ONE, byteorder="middle")
  with pytest.raises(ValueError, match="byte order"):
    torch_file.read_state_dict(path)


def _nested(depth):
  """A tuple of a tuple twice, whose hash takes 2**depth steps."""
  body = pickle.EMPTY_TUPLE
  for index in range(depth):
    put = struct.pack("<B", index)
    body += pickle.BINPUT + put + pickle.BINGET + put + pickle.TUPLE2
  return body


SHAPES = [
  (0, (5,), (1,)),
  (4, (1,), (1,)),
  (0, (2,), (4,)),
  (0, (2, 2), (2, 2)),
  (-1, (1,), (1,)),
  (0, (-1,), (1,)),
  (0, (2,), (-1,)),
  (0, (1,), (1, 1)),
  (0, (1 << 40,), (0,)),
  (0, (1 << 62, 1 << 62), (1 << 62, 1 << 62)),
  (0, (1,) * 33, (1,) * 33),
  (2**63, (1,), (1,)),
  (0, (2**40, 2**40, 0), (0, 0, 0)),
  (0, (1,), (2**62,)),
]
HUGE = pickles.tensor(
  pickles.storage(), shape=(10**9, 0), strides=(0, 0)
)  # No bytes, but a length.
HOSTILE = {
  **{
    f"shape{number}": pickles.state(x=pickles.tensor(pickles.storage(), *shape))
    for number, shape in enumerate(SHAPES)
  },
  "tensor_as_storage": pickles.state(x=pickles.tensor(HUGE, 10**6)),
  "name_as_storage": pickles.state(
    x=pickles.tensor(pickles.name("torch", "FloatStorage"))
  ),
  "text_as_storage": pickles.state(x=pickles.tensor(pickles.text("x" * 99))),
  "tuple_as_id": pickles.state(x=pickles.sequence() + pickle.BINPERSID),
  "large_storage": pickles.state(x=pickles.tensor(pickles.storage(size=2**40))),
  "negative_storage": pickles.state(x=pickles.tensor(pickles.storage(size=-4))),
  "two_types": pickles.state(
    x=TENSOR, y=pickles.tensor(pickles.storage(kind="IntStorage"))
  ),
  "no_storage": pickles.state(x=pickles.tensor(pickles.storage("1"))),
  "outside": pickles.state(x=pickles.tensor(pickles.storage("../data.pkl"))),
  "bool_as_offset": ONE.replace(pickles.integer(0), pickle.NEWFALSE, 1),
  **{
    f"build_{number}": pickles.state(
      x=target + pickles.integers((1, 2)) + pickle.BUILD
    )
    for number, target in enumerate(
      [
        *(TENSOR, pickles.storage(), pickles.name("torch", "BFloat16Storage")),
        *(pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickles.text("x")),
      ]
    )
  },
  "nested_key": pickle.EMPTY_DICT + _nested(60) + TENSOR + pickle.SETITEM,
  "tensor_as_key": pickle.EMPTY_DICT + TENSOR + TENSOR + pickle.SETITEM,
  "nested_name": _nested(60) + _nested(60) + pickle.STACK_GLOBAL,
  "odd_items": pickle.EMPTY_DICT + pickle.MARK + TENSOR + pickle.SETITEMS,
  "items_of_a_list": pickle.EMPTY_LIST + TENSOR + TENSOR + pickle.SETITEM,
  "append_to_a_dict": ONE + TENSOR + pickle.APPEND,
  "itself": pickle.EMPTY_LIST + pickle.MEMOIZE + b"h\0" + pickle.APPEND,
  "not_a_call": pickles.state(x=TENSOR + pickle.EMPTY_TUPLE + pickle.REDUCE),
  "no_memo": pickle.BINGET + b"\7",
  "no_mark": pickle.TUPLE,
  "no_value": pickle.TUPLE1,
  "below_the_mark": pickle.NONE + pickle.MARK + pickle.TUPLE1,
  "long_text": pickle.BINUNICODE + b"\xff" * 4,
  "longer_text": pickle.BINUNICODE8 + b"\xff" * 7 + b"\x7f",
  "long_bytes": pickle.BINBYTES8 + b"\xff" * 7 + b"\x7f",
  "long_buffer": pickle.BYTEARRAY8 + b"\xff" * 7 + b"\x7f",
  "long_number": pickle.LONG4 + b"\xff\xff\xff\x7f",
  "a_number_of_999_digits": pickle.LONG + b"9" * 999 + b"L\n",
  "instructions": pickle.MARK + pickle.NONE * (1 << 20) + pickle.TUPLE,
  "large_pickle": pickles.text("x" * (limits.MAX_DESCRIPTION + 1)),
  "views": pickles.state(
    **{
      f"x{number}": pickles.tensor(
        pickles.storage(), shape=(2**20,), strides=[0]
      )
      for number in range(1025)
    }
  ),
}
SENTENCES = {
  "tensor_as_storage": "a tensor is not one of torch.save",
  "shape5": "negative extent",
  "shape10": "of more than 32 axes",
  "shape12": "exceeds every memory",
  "shape13": "exceeds every memory",
  "two_types": "storage 0 has two types",
  "bool_as_offset": "an extent is not a whole number",
  "nested_key": "a key is neither a name nor a number",
  "a_number_of_999_digits": "an integer exceeds 64 bits",
  "instructions": "longer than that of any ResNet",
  "large_pickle": "in more than the 16 MiB",
  "views": "declares 4.0 GiB, more than",
}
NAMES = [
  *(("builtins", "eval"), ("os", "system"), ("torch", "load")),
  *(("torch.storage", "_load_from_bytes"), ("collections", "defaultdict")),
  *(("torch._utils", "_rebuild_tensor"), ("torch", "float32")),
  ("numpy._core.multiarray", "_reconstruct"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_hostile_pickles_are_refused_in_bounded_time_and_memory(tmp_path):
  paths = [
    pickles.write(tmp_path / f"{name}.pth", body)
    for name, body in HOSTILE.items()
  ]
  for name, sentence in zip(HOSTILE, bounded_read.read(paths), strict=True):
    assert isinstance(sentence, str), (name, sentence)
    assert "cannot be read: it " in sentence, (name, sentence)
    assert SENTENCES.get(name, "") in sentence
    assert "\n" not in sentence


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_claim_that_costs_nothing_is_read(tmp_path):
  """A memo is a dict, so an index of any size takes no memory."""
  put = pickle.LONG_BINPUT + b"\xff" * 4
  frame = pickle.FRAME + b"\xff" * 8
  paths = [
    pickles.write(tmp_path / f"{name}.pth", body)
    for name, body in {
      "memo": put.join([pickle.EMPTY_DICT, ONE[1:]]),
      "frame": frame + ONE,
      "empty": pickles.state(x=HUGE),
    }.items()
  ]
  four = [[4], "float32", [0x40]]
  assert bounded_read.read(paths) == [
    *({"x": four}, {"x": four}),
    {"x": [[10**9, 0], "float32", []]},
  ]


@pytest.mark.parametrize(("module", "attribute"), NAMES)
@pytest.mark.parametrize("stack", [False, True])
def test_names_of_code_are_refused(tmp_path, module, attribute, stack):
  body = pickles.name(module, attribute)
  if stack:
    body = pickles.text(module) + pickles.text(attribute) + pickle.STACK_GLOBAL
  path = pickles.write(tmp_path / "x.pth", pickles.state(x=body))
  with pytest.raises(ValueError, match=rf"\({module}.{attribute}\).*be code"):
    torch_file.read_state_dict(path)


@pytest.mark.parametrize(
  "opcode",
  [
    *("NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "EXT1", "EXT2", "EXT4", "PERSID"),
    *("EMPTY_SET", "FROZENSET", "BINBYTES", "NEXT_BUFFER", "DUP", "POP"),
  ],
)
def test_instructions_that_no_tensor_needs_are_refused(tmp_path, opcode):
  body = getattr(pickle, opcode) + b"\0\0\0\0\n\n"
  path = pickles.write(tmp_path / "x.pth", body)
  with pytest.raises(ValueError, match=rf"\({opcode}\), which may be code"):
    torch_file.read_state_dict(path)


class _Malicious:
  def __init__(self, marker):
    self.marker = marker

  def __reduce__(self):
    return open, (str(self.marker), "w")


def test_code_in_a_pth_is_refused_and_not_run(tmp_path):
  marker = tmp_path / "ran"
  content = pickle.dumps({"conv1.weight": _Malicious(marker)})
  path = pickles.write(tmp_path / "evil.pth", content)
  with pytest.raises(ValueError, match="holds more than tensors"):
    torch_file.read_state_dict(path)
  assert not marker.exists()
  pickle.loads(content)["conv1.weight"].close()
  assert marker.exists()


def test_types_and_programs_that_are_not_read_are_named(tmp_path):
  torch = pytest.importorskip("torch")
  path = tmp_path / "x.pt"
  for kind in (torch.float8_e4m3fn, torch.uint16, torch.complex64):
    torch.save({"x": torch.zeros(2).to(kind)}, path)
    with pytest.raises(ValueError, match="of a type that is not read"):
      torch_file.read_state_dict(path)
  torch.jit.script(torch.nn.ReLU()).save(path)
  with pytest.raises(ValueError, match="a program of TorchScript"):
    torch_file.read_state_dict(path)


def test_a_pth_that_could_unpack_to_any_size_is_refused(tmp_path):
  """A zip of 1 MB can hold 1 GB of zeros; torch.save never compresses."""
  path = tmp_path / "bomb.pth"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("archive/data.pkl", pickle.dumps({}))
    archive.writestr("archive/data/0", bytes(1 << 20))
  with pytest.raises(ValueError, match="compressed"):
    torch_file.read_state_dict(path)


def test_another_zip_is_refused(tmp_path):
  path = tmp_path / "x.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data", b"")
  with pytest.raises(ValueError, match="not one of torch"):
    torch_file.read_state_dict(path)
