"""What views of images with several labels or none measure."""

from typing import Any

import numpy as np

from mixaug_jax.analysis.likelihood import Likelihood
from mixaug_jax.training import set_metrics


def measures(
  logits: np.ndarray,
  labels: np.ndarray,
  likelihood: Likelihood,
  thresholds: np.ndarray,
) -> dict[str, float]:
  """Returns the figures of predictions of label sets.

  Args:
    logits: float `[N, C]`.
    labels: 0 or 1, `[N, C]`.
    likelihood: the meaning of the logits.
    thresholds: by class id, `[C]`.

  Returns:
    Those of `set_metrics.ranking` and `set_metrics.at_thresholds`, and `loss`.
  """
  return {
    **set_metrics.ranking(logits, labels),
    **set_metrics.at_thresholds(logits, labels, thresholds),
    "loss": likelihood.loss(logits, labels),
  }


def table(report: dict[str, Any]) -> str:
  """Returns the measures as aligned text; see `views.table`."""
  labels = {
    name: f"{name} ({row['views']})" for name, row in report["views"].items()
  }
  width = max(map(len, labels.values()))
  left_out = next(iter(report["views"].values()))["classes_left_out"]
  without = (
    f", without {left_out:,} classes that have no image" if left_out else ""
  )
  lines = [
    f"{report['split']}, {report['examples']:,} images; views averaged by "
    f"{report['average']}; loss: {report['loss']}; mAP: mean average precision"
    f"{without}; F1 and exact: at the thresholds of the run",
    f"{'views':{width}}{'mAP':>8}{'microF1':>9}{'macroF1':>9}{'exact':>8}"
    f"{'loss':>8}{'ms/image':>10}",
  ]
  for name, row in report["views"].items():
    lines.append(
      f"{labels[name]:{width}}{row['mean_average_precision']:8.2%}"
      f"{row['micro_f1']:9.2%}{row['macro_f1']:9.2%}{row['exact_match']:8.2%}"
      f"{row['loss']:8.3f}{row['milliseconds']:10.2f}"
    )
    if row["undefined"]:
      lines.append(
        f"{labels[name]}: the logits of {row['undefined']:,} images are not "
        "numbers; they rank their labels last and are given none"
      )
  return "\n".join(lines)
