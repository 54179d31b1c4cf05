"""The loss of JPEG compression as array operations, on any device.

The steps are those of libjpeg without the lossless entropy coding: RGB to
YCbCr, chroma at half the resolution, 8x8 cosine transform, coefficients divided
by the quantisation table of the quality and rounded, and all of it reversed.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.examples import each_example, factor
from mixaug_jax.augment.mesh import on_any_mesh
from mixaug_jax.augment.pixels import on_colours

# ITU-T T.81, tables K.1 and K.2.
_LUMA_TABLE = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ],
  np.float32,
)
_CHROMA_TABLE = np.full((8, 8), 99, np.float32)
_CHROMA_TABLE[:4, :4] = [
  [17, 18, 24, 47],
  [18, 21, 26, 66],
  [24, 26, 56, 99],
  [47, 66, 99, 99],
]


def _cosines() -> np.ndarray:
  """Returns the orthonormal DCT-II: `coefficients = matrix @ samples`."""
  k, n = np.mgrid[:8, :8]
  matrix = np.sqrt(2 / 8) * np.cos(np.pi * k * (2 * n + 1) / 16)
  matrix[0] /= np.sqrt(2)
  return matrix.astype(np.float32)


_DCT = _cosines()
# The fast inverse transform expects coefficients that are scaled by these.
_SCALES = np.array([1, *np.sqrt(2) * np.cos(np.arange(1, 8) * np.pi / 16)])
_SCALES = (np.round(np.outer(_SCALES, _SCALES) * 2**14) / 2**14).astype(
  np.float32
)


@on_any_mesh
def adjust_jpeg_quality(
  images: jax.Array, jpeg_quality: jax.Array | int
) -> jax.Array:
  """Encodes as JPEG at a quality and decodes; `tf.image.adjust_jpeg_quality`.

  Chroma has half the resolution (4:2:0), as in most encoders. The gradient is
  zero almost everywhere because JPEG rounds.

  Args:
    images: `[H, W, C]` or `[B, H, W, C]`, uint8, or float in [0, 1], with 1, 3
      (RGB) or 4 channels (RGB and alpha, which is not changed).
    jpeg_quality: libjpeg's quality, whole, 0 to 100 (0 acts as 1), a scalar or
      `[B]`; may be traced.

  Returns:
    Images of the same shape and dtype, with 256 levels a channel.

  Raises:
    ValueError: the quality is out of range.
  """
  check.colours(images)
  check.whole("jpeg_quality", jpeg_quality, 0, 100, per_example=True)
  quality = factor("jpeg_quality", jpeg_quality, images)
  if images.ndim == 4:
    quality = jnp.broadcast_to(quality.ravel(), len(images))
    return jax.vmap(adjust_jpeg_quality)(images, quality)

  def adjust(x):
    if x.dtype == jnp.uint8:
      return _coded(x.astype(jnp.float32), quality).astype(jnp.uint8)
    levels = jnp.floor(jnp.clip(x.astype(jnp.float32) * 255.5, 0, 255))
    return _coded(levels, quality).astype(x.dtype) * (1 / 255)

  return on_colours(adjust, images)


@on_any_mesh
def random_jpeg_quality(
  key: jax.Array,
  images: jax.Array,
  min_jpeg_quality: jax.Array | int,
  max_jpeg_quality: jax.Array | int,
) -> jax.Array:
  """Applies `adjust_jpeg_quality` at a quality uniform in [min, max].

  Args:
    key: a PRNG key.
    images: `[H, W, C]` or `[B, H, W, C]`, uint8 or float in [0, 1].
    min_jpeg_quality: lowest quality, whole, at least 0.
    max_jpeg_quality: highest quality, whole, at most 100.

  Raises:
    ValueError: a quality is not whole, or the bounds are out of range.
  """
  check.colours(images)
  check.interval(
    "min_jpeg_quality",
    min_jpeg_quality,
    "max_jpeg_quality",
    max_jpeg_quality,
    0,
    100,
  )
  check.whole("min_jpeg_quality", min_jpeg_quality, 0, 100, per_example=True)
  check.whole("max_jpeg_quality", max_jpeg_quality, 0, 100, per_example=True)

  def one(key, image):
    quality = draw.integer(key, min_jpeg_quality, max_jpeg_quality + 1)
    return adjust_jpeg_quality(image, quality)

  return each_example(one, key, images)


def _coded(levels, quality):
  """Encodes and decodes levels 0..255, float32 `[H, W, 1]` or `[H, W, 3]`."""
  height, width, channels = levels.shape
  around = ((0, -height % 16), (0, -width % 16))
  luma_table, chroma_table = _tables(quality)

  def coded(luma):
    luma = _quantised(jnp.pad(luma, around, "edge"), luma_table)
    return luma[:height, :width]

  if channels == 1:
    return coded(levels[..., 0])[..., None]
  red, green, blue = (levels[..., i] for i in range(3))
  luma = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
  blueness = jnp.round(
    -0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128
  )
  redness = jnp.round(
    0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128
  )

  def chroma(plane):
    # libjpeg repeats the last row of the halved plane.
    plane = _halved(jnp.pad(plane, ((0, height % 2), around[1]), "edge"))
    plane = jnp.pad(plane, ((0, -len(plane) % 8), (0, 0)), "edge")
    plane = _quantised(plane, chroma_table)
    plane = plane[: (height + 1) // 2, : (width + 1) // 2]
    return _doubled(plane)[:height, :width] - 128

  luma, blueness, redness = coded(luma), chroma(blueness), chroma(redness)
  rgb = jnp.stack(
    [
      luma + jnp.round(1.402 * redness),
      luma + jnp.round(-0.344136286 * blueness - 0.714136286 * redness),
      luma + jnp.round(1.772 * blueness),
    ],
    -1,
  )
  return jnp.clip(rgb, 0, 255)


def _tables(quality):
  """Scales the standard tables as libjpeg's `jpeg_quality_scaling` does."""
  quality = jnp.clip(quality, 1, 100).astype(jnp.int32)
  percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
  percent = percent.astype(jnp.float32)
  scaled = lambda table: jnp.clip(
    jnp.floor((table * percent + 50) / 100), 1, 255
  )
  return scaled(_LUMA_TABLE), scaled(_CHROMA_TABLE)


def _halved(plane):
  """Averages 2x2 pixels; halves round down and up by turns, as in libjpeg."""
  height, width = plane.shape
  sums = plane.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
  bias = 1 + jnp.arange(width // 2, dtype=jnp.float32)[None] % 2
  return jnp.floor((sums + bias) / 4)


def _quantised(plane, table):
  """Applies the cosine transform, quantises, and reverses the transform."""
  height, width = plane.shape
  blocks = (plane - 128).reshape(height // 8, 8, width // 8, 8)
  coefficients = jnp.einsum(
    "ij,ajbk,lk->aibl", _DCT, blocks, _DCT, precision="highest"
  )
  # libjpeg's integer transform yields eighths, and rounds ties away from zero.
  coefficients = jnp.round(coefficients * 8) / 8
  table = table[None, :, None, :]
  steps = jnp.floor(jnp.abs(coefficients) / table + 0.5)
  scales = jnp.floor(table * _SCALES[None, :, None, :] * 4 + 0.5)
  samples = jnp.sign(coefficients) * steps * scales
  samples = _fast_inverse(_fast_inverse(samples, 1), 3)
  samples = jnp.floor(samples / 32) + 128
  return jnp.clip(samples, 0, 255).reshape(height, width)


def _fast_inverse(x, axis):
  """Computes eight samples from scaled coefficients, as TensorFlow's decoder.

  This is Arai, Agui and Nakajima's transform (1988) in integers, with constants
  of eight bits and products rounded down. The exact transform would differ from
  it, and so from tf.image, by up to a few levels.
  """
  times = lambda x, constant: jnp.floor(x * constant / 256)
  x = [jnp.take(x, i, axis) for i in range(8)]
  # Even coefficients.
  total, difference = x[0] + x[4], x[0] - x[4]
  outer = x[2] + x[6]
  inner = times(x[2] - x[6], 362) - outer  # 362 / 256 = sqrt(2).
  even = (total + outer, difference + inner, difference - inner, total - outer)
  # Odd coefficients.
  near, far = x[1] + x[7], x[1] - x[7]
  middle, gap = x[5] + x[3], x[5] - x[3]
  turn = times(gap + far, 473)
  first = near + middle
  second = times(gap, -669) + turn - first
  third = times(near - middle, 362) - second
  fourth = times(far, 277) - turn + third
  odd = (first, second, third, -fourth)
  samples = [e + o for e, o in zip(even, odd, strict=True)]
  samples += [e - o for e, o in zip(even[::-1], odd[::-1], strict=True)]
  return jnp.stack(samples, axis)


def _doubled(plane):
  """Doubles the resolution by libjpeg's triangle filter.

  A pixel is 9, 3, 3 and 1 sixteenths of its nearest four. As in libjpeg, planes
  of one or two columns are repeated.
  """
  if plane.shape[1] <= 2:
    return jnp.repeat(jnp.repeat(plane, 2, 0), 2, 1)

  def along(x, axis):
    x = jnp.moveaxis(x, axis, -1)
    before = jnp.concatenate([x[..., :1], x[..., :-1]], -1)
    after = jnp.concatenate([x[..., 1:], x[..., -1:]], -1)
    pair = jnp.stack([3 * x + before, 3 * x + after], -1)
    return jnp.moveaxis(pair.reshape(*x.shape[:-1], -1), -1, axis)

  sums = along(along(plane, 0), 1)
  # libjpeg adds 8 and 7 by turns, so halves round up and down by turns.
  bias = 8 - jnp.arange(sums.shape[1], dtype=jnp.float32)[None] % 2
  return jnp.floor((sums + bias) / 16)
