"""The numbers of a comparison as files: results.json and results.csv."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from mixaug_jax.analysis import calibration
from mixaug_jax.comparison.finished import FinishedRun
from mixaug_jax.comparison.plan import Comparison


def as_json(numbers: Mapping[str, Any]) -> str:
  """Returns the content of results.json."""
  return json.dumps(numbers, indent=2, allow_nan=False) + "\n"


def as_csv(comparison: Comparison, numbers: Mapping[str, Any]) -> str:
  """Returns the content of results.csv, a line for each run."""
  rows = [
    {"arm": name, "seed": seed, **_row(run), "diverged_step": None}
    for name, of_arm in comparison.runs.items()
    for seed, run in of_arm.items()
  ]
  rows += [
    {"arm": arm, "seed": s, "accuracy": numbers["chance"], "diverged_step": at}
    for arm, of_arm in comparison.diverged.items()
    for s, at in of_arm.items()
  ]
  text = io.StringIO()
  writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def _row(run: FinishedRun) -> dict[str, Any]:
  """The figures of a run."""
  logits, labels = run.compared.logits, run.compared.labels
  validation = {
    f"validation_{name}": getattr(
      getattr(run.result.validation, name), "accuracy", None
    )
    for name in ("last", "best", "ema")
  }
  return {
    "accuracy": float(run.correct.mean()),
    "balanced_accuracy": calibration.balanced_accuracy(logits, labels),
    "top5_accuracy": calibration.top_k_accuracy(logits, labels, 5),
    "loss": run.run.likelihood.loss(logits, labels),
    "loss_name": run.run.likelihood.loss_name,
    **validation,
    "chosen_step": run.result.chosen_step,
    "steps": run.result.steps,
    "planned_steps": run.result.planned_steps,
    "seconds": run.result.seconds,
    "images_per_second": run.result.images_per_second,
  }
