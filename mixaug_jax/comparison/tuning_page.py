"""The section of a comparison's page on its tuning."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mixaug_jax.comparison import tuning_figures, tuning_words
from mixaug_jax.pages import drawing, words

_ENDS = {"lower": " ▾", "upper": " ▴"}


def content(
  tuning: Mapping[str, Any],
  baseline: str,
  seconds: Mapping[str, Sequence[float]],
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Returns what the template shows, drawing the figures on the way.

  Args:
    tuning: the numbers of the tuning.
    baseline: the arm that the others are measured against.
    seconds: of training, of each run that is compared, by arm.
    folder: the folder of the PNG files.

  Returns:
    `figures`, elements of the page with their captions; the table of the
    chosen recipes, `columns` and `chosen`; and `notes`, sentences.
  """
  paint = drawing.colours(list(tuning["arms"]), baseline)
  studies, score = tuning["studies"], words.figure(tuning["best_by"])
  drawn = []
  for name, figure, description, caption in (
    (
      "best_of_k",
      tuning_figures.best_of_k(tuning, paint),
      f"expected validation {score} of the best of k trials",
      f"Expected validation {score} of the best of k trials"
      + (" of a study" if studies > 1 else "")
      + " (Tang et al., 2020)"
      + (
        "; the band extends from the lowest to the highest study"
        if studies > 1
        else ""
      )
      + ". It also rises by chance, because trials are chosen on these images.",
    ),
    (
      "gains",
      tuning_figures.gains(tuning, paint, baseline),
      "gain of every arm at every recipe",
      "The gain at every recipe, on validation: a dot is the difference to "
      f"{baseline}, or to the arm that is named, with the same values of what "
      "both tune, the same seed and images. Ring: the recipe as it is written. "
      "Stroke: the mean.",
    ),
  ):
    drawn.append((drawing.element(figure, name, description, folder), caption))
  keys = [
    key
    for key in tuning["space"]
    if any(
      key in choice["values"]
      for arm in tuning["arms"].values()
      for choice in arm["chosen"]
    )
  ]
  validation = f"validation {score}, %"
  return {
    "figures": drawn,
    "columns": ["arm", "study", "trial", validation, *keys],
    "chosen": [
      {
        "arm": name,
        validation: f"{100 * choice['score']:.1f}",
        **_row(choice, keys),
      }
      for name, arm in tuning["arms"].items()
      for choice in arm["chosen"]
    ],
    "notes": [
      tuning_words.design(tuning, max(map(len, seconds.values()))),
      *tuning_words.budget(tuning, sum(map(sum, seconds.values()))),
      "▾ and ▴ mark values at the lower and the upper end of their range.",
    ],
  }


def _row(choice: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
  """Returns a chosen recipe as texts; a key that is not tuned is empty."""
  row = {
    "study": choice["study"],
    "trial": choice["number"],
  }
  for key in keys:
    text = _text(choice["values"][key]) if key in choice["values"] else ""
    row[key] = text + _ENDS.get(choice["ends"].get(key), "")
  return row


def _text(value: Any) -> str:
  if value is None:  # As the alpha of a mixer, whose default is the paper's.
    return "default"
  if isinstance(value, float):
    return f"{value:.3g}"
  return str(value).lower() if isinstance(value, bool) else str(value)
