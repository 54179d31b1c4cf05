"""Writes the page of a comparison, with its figures and its tables."""

import datetime
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import mixaug_jax
from mixaug_jax.analysis import mistakes
from mixaug_jax.comparison import (
  baselines,
  by_class,
  circumstances,
  drawings,
  pictures,
  results,
  summary,
  tuning_numbers,
  tuning_page,
  tuning_words,
  with_views,
  words,
)
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.data.class_names import readable
from mixaug_jax.errors import UserError
from mixaug_jax.pages import render
from mixaug_jax.pages import words as shared
from mixaug_jax.training import records

_PAIRS = 6  # Of confused classes.


def write(comparison: Comparison, command: str) -> str:
  """Writes report.html, results.json, results.csv and figures/*.png.

  Args:
    comparison: at least one run of its baseline is finished.
    command: the command line that runs it again.

  Returns:
    The verdict, and the path of the page.

  Raises:
    UserError: no finished run of the baseline, or a damaged one.
  """
  root = comparison.workdir
  tuning = None
  if comparison.tuning:
    tuning = tuning_numbers.summarise(
      comparison.tuning, comparison.baseline, comparison.pairs
    )
  try:
    classical, notes = baselines.measure(comparison)
  except (UserError, OSError) as error:
    classical, notes = {}, [f"Classical classifiers are left out: {error}."]
  try:
    numbers = summary.summarise(
      comparison.runs,
      comparison.baseline,
      comparison.goal,
      comparison.diverged,
      comparison.planned,
      classical,
      comparison.pairs,
      {name: x["score"] for name, x in tuning["arms"].items()}
      if tuning
      else None,
      comparison.best_by,
    )
  except ValueError as error:
    raise UserError(f"{root}: {error}; delete the older ones") from None
  numbers["tuning"] = tuning
  if comparison.views:
    numbers["views"] = with_views.measure(comparison, comparison.views)
    notes = [*notes, *numbers["views"]["notes"]]
  page = _content(comparison, numbers, command)
  page["warnings"] += notes
  downloads = {
    "results.json": results.as_json(numbers),
    "results.csv": results.as_csv(comparison, numbers),
  }
  for name, text in downloads.items():
    records.write_text(root / name, text)
  page["downloads"] = [render.download(*item) for item in downloads.items()]
  template = importlib.resources.files(__package__) / "report.html"
  render.write(root / "report.html", template.read_text("utf-8"), **page)
  lines = [page["verdict"], page["untuned"], *words.diverged(comparison)]
  lines += words.stopped_early(comparison)
  lines = list(filter(None, lines))
  return "\n".join([*lines, f"{root / 'report.html'} shows it all"])


def _content(
  comparison: Comparison, numbers: Mapping[str, Any], command: str
) -> dict[str, Any]:
  """Returns what the template shows, drawing every figure on the way."""
  arms, best, tuning = (numbers[x] for x in ("arms", "best", "tuning"))
  first, split = comparison.first, comparison.split
  class_names = readable(first.result.class_names)
  folder = comparison.workdir / "figures"
  folder.mkdir(exist_ok=True)
  return {
    "title": words.title(comparison),
    "setting": words.setting(comparison),
    "verdict": (tuning_words if tuning else words).headline(numbers, split),
    "untuned": tuning_words.untuned(numbers) if tuning else "",
    "met": arms[best].get("goal") == "met",
    "verdicts": [
      arm["verdict"]
      for name, arm in arms.items()
      if "verdict" in arm and name != best
    ]
    + [pair["verdict"] for pair in numbers["pairs"]],
    "warnings": [
      *words.warnings(comparison),
      *circumstances.warnings(comparison.runs),
      *baselines.warnings(numbers),
      *(tuning_words.warnings(tuning) if tuning else []),
      *words.no_font([*class_names, *arms]),
    ],
    "references": numbers["references"],
    "pairs": numbers["pairs"],
    "arms": arms,
    "baseline": comparison.baseline,
    "split": split,
    "set": shared.SETS[split],
    "split_note": words.split_note(comparison),
    "chosen": shared.CHOSEN[first.result.chosen],
    # With five classes or fewer it is always 100 %.
    "top5": len(class_names) > 5,
    "ema": any(arm["validation"]["ema"] for arm in arms.values()),
    "losses": summary.losses(arms),
    "notes": {
      name: note
      for name, of_arm in comparison.runs.items()
      if (note := next(iter(of_arm.values())).run.likelihood.note)
    },
    "target": numbers["target_accuracy"],
    "examples": numbers["examples"],
    "own_images": words.own_images(comparison),
    "seeds": sorted({cell.seed for cell in comparison.cells}),
    "by_seed": {
      name: dict(zip(arm["seeds"], arm["accuracy"]["each"], strict=True))
      for name, arm in arms.items()
    },
    "starred": bool(comparison.diverged),
    "stopped": any(arm["stopped_early"] for arm in arms.values()),
    "tuning": tuning
    and tuning_page.content(
      tuning,
      comparison.baseline,
      {
        name: [run.result.seconds for run in of_arm.values()]
        for name, of_arm in comparison.runs.items()
      },
      folder,
    ),
    "views": numbers.get("views"),
    "figures": drawings.write(comparison, numbers, class_names, folder),
    **_pictures(comparison, best, class_names, folder),
    "by_class": by_class.rows(arms, class_names),
    "confused": {
      name: mistakes.most_confused(
        summary.confusions(comparison.runs[name]), class_names, _PAIRS
      )
      for name in dict.fromkeys((comparison.baseline, best))
    },
    "command": command,
    "overrides": {
      name: words.overrides(arm) for name, arm in comparison.arms.items()
    },
    "surroundings": shared.surroundings(first.result),
    "source": words.source(comparison),
    "written": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    "version": mixaug_jax.__version__,
  }


def _pictures(
  comparison: Comparison,
  best: str,
  class_names: Sequence[str],
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Draws what the data and the weights allow.

  Returns:
    `inputs`, `maps`, `inside` and `box_area` of `pictures`; `no_pictures` and
    `no_maps`, the reason why they are missing.
  """
  content: dict[str, Any] = {
    "inputs": [],
    "maps": [],
    "inside": {},
    "box_area": None,
    "no_pictures": None,
    "no_maps": None,
  }
  try:
    images = pictures.compared_images(comparison)
    content["inputs"] = pictures.network_inputs(comparison, folder)
  except (UserError, OSError) as error:
    return content | {"no_pictures": str(error), "no_maps": str(error)}
  try:
    maps = pictures.activation_maps(
      comparison, best, images, class_names, folder
    )
    inside, box_area = pictures.energy_inside_boxes(comparison, images)
  except (UserError, OSError) as error:
    return content | {"no_maps": str(error)}
  return content | {"maps": maps, "inside": inside, "box_area": box_area}
