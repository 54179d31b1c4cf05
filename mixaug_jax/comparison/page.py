"""The page, the figures and the tables of a comparison's finished runs."""

import csv
import io
import json
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixaug_jax import data, preview, runs
from mixaug_jax.analysis import calibration, cam, statistics
from mixaug_jax.comparison import figures, render, summary
from mixaug_jax.comparison.plan import Plan
from mixaug_jax.data import decode
from mixaug_jax.errors import UserError

_SHEET_STEP = 2  # Any would do.
_CAM_IMAGES = 6
_BOX_IMAGES = 512
_CLASSES = 12  # Bars in the figure of classes.
_PAIRS = 6
_CURVES = (
  ("train", "loss", "Training loss", False),
  ("train", "mixed_accuracy", "Training accuracy, soft labels", True),
  ("train", "accuracy", "Training accuracy, clean", True),
  ("validation", "accuracy", "Validation accuracy", True),
)
_CHOSEN = {
  "best": "epoch that is best on validation",
  "last": "last epoch",
  "ema": "moving average of the weights at the end",
}


def write(plan: Plan) -> str:
  """Writes report.html, results.json, results.csv and figures/*.png.

  Args:
    plan: of which at least one run of the baseline is finished.

  Returns:
    The verdict, and where the page is.

  Raises:
    UserError: no finished run of the baseline, or a damaged one.
  """
  opened = {
    name: {
      cell.seed: runs.open_run(cell.workdir)
      for cell in plan.cells
      if cell.arm == name and cell.finished
    }
    for name in plan.arms
  }
  opened = {name: of_arm for name, of_arm in opened.items() if of_arm}
  if plan.baseline not in opened:
    raise UserError(
      f"no run of the arm {plan.baseline} is finished, and the others are "
      "measured by it"
    )
  split = _split(opened)
  arrays = {
    name: {seed: _run_data(run, split) for seed, run in of_arm.items()}
    for name, of_arm in opened.items()
  }
  try:
    numbers = summary.summarise(arrays, plan.baseline, plan.goal)
  except ValueError as error:
    raise UserError(f"{plan.workdir}: {error}; delete the older ones") from None
  page = _page(plan, opened, arrays, numbers, split)
  root = plan.workdir
  (root / "results.json").write_text(json.dumps(numbers, indent=2) + "\n")
  (root / "results.csv").write_text(_table(arrays), "utf-8")
  (root / "report.html").write_text(render.render(**page), "utf-8")
  return f"{page['verdict']}\n{root / 'report.html'} shows it all"


def _split(opened: Mapping[str, Mapping[int, runs.Run]]) -> str:
  """What arms are compared on: validation only where there is no test."""
  every = (run for of_arm in opened.values() for run in of_arm.values())
  return "test" if all(run.result.test for run in every) else "validation"


def _run_data(run: runs.Run, split: str) -> summary.RunData:
  compared, validation = run.predictions(split), run.predictions("validation")
  return summary.RunData(
    *(compared.logits, compared.labels, compared.ids),
    *(validation.logits, validation.labels),
    run.result,
    run.rows,
  )


def _page(plan, opened, arrays, numbers, split) -> dict[str, Any]:
  """The content of the template, drawing every figure on the way."""
  arms, baseline, best = numbers["arms"], plan.baseline, numbers["best"]
  paint = figures.colours(list(arms), baseline)
  folder = plan.workdir / "figures"
  folder.mkdir(exist_ok=True)
  first = next(iter(opened[baseline].values()))
  names = [_readable(name) for name in first.result.class_names]

  def drawn(figure, name: str, description: str):
    figures.png(figure, folder / f"{name}.png")
    return render.drawing(figures.svg(figure, name, description))

  drawings = {
    "accuracy": drawn(
      figures.accuracy(arms, paint, split),
      "accuracy",
      f"{split} accuracy of every arm",
    ),
    "difference": drawn(
      figures.difference(arms, paint, baseline, plan.goal),
      "difference",
      f"gain of every arm over {baseline}",
    ),
    "curves": [
      drawn(
        figures.curves(series, paint, title, percent=percent),
        f"curve_{of}_{key}",
        f"{title} by step",
      )
      for of, key, title, percent in _CURVES
      if (series := _series(arrays, of, key))
    ],
    "reliability": [
      drawn(
        _reliability(name, paint[name], next(iter(of_arm.values()))),
        f"reliability_{number}",
        f"reliability of {name}",
      )
      for number, (name, of_arm) in enumerate(arrays.items())
    ],
    "classes": drawn(
      _class_changes(names, arms, baseline, best, paint[best]),
      "classes",
      f"accuracy by class, {best} over {baseline}",
    ),
  }
  datasets = data.load(first.config.data, first.config.seed)
  inside, box_area = _inside(opened, datasets, split)
  return {
    "title": f"Which augmentation? {_data_name(first)}",
    "setting": _setting(first, plan, opened, split),
    "verdict": _verdict(arms, best, baseline, split),
    "met": _met(arms[best], plan.goal),
    "verdicts": [
      arm["verdict"]
      for name, arm in arms.items()
      if "verdict" in arm and name != best
    ],
    "warnings": _warnings(plan, opened, split, len(names)),
    "arms": arms,
    "baseline": baseline,
    "split": split,
    "split_note": (
      "that set was read once, at the end of a run."
      if split == "test"
      else "epochs were chosen on it as well."
    ),
    "chosen": _CHOSEN[first.result.chosen],
    "target": numbers["target_accuracy"],
    "examples": numbers["examples"],
    "seeds": sorted({seed for of_arm in opened.values() for seed in of_arm}),
    "figures": drawings,
    "sheets": {
      name: _sheet(name, number, next(iter(of_arm.values())), folder)
      for number, (name, of_arm) in enumerate(opened.items())
    },
    "cam": _maps(
      opened, arrays, datasets, split, baseline, best, names, folder
    ),
    "inside": inside,
    "box_area": box_area,
    "confused": {
      name: _confused(summary.confusions(arrays[name]), names)
      for name in dict.fromkeys((baseline, best))
    },
    "command": shlex.join(["python", *plan.command()]),
    "overrides": plan.arms,
    "surroundings": _surroundings(first),
  }


def _verdict(arms, best: str, baseline: str, split: str) -> str:
  if best == baseline:
    return f"Only {baseline} is finished; there is nothing to compare it with."
  text = arms[best]["verdict"]
  if split == "validation":
    return f"{text}."
  return (
    f"{text}. This arm is the best on validation; it was not picked by the "
    "figure that is given here."
  )


def _met(arm: Mapping[str, Any], goal: float) -> bool:
  difference = arm.get("difference")
  low = difference and difference["low"]
  return low is not None and low is not False and low >= goal


def _warnings(plan, opened, split, classes) -> list[str]:
  warnings = []
  missing = [
    cell.name
    for cell in plan.cells
    if cell.seed not in opened.get(cell.arm, {})
  ]
  if missing:
    warnings.append(
      f"Not finished, and so left out: {', '.join(missing)}. The same command "
      "trains them."
    )
  if split == "validation":
    warnings.append(
      "There is no test set: the figures are of validation, on which the "
      "epochs were chosen too, and so are a little too good."
    )
  count = max(len(of_arm) for of_arm in opened.values())
  if count == 1:
    warnings.append(
      "With one seed nobody can say what another one would give; the "
      "intervals hold for these trained networks only. Set "
      "--config.seeds=3 or more."
    )
  elif count < 5:
    warnings.append(
      f"{count} seeds tell their own spread only roughly; the intervals are "
      "widened for that."
    )
  if classes <= 5:
    warnings.append("With five classes or fewer, top-5 is always right.")
  return warnings


def _setting(run: runs.Run, plan: Plan, opened, split: str) -> str:
  config, result = run.config, run.result
  sizes = result.examples
  compared = result.test or result.validation.last
  count = sum(map(len, opened.values()))
  return (
    f"{config.model.name} at {config.data.image_size} px"
    + (
      f" from the weights {config.model.pretrained}"
      if config.model.pretrained
      else " from random weights"
    )
    + f"; {sizes.train:,} training, {sizes.validation:,} validation "
    + (f"and {compared.examples:,} test " if split == "test" else "")
    + f"images of {len(result.class_names)} classes; {result.steps:,} "
    f"steps of {config.batch_size}; {count} runs of {len(plan.arms)} arms"
  )


def _data_name(run: runs.Run) -> str:
  config = run.config.data
  if config.name == "folder":
    return pathlib.Path(config.dir).name
  return config.name


def _surroundings(run: runs.Run) -> str:
  result = run.result
  versions = ", ".join(f"{k} {v}" for k, v in result.versions.items())
  commit = f"; commit {result.commit[:12]}" if result.commit else ""
  flags = f"; XLA_FLAGS={result.xla_flags}" if result.xla_flags else ""
  return (
    f"{result.devices} {result.device_kind} device"
    f"{'s' * (result.devices > 1)} a run; {versions}{commit}{flags}"
  )


def _readable(name: str) -> str:
  """A class name; ImageNet's numbers before it tell nobody anything."""
  return re.sub(r"^n\d{8}-", "", name)


def _series(arrays, of: str, key: str) -> dict[str, list]:
  """Steps and values of a metric, by arm and seed."""
  series = {}
  for name, of_arm in arrays.items():
    seeds = []
    for run in of_arm.values():
      rows = [r for r in run.rows if r["split"] == of and key in r]
      seeds.append(([r["step"] for r in rows], [r[key] for r in rows]))
    if all(steps for steps, _ in seeds):
      series[name] = seeds
  return series


def _reliability(name: str, colour: str, run: summary.RunData):
  _, confidence, accuracy, count = calibration.reliability(
    run.logits, run.labels
  )
  return figures.reliability(name, colour, confidence, accuracy, count)


def _class_changes(names, arms, baseline: str, best: str, colour: str):
  """The classes that the best arm gains and loses most on."""
  ours, theirs = arms[best]["per_class"], arms[baseline]["per_class"]
  changes = [
    (100 * (a - b), name)
    for a, b, name in zip(ours, theirs, names, strict=True)
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


def _confused(counts: np.ndarray, names: Sequence[str]) -> list[dict]:
  """The pairs of a true and a wrong class that are met most."""
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


def _sheet(name: str, number: int, run: runs.Run, folder: pathlib.Path):
  """The contact sheet of an arm."""
  path = folder / f"network_input_{number}.png"
  preview.sheet(*preview.batch(run.config, _SHEET_STEP), 8).save(path)
  return render.picture(path, f"training images of the arm {name}")


def _maps(opened, arrays, datasets, split, baseline, best, names, folder):
  """Activation maps of all arms on the same images."""
  compared = getattr(datasets, split)
  chosen = _telling(arrays, baseline, best)
  stored = compared.images(chosen)
  columns, pictures, captions, right = [], [], [], []
  for name, of_arm in opened.items():
    seed, run = next(iter(of_arm.items()))
    network, arm = run.classifier(), arrays[name][seed]
    logits = arm.logits[chosen]
    predicted = logits.argmax(-1)
    maps = network.activation_maps(stored, predicted)
    shown = network.shown(stored)
    shown, size = _enlarged(shown)
    pictures.append(cam.overlay(shown, cam.heatmap(maps, size)))
    sure = calibration.softmax(logits)
    captions.append(
      [f"{names[p]}\n{s[p]:.0%}" for p, s in zip(predicted, sure, strict=True)]
    )
    right.append(list(predicted == arm.labels[chosen]))
    columns.append(name)
  truth = [names[label] for label in compared.labels[chosen]]
  figure = figures.picture_table(
    list(zip(shown, *pictures, strict=True)),
    list(zip(truth, *captions, strict=True)),
    list(zip([None] * len(chosen), *right, strict=True)),
    ["image", *columns],
  )
  path = folder / "activation_maps.png"
  figures.png(figure, path, dpi=130)
  return render.picture(path, "class activation maps of every arm")


def _enlarged(images: np.ndarray) -> tuple[np.ndarray, int]:
  """Small images by whole factors, so that a map over them is smooth."""
  factor = max(1, 96 // images.shape[1])
  images = images.repeat(factor, axis=1).repeat(factor, axis=2)
  return images, images.shape[1]


def _telling(arrays, baseline: str, best: str) -> np.ndarray:
  """Positions of images: two right in both arms, and of each kind of wrong.

  The same ones every time; those before them in the list go first.
  """
  theirs = next(iter(arrays[baseline].values())).correct
  ours = next(iter(arrays[best].values())).correct
  kinds = (ours & ~theirs, ours & theirs, ~ours & theirs, ~ours & ~theirs)
  quota = (2, 2, 1, 1)
  order = np.random.default_rng(0).permutation(len(ours))
  chosen: list[int] = []
  for kind, count in zip(kinds, quota, strict=True):
    chosen += [int(i) for i in order if kind[i]][:count]
  spare = [int(i) for i in order if i not in chosen]
  return np.array((chosen + spare)[:_CAM_IMAGES])


def _inside(opened, datasets, split) -> tuple[dict[str, Any], float | None]:
  """The share of each arm's maps inside of bounding boxes, where there are.

  Of the true class, over at most 512 images, an interval over the seeds.
  """
  compared = getattr(datasets, split)
  boxes = getattr(compared.source, "boxes", None)
  if boxes is None:
    return {}, None
  rng = np.random.default_rng(0)
  chosen = np.sort(rng.permutation(len(compared))[:_BOX_IMAGES])
  rows = compared.rows[chosen]
  first = next(iter(next(iter(opened.values())).values()))
  placed = np.stack(
    [
      _box_in_view(first, compared.source[int(row)]["image"], boxes[row])
      for row in rows
    ]
  )
  visible = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
  chosen, placed = chosen[visible], placed[visible]
  if not len(chosen):
    return {}, None
  shares = {}
  for name, of_arm in opened.items():
    each = []
    for run in of_arm.values():
      network = run.classifier()
      energy = []
      for begin in range(0, len(chosen), 64):
        part = chosen[begin : begin + 64]
        maps = network.activation_maps(
          compared.images(part), compared.labels[part]
        )
        energy.append(cam.energy_inside(maps, placed[begin : begin + 64]))
      each.append(float(np.concatenate(energy).mean()))
    interval = statistics.mean_interval(each)
    low, high = (None if np.isnan(x) else float(x) for x in interval[1:])
    shares[name] = {"mean": interval.mean, "low": low, "high": high}
  sides = placed[:, 2:] - placed[:, :2]
  return shares, float(sides.prod(-1).mean())


def _box_in_view(run: runs.Run, image: Any, box: np.ndarray) -> np.ndarray:
  """A box of a picture, in what evaluation sees of it."""
  height, width = decode.picture_size(image)
  box = decode.box_in_square(run.config.data.resize, height, width, box)
  stored = run.config.data.cache_size or run.config.data.image_size
  seen = run.config.data.image_size
  return np.clip((box * stored - (stored - seen) // 2) / seen, 0, 1)


def _table(arrays) -> str:
  """results.csv: a line a run."""
  rows = []
  for name, of_arm in arrays.items():
    for seed, run in of_arm.items():
      result = run.result
      rows.append(
        {
          "arm": name,
          "seed": seed,
          "accuracy": float(run.correct.mean()),
          "top5_accuracy": float(
            calibration.top_k_accuracy(run.logits, run.labels, 5)
          ),
          "loss": float(calibration.cross_entropy(run.logits, run.labels)),
          **{
            f"validation_{which}": getattr(
              getattr(result.validation, which), "accuracy", None
            )
            for which in ("last", "best", "ema")
          },
          "chosen_step": result.chosen_step,
          "seconds": result.seconds,
          "images_per_second": result.images_per_second,
        }
      )
  text = io.StringIO()
  writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()
