"""Writes the page of a comparison, with its figures and its tables."""

import datetime
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import mixaug_jax
from mixaug_jax.comparison import (
  baselines,
  drawings,
  pictures,
  results,
  summary,
  words,
)
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.data.class_names import readable
from mixaug_jax.errors import NoActivationMaps, UserError
from mixaug_jax.pages import render
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
  classical = baselines.measure(comparison)
  try:
    numbers = summary.summarise(
      comparison.runs,
      comparison.baseline,
      comparison.goal,
      comparison.diverged,
      comparison.planned,
      classical,
      comparison.pairs,
    )
  except ValueError as error:
    raise UserError(f"{root}: {error}; delete the older ones") from None
  page = _content(comparison, numbers, command)
  downloads = {
    "results.json": results.as_json(numbers),
    "results.csv": results.as_csv(comparison, numbers),
  }
  for name, text in downloads.items():
    records.write_text(root / name, text)
  page["downloads"] = [render.download(*item) for item in downloads.items()]
  # The command and the title may hold a path that is not UTF-8.
  template = importlib.resources.files(__package__) / "report.html"
  html = render.render(template.read_text("utf-8"), **page)
  html = html.encode("utf-8", "backslashreplace").decode()
  records.write_text(root / "report.html", html)
  lines = [page["verdict"], *words.diverged(comparison)]
  return "\n".join([*lines, f"{root / 'report.html'} shows it all"])


def _content(
  comparison: Comparison, numbers: Mapping[str, Any], command: str
) -> dict[str, Any]:
  """Returns what the template shows, drawing every figure on the way."""
  arms, best = numbers["arms"], numbers["best"]
  first, split = comparison.first, comparison.split
  class_names = readable(first.result.class_names)
  folder = comparison.workdir / "figures"
  folder.mkdir(exist_ok=True)
  return {
    "title": words.title(comparison),
    "setting": words.setting(comparison),
    "verdict": words.headline(numbers, split),
    "met": arms[best].get("goal") == "met",
    "verdicts": [
      arm["verdict"]
      for name, arm in arms.items()
      if "verdict" in arm and name != best
    ]
    + [pair["verdict"] for pair in numbers["pairs"]],
    "warnings": [
      *words.warnings(comparison),
      *baselines.warnings(numbers),
      *words.no_font([*class_names, *arms]),
    ],
    "references": numbers["references"],
    "pairs": numbers["pairs"],
    "arms": arms,
    "baseline": comparison.baseline,
    "split": split,
    "split_note": words.SPLIT_NOTE[split],
    "chosen": words.CHOSEN[first.result.chosen],
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
    "seeds": sorted({cell.seed for cell in comparison.cells}),
    "by_seed": _by_seed(comparison, arms),
    "starred": bool(comparison.diverged),
    "tuning": _tuning(comparison),
    "views": _views(comparison),
    "figures": drawings.write(comparison, numbers, class_names, folder),
    "inputs": pictures.network_inputs(comparison, folder),
    **_where_networks_look(comparison, best, class_names, folder),
    "confused": {
      name: _confused(summary.confusions(comparison.runs[name]), class_names)
      for name in dict.fromkeys((comparison.baseline, best))
    },
    "command": command,
    "overrides": {
      name: words.overrides(arm) for name, arm in comparison.arms.items()
    },
    "surroundings": words.surroundings(first.result),
    "source": words.source(comparison),
    "written": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    "version": mixaug_jax.__version__,
  }


def _tuning(comparison: Comparison) -> dict[str, Any] | None:
  """Returns `figures`, `columns`, `chosen` and `notes`; None without tuning."""
  return None


def _views(comparison: Comparison) -> dict[str, Any] | None:
  """Returns by arm its accuracy `without` and `with` views, if measured."""
  return None


def _by_seed(
  comparison: Comparison, arms: Mapping[str, Any]
) -> dict[str, dict[int, float]]:
  """Returns the accuracy by arm and seed; that of chance if it diverged."""
  diverged = comparison.diverged
  return {
    name: dict(
      zip(
        [*comparison.runs.get(name, {}), *diverged.get(name, {})],
        arm["accuracy"]["each"],
        strict=True,
      )
    )
    for name, arm in arms.items()
  }


def _where_networks_look(
  comparison: Comparison,
  best: str,
  class_names: Sequence[str],
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Draws and measures activation maps, or gives the reason for none."""
  images = pictures.compared_images(comparison)
  try:
    maps = pictures.activation_maps(
      comparison, best, images, class_names, folder
    )
    inside, box_area = pictures.energy_inside_boxes(comparison, images)
  except NoActivationMaps as error:
    return {"maps": [], "no_maps": str(error), "inside": {}, "box_area": None}
  return {"maps": maps, "no_maps": "", "inside": inside, "box_area": box_area}


def _confused(counts: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
  """The pairs of a true and a wrong class that occur most often."""
  wrong = counts.copy()
  np.fill_diagonal(wrong, 0)
  order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
  pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
  return [
    {
      "true": names[true],
      "predicted": names[predicted],
      "count": int(wrong[true, predicted]),
      "of": int(counts[true].sum()),
    }
    for true, predicted in pairs
    if wrong[true, predicted]
  ]
