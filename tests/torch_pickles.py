"""Writes `.pth` files from single instructions of a pickle."""

import pickle
import struct
import zipfile


def text(value):
  encoded = value.encode()
  return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def integer(value):
  encoded = pickle.encode_long(value)
  return pickle.LONG1 + bytes([len(encoded)]) + encoded


def integers(values):
  return sequence(*map(integer, values))


def sequence(*items):
  return pickle.MARK + b"".join(items) + pickle.TUPLE


def name(module, attribute):
  return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def storage(key="0", size=4, kind="FloatStorage"):
  return (
    sequence(
      text("storage"),
      name("torch", kind),
      text(key),
      text("cpu"),
      integer(size),
    )
    + pickle.BINPERSID
  )


def tensor(within, offset=0, shape=(4,), strides=(1,)):
  return (
    name("torch._utils", "_rebuild_tensor_v2")
    + sequence(
      within,
      integer(offset),
      integers(shape),
      integers(strides),
      pickle.NEWFALSE,
      pickle.EMPTY_DICT,
    )
    + pickle.REDUCE
  )


def state(**values):
  items = [text(key) + value for key, value in values.items()]
  return pickle.EMPTY_DICT + pickle.MARK + b"".join(items) + pickle.SETITEMS


def write(path, body, data=b"\x40" * 16, **entries):
  """Writes a file as torch.save does, with any pickle."""
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr(
      "archive/data.pkl", pickle.PROTO + b"\2" + body + pickle.STOP
    )
    archive.writestr("archive/data/0", data)
    for entry, content in entries.items():
      archive.writestr(f"archive/{entry}", content)
  return path
