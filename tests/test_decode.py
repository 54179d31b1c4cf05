"""Every kind of image file is decoded to an upright RGB square."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from mixaug_jax.data.boxes import box_in_square
from mixaug_jax.data.decode import (
  BadImage,
  Settings,
  decode_square,
  picture_size,
  range_warning,
)


def _gradient(width=40, height=24):
  """Red grows to the right, green downwards."""
  red, green = np.meshgrid(
    np.linspace(0, 255, width), np.linspace(0, 255, height)
  )
  array = np.stack([red, green, np.full_like(red, 60)], -1)
  return Image.fromarray(array.astype(np.uint8))


def _encoded(picture, format="PNG", **options):
  file = io.BytesIO()
  picture.save(file, format, **options)
  return file.getvalue()


def _decode(picture, size=16, resize="squash", **options):
  return decode_square(
    _encoded(picture, **options), Settings(size, resize)
  ).pixels.astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
  upright = _gradient()
  exif = Image.Exif()
  exif[0x0112] = orientation
  # A camera stores the inverse of the rotation that a viewer applies.
  inverse = {6: 8, 8: 6}.get(orientation, orientation)
  stored = upright.copy()
  stored.getexif()[0x0112] = inverse
  stored = ImageOps.exif_transpose(stored)
  actual = _decode(stored, format="PNG", exif=exif)
  np.testing.assert_allclose(actual, _decode(upright), atol=1)


@pytest.mark.parametrize(
  ("format", "options"),
  [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})],
)
def test_formats_agree(format, options):
  actual = _decode(_gradient(), format=format, **options)
  np.testing.assert_allclose(actual, _decode(_gradient()), atol=8)


def test_greyscale_has_three_equal_channels():
  grey = _decode(_gradient().convert("L"))
  assert (grey[..., 0] == grey[..., 1]).all()
  assert (grey[..., 0] == grey[..., 2]).all()
  assert grey.std() > 10


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_on_white(mode):
  clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
  picture = clear.convert(mode) if mode != "PA" else clear.convert("P")
  options = {"transparency": 0} if mode == "PA" else {}
  if mode == "PA":
    picture = Image.new("P", (20, 20), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
  assert (_decode(picture, **options) == 255).all()


def test_a_palette_becomes_its_colours():
  picture = _gradient().quantize(256)
  np.testing.assert_allclose(_decode(picture), _decode(_gradient()), atol=20)


def test_cmyk_is_converted():
  red = Image.new("RGB", (32, 32), (250, 10, 10)).convert("CMYK")
  middle = _decode(red, format="JPEG", quality=95)[8, 8]
  np.testing.assert_allclose(middle, (250, 10, 10), atol=12)


def test_sixteen_bits_become_eight_and_are_not_clipped():
  values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
  actual = _decode(Image.fromarray(values), size=8)
  np.testing.assert_array_equal(actual[..., 0], values >> 8)


def test_the_first_frame_of_an_animation_is_taken():
  frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
  actual = _decode(
    frames[0],
    format="WEBP",
    save_all=True,
    append_images=frames[1:],
    lossless=True,
  )
  np.testing.assert_allclose(actual[8, 8], (255, 0, 0), atol=3)


def test_crop_keeps_the_centre_pad_adds_black_squash_keeps_all():
  picture = Image.new("RGB", (30, 10), "black")
  picture.paste("white", (10, 0, 20, 10))
  assert (_decode(picture, 10, "crop") == 255).all()
  squashed = _decode(picture, 30, "squash")[15, :, 0]
  assert squashed[[2, 15, 27]].tolist() == [0, 255, 0]
  padded = _decode(Image.new("RGB", (30, 10), "white"), 30, "pad")[:, 15, 0]
  assert padded[[2, 15, 27]].tolist() == [0, 255, 0]


def _green_box(square):
  """Edges of the region that is more green than black, in fractions."""
  rows, columns = np.nonzero(square[..., 1] > 127)
  return (
    np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
    / square.shape[0]
  )


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(90, 50), (50, 90), (64, 64), (130, 129)])
@pytest.mark.parametrize(
  "box",
  [(0.3, 0.4, 0.7, 0.65), (0.0, 0.1, 0.9, 1.0), (0, 0, 1, 1)],
)
def test_a_box_lies_where_its_pixels_do(resize, size, box):
  width, height = size
  edges = np.round(np.multiply(box, [height, width, height, width]))
  top, left, bottom, right = (int(edge) for edge in edges)
  picture = Image.new("RGB", size, "black")
  picture.paste((0, 255, 0), (left, top, right, bottom))
  actual = box_in_square(
    resize, height, width, edges / [height, width, height, width]
  )
  assert actual.dtype == np.float32
  square = _decode(picture, 40, resize)
  np.testing.assert_allclose(actual, _green_box(square), atol=1 / 40)


def test_a_box_that_the_crop_cuts_off_has_no_area():
  ymin, xmin, ymax, xmax = box_in_square("crop", 10, 30, [0.2, 0, 0.8, 0.3])
  assert (ymax - ymin) * (xmax - xmin) == 0


def test_boxes_of_many_pictures_are_transformed_at_once():
  boxes = np.random.default_rng(0).uniform(size=(6, 4)).astype(np.float32)
  heights, widths = np.arange(6) + 10, np.arange(6)[::-1] * 7 + 5
  for resize in ("crop", "squash", "pad"):
    together = box_in_square(resize, heights, widths, boxes)
    for row in range(6):
      np.testing.assert_array_equal(
        together[row],
        box_in_square(resize, heights[row], widths[row], boxes[row]),
      )


def test_shrinking_is_antialiased():
  checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
  actual = _decode(Image.fromarray(checks), 8)
  np.testing.assert_allclose(actual, 127.5, atol=12)


def _bomb():
  header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
  chunk = lambda kind, body: (
    struct.pack(">I", len(body))
    + kind
    + body
    + struct.pack(">I", zlib.crc32(kind + body))
  )
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "the file is empty"),
    (b"hello", "damaged or not an image in JPEG, PNG, WEBP"),
    # Formats that Pillow reads, and this does not.
    (_encoded(_gradient(), "ICO"), "not an image in JPEG"),
    (_encoded(_gradient(), "EPS"), "not an image in JPEG"),
    (_encoded(_gradient(), "JPEG")[:300], "(?i)truncated"),
    (_bomb(), "decompression bomb"),
  ],
)
def test_the_reason_of_a_bad_image_is_reported(content, reason):
  with pytest.raises(BadImage, match=reason):
    decode_square(content, Settings(16))


# A red left half and a blue right half; orientation 6 puts red on top.
_SIDES = np.zeros((60, 80, 3), np.uint8)
_SIDES[:, :40] = (250, 10, 10)
_SIDES[:, 40:] = (10, 10, 250)


def _sides(format, exif=b"", **options):
  if format in ("JPEG", "MPO"):
    exif = b"Exif\0\0" + exif
  return _encoded(Image.fromarray(_SIDES), format, exif=exif, **options)


def _is_upright(image):
  """Checks that the picture was turned, and that its size agrees."""
  decoded = decode_square(image, Settings(32))
  size = decoded.height, decoded.width
  assert picture_size(image) == size
  top, left = decoded.pixels[2, 16], decoded.pixels[16, 2]
  if size == (80, 60):
    assert top[0] > 200
    return True
  assert size == (60, 80)
  assert left[0] > 200
  return False


def _ifd(entries, base=8, order="<"):
  """A TIFF directory of (tag, type, count, content) at the offset `base`."""
  head, tail = struct.pack(order + "H", len(entries)), b""
  end = base + 2 + 12 * len(entries) + 4
  for tag, kind, count, content in entries:
    value = content.ljust(4, b"\0")
    if len(content) > 4:
      value = struct.pack(order + "I", end + len(tail))
      tail += content + b"\0" * (len(content) % 2)
    head += struct.pack(order + "HHI", tag, kind, count) + value
  return head + bytes(4) + tail


_TIFF = b"II*\0\x08\0\0\0"
_SIDEWAYS = (0x112, 3, 1, b"\6\0")  # The orientation 6.
_EXIF = _TIFF + _ifd([_SIDEWAYS])


def _exif(*entries):
  return _TIFF + _ifd([_SIDEWAYS, *entries])


def _sub(pointer, entry):
  """EXIF whose directory points to another one with one entry."""
  first = 8 + 2 + 2 * 12 + 4
  pointing = (pointer, 4, 1, struct.pack("<I", first))
  return _exif(pointing) + _ifd([entry], first)


_BROKEN_EXIF = {
  "a width of text": _exif((0x100, 2, 4, b"abc\0")),
  "bits of text": _exif((0x102, 2, 4, b"8,8\0")),
  "a resolution of text": _exif((0x11A, 2, 3, b"72\0")),
  "a resolution of 0/0": _exif((0x11A, 5, 1, bytes(8))),
  "positions of text": _exif((0x213, 2, 2, b"1\0")),
  "a pointer to nowhere": _exif((0x8769, 4, 1, b"\xff\xff\0\0")),
  "a pointer to itself": _exif((0x8769, 4, 1, b"\x08\0\0\0")),
  "an altitude of text": _sub(0x8825, (6, 2, 4, b"abc\0")),
  "a signed altitude": _sub(0x8825, (6, 10, 1, struct.pack("<ii", -5, 1))),
  "a GPS version of text": _sub(0x8825, (0, 2, 8, b"2.2.0.0\0")),
  "an exposure of 0/0": _sub(0x8769, (0x829A, 5, 1, bytes(8))),
  "an unknown type": _sub(0x8769, (0x9286, 0, 4, b"abcd")),
  "an orientation of text": _TIFF + _ifd([(0x112, 2, 2, b"6\0")]),
  "an orientation of bytes": _TIFF + _ifd([(0x112, 1, 1, b"\6")]),
  "two orientations": _TIFF + _ifd([(0x112, 3, 2, b"\6\0\6\0")]),
  "more entries than bytes": _EXIF[:8] + b"\xff\xff" + _EXIF[10:22],
}


@pytest.mark.parametrize("exif", _BROKEN_EXIF.values(), ids=_BROKEN_EXIF)
def test_broken_exif_leaves_pixels_and_orientation_readable(exif):
  for format in ("JPEG", "PNG", "WEBP"):
    assert _is_upright(_sides(format, exif))


@pytest.mark.parametrize(
  "exif",
  [
    b"garbage!",
    _TIFF,
    _TIFF + _ifd([(0x112, 3, 1, b"\x09\0")]),
    _TIFF + _ifd([(0x112, 11, 1, struct.pack("<f", np.nan))]),
  ],
)
def test_an_unreadable_orientation_is_ignored(exif):
  for format in ("JPEG", "PNG", "WEBP"):
    assert not _is_upright(_sides(format, exif))


def test_the_orientation_of_every_format_is_applied():
  picture = Image.fromarray(_SIDES)
  for format in ("AVIF", "WEBP", "PNG", "JPEG"):
    assert _is_upright(_sides(format, _EXIF))
  for compression in (None, "tiff_deflate", "jpeg"):
    options = {"compression": compression, "tiffinfo": {0x112: 6}}
    assert _is_upright(_encoded(picture, "TIFF", **options))
  xmp = {700: b'<a tiff:Orientation="6"/>'}
  quoted = b"<a tiff:Orientation='6'/>"
  assert _is_upright(_encoded(picture, "TIFF", tiffinfo=xmp))
  assert _is_upright(
    _encoded(picture, "TIFF", tiffinfo={0x112: 6, 700: quoted})
  )
  several = {"save_all": True, "append_images": [picture]}
  mpo = _sides("MPO", _EXIF, **several)
  assert Image.open(io.BytesIO(mpo)).format == "MPO"
  assert _is_upright(mpo)
  for format in ("GIF", "BMP", "PPM"):
    assert not _is_upright(_encoded(picture, format))


@pytest.mark.parametrize(
  "text",
  [
    b'<a tiff:Orientation="6"/>',
    b"<a tiff:Orientation='6'/>",
    b"<tiff:Orientation>6</tiff:Orientation>",
  ],
)
def test_the_orientation_of_xmp_is_applied_where_exif_has_none(text):
  jpeg = _encoded(Image.fromarray(_SIDES), "JPEG")
  xmp = b"http://ns.adobe.com/xap/1.0/\0" + text
  assert _is_upright(_with_segment(jpeg, 0xE1, xmp))
  broken = _with_segment(jpeg, 0xE1, b"Exif\0\0garbage")
  assert _is_upright(_with_segment(broken, 0xE1, xmp))


def _with_segment(jpeg, marker, content):
  head = struct.pack(">BBH", 0xFF, marker, len(content) + 2)
  return jpeg[:2] + head + content + jpeg[2:]


@pytest.mark.parametrize(
  ("marker", "content"),
  [
    (0xE0, b"JFIF\0"),
    (0xE2, b"ICC_PROFILE\0"),
    (0xE2, b"MPF\0garbage"),
    (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    (0xEE, b"Adobe"),
    (0xFE, b"\xff\xff"),
  ],
)
def test_broken_metadata_of_a_jpeg_is_ignored(marker, content):
  jpeg = _sides("JPEG", _EXIF)
  assert _is_upright(_with_segment(jpeg, marker, content))


def test_broken_metadata_leaves_the_colours_of_a_jpeg():
  jpeg = _encoded(_gradient(), "JPEG", quality=95)
  bare = jpeg[:2] + jpeg[20:]  # Without JFIF, which takes precedence.
  adobe = b"Adobe\0\x64" + bytes(5)  # The samples are RGB, not YCbCr.
  for whole in (jpeg, _with_segment(bare, 0xEE, adobe)):
    for kept in (whole, _with_segment(whole, 0xEE, adobe)):
      broken = _with_segment(kept, 0xE2, b"ICC_PROFILE\0")
      np.testing.assert_array_equal(
        decode_square(broken, Settings(16)).pixels,
        decode_square(kept, Settings(16)).pixels,
      )
  as_rgb, as_ycbcr = (
    decode_square(i, Settings(16)).pixels for i in (whole, jpeg)
  )
  assert np.abs(as_rgb.astype(int) - as_ycbcr).mean() > 20


def _chunk(kind, content, checksum=None):
  if checksum is None:
    checksum = zlib.crc32(kind + content)
  head = struct.pack(">I", len(content)) + kind
  return head + content + struct.pack(">I", checksum)


@pytest.mark.parametrize(
  "chunk",
  [
    _chunk(b"iCCP", b""),
    _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    _chunk(b"zTXt", b"a\0\5"),
    _chunk(b"tEXt", b"a\0b", checksum=1),
    _chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 12\nzz\n"),
    _chunk(b"pHYs", b"\0"),
    _chunk(b"gAMA", b"\0"),
    _chunk(b"acTL", b"\0"),
  ],
)
def test_broken_metadata_of_a_png_is_ignored(chunk):
  png = _sides("PNG", _EXIF)
  assert _is_upright(png[:33] + chunk + png[33:])


def test_broken_pixels_are_not_repaired():
  png = bytearray(_encoded(_gradient()))
  png[png.index(b"IDAT") + 20] ^= 0xFF
  with pytest.raises(BadImage):
    decode_square(bytes(png), Settings(16))


def test_transparency_stays_where_metadata_is_broken():
  picture = Image.new("P", (20, 20), 0)
  picture.putpalette([255, 0, 0])
  png = _encoded(picture, transparency=0)
  broken = png[:33] + _chunk(b"pHYs", b"\0") + png[33:]
  assert (decode_square(broken, Settings(8)).pixels == 255).all()


def _ramp(top, dtype=np.uint16):
  return (np.linspace(0, 1, 64).reshape(8, 8) * top).astype(dtype)


def _tiff(pixels, bits, *, white_is_zero=False, sample_format=1):
  """An uncompressed TIFF of samples of any type."""
  height, width = pixels.shape[:2]
  channels = pixels.shape[2] if pixels.ndim == 3 else 1
  short = lambda tag, *values: (
    (tag, 3, len(values), struct.pack(f"<{len(values)}H", *values))
  )
  photometric = 2 if channels == 3 else int(not white_is_zero)

  def file(offset):
    entries = [short(256, width), short(257, height)]
    entries += [short(258, *[bits] * channels), short(259, 1)]
    entries += [short(262, photometric), short(273, offset)]
    entries += [short(277, channels), short(278, height)]
    entries += [short(279, pixels.nbytes)]
    entries += [short(339, *[sample_format] * channels)]
    return _TIFF + _ifd(entries)

  return file(len(file(0))) + pixels.tobytes()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize(
  "kind", ["PNG", "TIFF", "big-endian", "PGM", "32 bits"]
)
def test_the_bits_of_sixteen_are_shifted_to_eight(bits, kind):
  values = _ramp(2**bits - 1)
  encoded = {
    "PNG": lambda: _encoded(Image.fromarray(values)),
    "TIFF": lambda: _tiff(values, 16),
    "big-endian": lambda: _encoded(
      Image.fromarray(values.astype(">u2")), "TIFF"
    ),
    "PGM": lambda: _encoded(Image.fromarray(values), "PPM"),
    "32 bits": lambda: _tiff(values.astype(np.int32), 32, sample_format=2),
  }[kind]()
  decoded = decode_square(encoded, Settings(8, bits=bits))
  assert decoded.peak == 2**bits - 1
  for channel in range(3):
    np.testing.assert_array_equal(
      decoded.pixels[..., channel], values >> (bits - 8)
    )


@pytest.mark.parametrize(
  "encoded",
  [
    _encoded(Image.fromarray(_ramp(4096))),
    _tiff(_ramp(4095, np.int16) - np.int16(1), 16, sample_format=2),
    _tiff(_ramp(70_000, np.int32), 32, sample_format=2),
  ],
)
def test_values_outside_the_bits_are_reported(encoded):
  with pytest.raises(BadImage, match=r"config\.data\.bits=12 .* 0 to 4,095"):
    decode_square(encoded, Settings(8, bits=12))


def test_white_may_be_zero():
  values = _ramp(4095)
  white = _tiff(values, 16, white_is_zero=True)
  np.testing.assert_array_equal(
    decode_square(white, Settings(8, bits=12)).pixels[..., 0],
    255 - (values >> 4),
  )


def test_a_transparent_value_of_sixteen_bits_becomes_white():
  values = _ramp(65535)
  png = _encoded(Image.fromarray(values))
  png = png[:33] + _chunk(b"tRNS", b"\0\0") + png[33:]
  expected = values >> 8
  expected[values == 0] = 255
  np.testing.assert_array_equal(
    decode_square(png, Settings(8)).pixels[..., 0], expected
  )


def test_a_pgm_states_its_own_range():
  values = _ramp(4095)
  pgm = b"P5 8 8 4095\n" + values.astype(">u2").tobytes()
  for bits in (12, 16):
    decoded = decode_square(pgm, Settings(8, bits=bits))
    assert decoded.peak is None
    np.testing.assert_allclose(decoded.pixels[..., 0], values / 16, atol=1)


def _deep_png(values):
  """A PNG of 16 bits per colour."""
  height, width = values.shape[:2]
  header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
  chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows))
  return b"\x89PNG\r\n\x1a\n" + chunks + _chunk(b"IEND", b"")


def test_sixteen_bits_per_colour_are_read_only_in_their_full_range():
  values = np.stack([_ramp(65535), _ramp(4095), _ramp(0)], -1)
  ppm = b"P6 8 8 65535\n" + values.astype(">u2").tobytes()
  for encoded in (_deep_png(values), _tiff(values, 16), ppm):
    decoded = decode_square(encoded, Settings(8))
    np.testing.assert_allclose(decoded.pixels, values >> 8, atol=1)
    assert decoded.peak == 65535
    with pytest.raises(BadImage, match=r"bits=12 is only for greyscale"):
      decode_square(encoded, Settings(8, bits=12))
  dark = decode_square(_deep_png(values // 16), Settings(8))
  assert 4095 <= dark.peak < 4096 + 256
  assert decode_square(_encoded(_gradient()), Settings(8)).peak is None


def test_floats_of_a_tiff_are_fractions():
  values = _ramp(255) / np.float32(255)
  decoded = decode_square(_tiff(values, 32, sample_format=3), Settings(8))
  np.testing.assert_array_equal(decoded.pixels[..., 0], _ramp(255))
  with pytest.raises(
    BadImage, match=r"float32 \[8, 8\] with values from 0 to 2"
  ):
    decode_square(_tiff(values * 2, 32, sample_format=3), Settings(8))


@pytest.mark.parametrize(
  ("peak", "bits", "advice"),
  [
    (65535, 16, None),
    (16384, 16, None),
    (16383, 16, "data.bits=14"),
    (4095, 16, "data.bits=12"),
    (1023, 16, "data.bits=10"),
    (255, 16, "8-bit files"),
    (4095, 12, None),
    (1023, 12, "data.bits=10"),
  ],
)
def test_a_range_that_is_not_used_gives_a_warning(peak, bits, advice):
  warning = range_warning(peak, bits)
  if advice is None:
    assert warning is None
  else:
    assert advice in warning
    assert f"{peak:,} of {2**bits - 1:,}" in warning


_ARRAY = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_arrays_are_accepted_as_bytes_or_fractions(channels, dtype):
  expected = _ARRAY if channels == (3,) else _ARRAY[..., :1]
  array = expected if channels else expected[..., 0]
  if dtype != "uint8":
    array = (array / 255).astype(dtype)
  decoded = decode_square(array, Settings(8))
  np.testing.assert_array_equal(
    decoded.pixels, np.broadcast_to(expected, (8, 8, 3))
  )
  assert (decoded.height, decoded.width, decoded.peak) == (8, 8, None)
  assert picture_size(array[:, :5]) == (8, 5)


@pytest.mark.parametrize(
  ("image", "reason"),
  [
    (np.zeros((8, 8, 4), np.uint8), r"uint8 \[8, 8, 4\]; an array must be"),
    (np.zeros((3, 8, 8), np.uint8), r"uint8 \[3, 8, 8\]"),
    (np.zeros((8,), np.uint8), r"uint8 \[8\]"),
    (np.zeros((0, 8, 3), np.uint8), r"uint8 \[0, 8, 3\]"),
    (np.uint8(3), "of type uint8"),
    (np.array(3), r"int64 \[\]"),
    (np.zeros((8, 8), np.uint16), r"uint16 \[8, 8\]"),
    (np.zeros((8, 8), np.int64), r"int64 \[8, 8\]"),
    (np.zeros((8, 8), bool), r"bool \[8, 8\]"),
    (np.full((8, 8), 255.0), r"float64 \[8, 8\] with values from 255 to 255"),
    (np.full((8, 8), -0.1), "values from -0.1 to -0.1"),
    (np.full((8, 8), np.nan), "values from nan to nan"),
    ([[0, 1]], "of type list"),
    (_gradient(), "of type Image"),
    (None, "of type NoneType"),
  ],
)
def test_other_arrays_are_reported_by_shape_and_type(image, reason):
  for read in (lambda image: decode_square(image, Settings(8)), picture_size):
    with pytest.raises(BadImage, match=reason):
      read(image)
