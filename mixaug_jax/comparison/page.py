"""Writes the page of a comparison, with its figures and its tables."""

import importlib.resources
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from mixaug_jax import files
from mixaug_jax.analysis import calibration
from mixaug_jax.comparison import (
  baselines,
  figures,
  pictures,
  results,
  summary,
  words,
)
from mixaug_jax.comparison.finished import FinishedRun
from mixaug_jax.comparison.plan import Comparison
from mixaug_jax.data.class_names import readable
from mixaug_jax.errors import NoActivationMaps, UserError
from mixaug_jax.pages import drawing, render
from mixaug_jax.pages import figures as shared
from mixaug_jax.training import records

_CLASSES = 12  # Bars in the figure of classes.
_PAIRS = 6
_CURVES = (
  ("train", "loss", "Training loss", False),
  ("train", "mixed_accuracy", "Training accuracy, soft labels", True),
  ("train", "accuracy", "Training accuracy, clean", True),
  ("validation", "accuracy", "Validation accuracy", True),
)


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
  classical, notes = baselines.measure(comparison)
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
  page["warnings"] += notes
  results.write(comparison, numbers)
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
    "warnings": [*words.warnings(comparison), *baselines.warnings(numbers)],
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
    "seeds": sorted(set().union(*comparison.runs.values())),
    "figures": _figures(comparison, numbers, class_names, folder),
    "sheets": _contact_sheets(comparison, folder),
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
  }


def _figures(
  comparison: Comparison,
  numbers: Mapping[str, Any],
  class_names: Sequence[str],
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Draws the figures of the numbers: PNG files, and elements of the page."""
  arms, best = numbers["arms"], numbers["best"]
  baseline, split = comparison.baseline, comparison.split
  paint = drawing.colours(list(arms), baseline)

  def drawn(figure: Figure, name: str, description: str) -> Markup:
    drawing.png(figure, folder / f"{name}.png")
    return render.drawing(drawing.svg(figure, name, description))

  return {
    "accuracy": drawn(
      figures.accuracy(arms, paint, split),
      "accuracy",
      f"{split} accuracy of every arm",
    ),
    "difference": drawn(
      figures.difference(arms, paint, baseline, comparison.goal),
      "difference",
      f"gain of every arm over {baseline}",
    ),
    "curves": [
      drawn(
        shared.curves(series, paint, title, percent=percent),
        f"curve_{name}",
        f"{title} by step",
      )
      for name, title, percent, series in _curves(comparison, arms)
    ],
    "reliability": [
      drawn(
        _reliability(name, paint[name], next(iter(of_arm.values()))),
        f"reliability_{number}",
        f"reliability of {name}",
      )
      for number, (name, of_arm) in enumerate(comparison.runs.items())
    ],
    "classes": drawn(
      _class_changes(class_names, numbers, paint[best]),
      "classes",
      f"accuracy by class, {best} over {baseline}",
    ),
  }


def _curves(
  comparison: Comparison, arms: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool, dict[str, list]]]:
  """Yields the name, the title, the unit and the series of each curve.

  Each kind of loss has a figure of its own, because their values differ.
  """
  losses = summary.losses(arms)
  for of, key, title, percent in _CURVES:
    series = _series(comparison, of, key)
    if key != "loss" or len(losses) == 1:
      parts = [(f"{of}_{key}", title, series)]
    else:
      parts = [
        (
          f"{of}_{key}_{number}",
          f"{title}, {loss}",
          {n: x for n, x in series.items() if arms[n]["loss_name"] == loss},
        )
        for number, loss in enumerate(losses)
      ]
    for name, title, some in parts:
      if some:
        yield name, title, percent, some


def _series(comparison: Comparison, of: str, key: str) -> dict[str, list]:
  """The steps and values of a metric, by arm and seed."""
  series = {}
  for name, of_arm in comparison.runs.items():
    seeds = []
    for run in of_arm.values():
      rows = [r for r in run.rows if r["split"] == of and key in r]
      seeds.append(([r["step"] for r in rows], [r[key] for r in rows]))
    if all(steps for steps, _ in seeds):
      series[name] = seeds
  return series


def _reliability(name: str, colour: str, run: FinishedRun) -> Figure:
  """The bins of the predictions whose logits are finite."""
  finite = ~calibration.undefined(run.compared.logits)
  _, confidence, accuracy, count = calibration.reliability(
    run.compared.logits[finite],
    run.compared.labels[finite],
    likelihood=run.run.likelihood,
  )
  return shared.reliability(name, colour, confidence, accuracy, count)


def _class_changes(
  class_names: Sequence[str], numbers: Mapping[str, Any], colour: str
) -> Figure:
  """The classes on which the best arm gains and loses most."""
  best, baseline = numbers["best"], numbers["baseline"]
  ours, theirs = (numbers["arms"][x]["per_class"] for x in (best, baseline))
  changes = [
    (100 * (a - b), name)
    for a, b, name in zip(ours, theirs, class_names, strict=True)
    if None not in (a, b)
  ]
  changes.sort(reverse=True)
  title = f"Points by class, {best} over {baseline}"
  if len(changes) > _CLASSES:
    half = _CLASSES // 2
    changes = changes[:half] + changes[-half:]
    title += f": the {half} highest and the {half} lowest"
  points, labels = zip(*changes, strict=True)
  return figures.class_changes(labels, points, colour, title)


def _contact_sheets(
  comparison: Comparison, folder: pathlib.Path
) -> dict[str, Markup]:
  """Draws what each arm feeds the network."""
  sheets = {}
  for number, (name, of_arm) in enumerate(comparison.runs.items()):
    path = folder / f"network_input_{number}.png"
    with files.replacing(path) as part:
      pictures.network_input(next(iter(of_arm.values()))).save(part)
    sheets[name] = render.picture(path, f"training images of the arm {name}")
  return sheets


def _where_networks_look(
  comparison: Comparison,
  best: str,
  class_names: Sequence[str],
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Draws and measures activation maps, or gives the reason for none."""
  images = pictures.compared_images(comparison)
  try:
    figure = pictures.activation_maps(comparison, best, images, class_names)
    inside, box_area = pictures.energy_inside_boxes(comparison, images)
  except NoActivationMaps as error:
    return {"cam": None, "no_cam": str(error), "inside": {}, "box_area": None}
  path = folder / "activation_maps.png"
  drawing.png(figure, path, dpi=130)
  return {
    "cam": render.picture(path, "class activation maps of every arm"),
    "no_cam": None,
    "inside": inside,
    "box_area": box_area,
  }


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
