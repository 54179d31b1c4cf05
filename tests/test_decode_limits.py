"""Small files that claim much: sizes in containers, memory over all threads."""

import concurrent.futures
import contextlib
import io
import os
import struct
import threading
import time
import zlib

import pytest
from PIL import Image

from mixaug_jax.data import declared_size, decode, regular_file
from mixaug_jax.data.decode import BadImage, Settings, decode_square
from mixaug_jax.data.pixel_budget import PixelBudget
from mixaug_jax.errors import UserError


def tiff(tile):
  """A TIFF of 16x16 pixels, in one tile of `tile` x `tile`."""
  data = zlib.compress(bytes(1000))
  tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile}
  tags |= {323: tile, 324: 8, 325: len(data)}
  entries = b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags.items())
  header = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
  return header + struct.pack("<H", len(tags)) + entries + bytes(4)


def gif(side):
  """A GIF whose screen has 16x16 pixels, and its frame `side` x `side`."""
  frame = b"," + struct.pack("<4H", 0, 0, side, side) + b"\0\2\1\0\0;"
  return b"GIF89a" + struct.pack("<2H", 16, 16) + bytes(3) + frame


def webp(side):
  """A WebP that declares a canvas of `side` x `side`."""
  file = io.BytesIO()
  Image.new("RGB", (16, 16)).save(file, "WEBP")
  canvas = 2 * (side - 1).to_bytes(3, "little")
  body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
  body += file.getvalue()[12:]
  return b"RIFF" + struct.pack("<I", len(body)) + body


def avif():
  file = io.BytesIO()
  Image.new("RGB", (160, 160)).save(file, "AVIF")
  return file.getvalue()


@pytest.mark.parametrize(
  "encoded",
  [tiff(16_384), gif(11_000), webp(11_000)],
  ids=["tiff", "gif", "webp"],
)
def test_a_size_inside_of_a_container_is_refused(encoded, monkeypatch):
  loads = []
  monkeypatch.setattr(Image.Image, "load", lambda self: loads.append(self))
  with pytest.raises(BadImage, match="decompression bomb"):
    decode_square(encoded, Settings(16))
  assert not loads


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_of_a_webp_is_that_of_pillow(lossless, mode):
  file = io.BytesIO()
  Image.new(mode, (301, 70), 0).save(file, "WEBP", lossless=lossless, exif=b"x")
  assert declared_size.of_webp(file.getvalue()) == (301, 70)
  assert declared_size.of_webp(b"RIFF") is None


def test_large_texts_and_profiles_of_a_png_are_left_out():
  file = io.BytesIO()
  Image.new("RGB", (9, 9), "red").save(file, "PNG")
  png = file.getvalue()
  bomb = zlib.compress(bytes(50 * 2**20))
  for name, head in ((b"zTXt", b"k\0\0"), (b"iCCP", b"k\0\0")):
    body = name + head + bomb
    chunk = struct.pack(">I", len(body) - 4) + body
    chunk += struct.pack(">I", zlib.crc32(body))
    changed = png[:33] + chunk + png[33:]
    pixels = decode_square(changed, Settings(4)).pixels
    assert (pixels == [255, 0, 0]).all()


def test_threads_share_a_budget():
  budget = PixelBudget(10)
  together, most, lock = 0, [], threading.Lock()

  def work(pixels):
    nonlocal together
    with budget.taking(pixels):
      with lock:
        together += min(pixels, 10)
        most.append(together)
      time.sleep(0.005)
      with lock:
        together -= min(pixels, 10)

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(work, [3, 7, 4, 99, 1, 2, 10, 5] * 4))
  assert max(most) <= 10
  assert len([x for x in most if x > 4]) > 1  # Some worked together.


@pytest.mark.parametrize(
  ("format", "options", "share"),
  [
    ("PNG", {}, 1),
    ("WEBP", {}, 1),
    ("TIFF", {}, 1),
    ("JPEG", {}, 1 / 64),
    ("JPEG", {"progressive": True}, 1),
  ],
)
def test_a_decode_takes_its_pixels_and_returns_them(
  monkeypatch, format, options, share
):
  taken = []

  class Counted(PixelBudget):
    def taking(self, pixels):
      taken.append(pixels)
      return super().taking(pixels)

  budget = Counted(10**9)
  monkeypatch.setattr(decode, "_BUDGET", budget)
  file = io.BytesIO()
  Image.new("RGB", (160, 160)).save(file, format, **options)
  for encoded in (file.getvalue(), file.getvalue()[:-40]):
    taken.clear()
    with contextlib.suppress(BadImage):
      decode_square(encoded, Settings(8))
    assert set(taken) <= {160 * 160 * share}
    assert budget._free == 10**9
  assert taken or format in ("TIFF", "WEBP")


def jpeg(scans):
  """A grey JPEG of 160x160 pixels whose components lie in these scans."""

  def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

  codes = bytes([1] + [0] * 15 + [0])  # One code of one bit.
  frame = struct.pack(">BHHB", 8, 160, 160, 3)
  frame += b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
  encoded = b"\xff\xd8" + segment(0xDB, bytes([0] + [16] * 64))
  encoded += segment(0xC0, frame)
  encoded += segment(0xC4, b"\0" + codes) + segment(0xC4, b"\x10" + codes)
  for scan in scans:
    head = b"".join(bytes([number, 0]) for number in scan)
    encoded += segment(0xDA, bytes([len(scan)]) + head + bytes([0, 63, 0]))
    encoded += bytes(len(scan) * 20 * 20 * 2 // 8)
  return encoded + b"\xff\xd9"


@pytest.mark.parametrize(
  ("encoded", "pixels"),
  [
    (jpeg([(1, 2, 3)]), 20 * 20),
    (jpeg([(1,), (2,), (3,)]), 160 * 160),
    (jpeg([(1, 2), (3,)]), 160 * 160),
    (avif(), decode.MAX_PIXELS),
  ],
  ids=["interleaved", "scans", "two scans", "avif"],
)
def test_a_decode_takes_what_its_decoder_may_allocate(
  monkeypatch, encoded, pixels
):
  taken = []

  class Counted(PixelBudget):
    def taking(self, pixels):
      taken.append(pixels)
      return super().taking(pixels)

  monkeypatch.setattr(decode, "_BUDGET", Counted(10**9))
  decoded = decode_square(encoded, Settings(8))
  assert (decoded.height, decoded.width) == (160, 160)
  assert taken == [pixels]


@pytest.mark.parametrize("read", ["list", "image", "source"])
def test_pipes_devices_and_endless_files_are_not_read(tmp_path, read):
  from mixaug_jax.data import csv_rows
  from mixaug_jax.data.labelled_files import LabelledFiles

  os.mkfifo(tmp_path / "pipe")
  with open(tmp_path / "sparse", "wb") as file:
    file.truncate(regular_file.MAX_BYTES + 1)
  for name, why in {
    "pipe": "not a regular file",
    "/dev/zero": "not a regular file",
    "sparse": "more than 1,073,741,824",
  }.items():
    path = tmp_path / name
    if read == "list":
      with pytest.raises(UserError, match=why):
        csv_rows.read(path)
    elif read == "image":
      with pytest.raises(UserError, match=why):
        decode.read(path, Settings(8))
    else:
      source = LabelledFiles(tmp_path, [str(path)], ["x"], [0], ("a",), {})
      with pytest.raises(OSError, match=why):
        source[0]


def test_an_image_for_which_there_is_no_memory_is_not_bad(monkeypatch):
  file = io.BytesIO()
  Image.new("RGB", (9, 9)).save(file, "PNG")

  def full(*_, **__):
    raise MemoryError

  monkeypatch.setattr(Image.Image, "resize", full)
  with pytest.raises(MemoryError):
    decode_square(file.getvalue(), Settings(8))
  # Without its metadata it is read a second time.
  monkeypatch.setattr(decode.image_metadata, "removed", full)
  monkeypatch.setattr(Image.Image, "resize", lambda *_, **__: 1 / 0)
  with pytest.raises(MemoryError):
    decode_square(file.getvalue(), Settings(8))


def test_no_format_starts_a_program(monkeypatch):
  import subprocess

  def refuse(*args, **options):
    raise AssertionError("a program was started")

  monkeypatch.setattr(subprocess, "Popen", refuse)
  file = io.BytesIO()
  Image.new("RGB", (9, 9)).save(file, "EPS")
  with pytest.raises(BadImage, match="not an image in JPEG"):
    decode_square(file.getvalue(), Settings(8))
