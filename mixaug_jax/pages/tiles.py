"""Small pictures for the cells of a page's tables."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from mixaug_jax.pages import render

_SIDE = 112  # Pixels of the page.
_MOST = 160  # Pixels of the file, for screens with small pixels.


def tile(image: np.ndarray, description: str) -> Markup:
  """Returns an image as an element of a page, about 112 pixels a side.

  A small image grows by a whole factor in the browser, so that its pixels stay
  squares; a large one is reduced to 160 pixels.

  Args:
    image: uint8 `[H, H, 3]`, or float in [0, 1].
    description: plain text for readers who cannot see it.
  """
  if image.dtype != np.uint8:
    image = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
  picture, side = Image.fromarray(image), len(image)
  if side > _MOST:
    picture = picture.resize((_MOST, _MOST), Image.Resampling.LANCZOS)
  png = io.BytesIO()
  picture.save(png, "PNG", optimize=True)
  shown = side * max(1, _SIDE // side) if side < _SIDE else _SIDE
  return render.embedded(png.getvalue(), description, shown)


def row(
  name: str,
  images: np.ndarray | Sequence[np.ndarray],
  captions: Sequence[str],
  correct: Sequence[bool | None] | None = None,
) -> dict[str, Any]:
  """Returns a row of the macro `tiles`.

  Args:
    name: the heading of the row.
    images: as in `tile`.
    captions: the text below each image.
    correct: whether each caption is right; None: none can be right or wrong.
  """
  correct = [None] * len(images) if correct is None else correct
  return {
    "name": name,
    "cells": [
      {
        "picture": tile(image, f"{name}: {caption}"),
        "caption": caption,
        "right": None if right is None else bool(right),
      }
      for image, caption, right in zip(images, captions, correct, strict=True)
    ],
  }
