"""What pages read from the metrics and the predictions of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mixaug_jax.analysis import calibration
from mixaug_jax.analysis.likelihood import Likelihood
from mixaug_jax.pages import figures


def series(
  rows: Sequence[Mapping[str, Any]], split: str, metric: str
) -> tuple[list[int], list[float]]:
  """Returns the steps and the values of a metric; both may be empty.

  Args:
    rows: of metrics.jsonl.
    split: `train`, `validation` or `test`.
    metric: such as `accuracy`.
  """
  some = [r for r in rows if r["split"] == split and metric in r]
  return [r["step"] for r in some], [r[metric] for r in some]


def confidence(logits: np.ndarray, likelihood: Likelihood) -> np.ndarray:
  """Returns the probability of the predicted class, float64 `[N]`.

  Args:
    logits: float `[N, C]`.
    likelihood: the meaning of the logits.
  """
  return likelihood.probabilities(np.asarray(logits, np.float64)).max(-1)


def reliability(
  name: str,
  colour: str,
  logits: np.ndarray,
  labels: np.ndarray,
  likelihood: Likelihood,
) -> Figure:
  """Draws the bins of the predictions whose logits are finite.

  Args:
    name: the title of the figure.
    colour: of its dots.
    logits: float `[N, C]`.
    labels: class ids, int `[N]`.
    likelihood: the meaning of the logits.
  """
  finite = ~calibration.undefined(logits)
  _, confident, accuracy, count = calibration.reliability(
    logits[finite], labels[finite], likelihood=likelihood
  )
  return figures.reliability(name, colour, confident, accuracy, count)
