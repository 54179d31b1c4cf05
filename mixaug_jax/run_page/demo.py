"""A page on this machine that classifies photos by a run, made with Gradio."""

import importlib
from typing import Any

import numpy as np

from mixaug_jax.data import decode
from mixaug_jax.data.class_names import readable
from mixaug_jax.errors import NoActivationMaps, UserError
from mixaug_jax.pages import maps
from mixaug_jax.run_page import words
from mixaug_jax.runs import Run

_TOP = 5


def make(run: Run) -> Any:
  """Returns the page, a `gradio.Blocks`; nothing is sent to other machines.

  Its function `look` takes the file of a photo. It returns the probabilities of
  the most likely classes and of all labels that it gives, what the network
  sees, and that with the activation map of the most likely class, or None if
  the model has no maps.

  Raises:
    UserError: the checkpoint of the run is damaged.
  """
  gradio = importlib.import_module("gradio")
  network, names = run.classifier(), readable(run.result.class_names)
  logits = network.predictor()
  thresholds = run.result.thresholds
  limits = thresholds.array() if thresholds else None
  note = run.likelihood.note
  if thresholds:
    note += "; a label is given from the threshold of its class on"

  def look(path: str | None) -> tuple[dict[str, float] | None, Any, Any]:
    if path is None:
      return None, None, None
    try:
      stored = decode.read(path, network.square)[None]
    except UserError as error:
      raise gradio.Error(str(error)) from error
    outputs = logits(stored)[0]
    # The thresholds are of float64, as in `predictions.classify`.
    kind = np.float64 if thresholds else outputs.dtype
    row = run.likelihood.probabilities(outputs.astype(kind))[0]
    has = np.zeros(len(row), bool) if limits is None else row >= limits
    order = np.argsort(-row)
    top = [i for place, i in enumerate(order) if place < _TOP or has[i]]
    given = [" (given)" * bool(has[i]) for i in top]
    classes = {
      f"{names[i]}{mark}": float(row[i])
      for i, mark in zip(top, given, strict=True)
    }
    try:
      seen, mapped = maps.over(network, stored, order[:1])
    except NoActivationMaps:
      return classes, maps.enlarged(network.shown(stored))[0], None
    return classes, maps.enlarged(seen)[0], maps.enlarged(mapped)[0]

  title = words.title(run)
  with gradio.Blocks(title=title, analytics_enabled=False) as page:
    gradio.Markdown(f"# {title}\n\n{note}")
    with gradio.Row():
      # Not an Image, which would decode the photo in another way.
      photo = gradio.File(label="Photo")
      classes = gradio.Label(label="Classes")
    with gradio.Row():
      seen = gradio.Image(label="What the network sees")
      mapped = gradio.Image(label="Activation map of the most likely class")
    photo.change(look, photo, [classes, seen, mapped], api_name="look")
  return page
