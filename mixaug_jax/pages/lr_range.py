"""The picture and the table of a learning-rate range test."""

import csv
import io
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mixaug_jax import files
from mixaug_jax.errors import UserError, reason
from mixaug_jax.names import printable
from mixaug_jax.pages import drawing
from mixaug_jax.training.lr_curve import Curve, Suggestion

_COLUMNS = ("step", "learning_rate", "loss", "smoothed_loss")
_ABOVE = 1.3  # The highest loss shown, times that of the first steps.


def figure(curve: Curve, found: Suggestion | None) -> Figure:
  """Draws the losses by learning rate, and the rates that they point at."""
  smooth = curve.smooth
  with matplotlib.rc_context(drawing.STYLE):
    drawn = Figure((6.0, 3.6), layout="constrained")
    axes = drawn.subplots()
    axes.plot(
      curve.rates,
      curve.losses,
      ".",
      color=drawing.GREY,
      markersize=3,
      label="loss of a step",
    )
    axes.plot(curve.rates, smooth, color=drawing.COLOURS[0], label="smoothed")
    if found is not None:
      for rate, style, colour, name in (
        (found.steepest, ":", drawing.COLOURS[2], "steepest fall"),
        (found.tenth, "--", drawing.COLOURS[2], "a tenth of the lowest"),
        (found.rate, "-", drawing.COLOURS[1], "suggestion"),
      ):
        label = f"{name}: {rate:.2g}"
        axes.axvline(rate, linestyle=style, color=colour, label=label)
    axes.set_xscale("log")
    shown = curve.losses[np.isfinite(smooth)]
    # The losses of a network that diverges would hide all others.
    top = min(shown.max(), _ABOVE * max(smooth[0], shown.min()))
    margin = 0.05 * (top - shown.min()) or 0.1
    axes.set_ylim(shown.min() - margin, top + margin)
    axes.set_xlabel("learning rate")
    axes.set_title("Training loss by learning rate", loc="left")
    drawn.legend(loc="outside right upper")
  return drawn


def picture(drawn: Figure) -> Image.Image:
  """Returns a figure as an image, on white."""
  buffer = io.BytesIO()
  drawn.savefig(buffer, format="png", dpi=160, facecolor="white")
  buffer.seek(0)
  with Image.open(buffer) as opened:
    return opened.convert("RGB")


def write_csv(path: pathlib.Path, curve: Curve) -> None:
  """Writes a row for each step. Raises OSError."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(_COLUMNS)
  rows = zip(curve.rates, curve.losses, curve.smooth, strict=True)
  for step, row in enumerate(rows):
    writer.writerow((step, *(f"{value:.9g}" for value in row)))
  with files.replacing(path) as part:
    part.write_text(text.getvalue(), "utf-8")


def refuse_another_csv(path: pathlib.Path) -> None:
  """Raises UserError if there is anything that `write_csv` has not made."""
  what = printable(str(path))
  try:
    files.refuse_link(path)
    text = files.read_bytes(path, 1000).decode("utf-8", "replace")
  except FileNotFoundError:
    return
  except OSError as error:
    raise UserError(
      f"cannot write {what}: {reason(error)}; name another --output"
    ) from None
  if text.partition("\n")[0] != ",".join(_COLUMNS):
    raise UserError(
      f"{what} exists and was not made by lr_range; remove it, or name another "
      "--output"
    )
