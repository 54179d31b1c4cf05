"""Every kind of image file is decoded to an upright RGB square."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from mixaug_jax.data.decode import BadImage, Settings, box_in_square, decode


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
  return decode(
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
    (b"hello", "not an image"),
    (_encoded(_gradient(), "JPEG")[:300], "(?i)truncated"),
    (_bomb(), "decompression bomb"),
  ],
)
def test_the_reason_of_a_bad_image_is_reported(content, reason):
  with pytest.raises(BadImage, match=reason):
    decode(content, Settings(16))
