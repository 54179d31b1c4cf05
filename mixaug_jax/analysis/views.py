"""Test-time augmentation: what views of an image measure, and their cost."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mixaug_jax import data
from mixaug_jax.analysis import calibration, set_views
from mixaug_jax.analysis.likelihood import Likelihood
from mixaug_jax.data.class_names import readable

_LOWEST = 3  # Classes that the table names.
# Takes stored images, uint8 `[B, S, S, 3]`; returns logits `[V, B, C]`.
Predictor = Callable[[np.ndarray], np.ndarray]


def averaged(
  logits: np.ndarray, how: str, likelihood: Likelihood
) -> np.ndarray:
  """Returns the mean over views.

  Args:
    logits: `[V, N, C]`.
    how: `logits` averages them, `probabilities` the probabilities.
    likelihood: the meaning of the logits.

  Returns:
    `[N, C]`: logits whose probabilities are the averaged prediction.
  """
  return logits.mean(0) if how == "logits" else likelihood.of_mean(logits)


def mean_logits(
  predict: Predictor,
  split: data.Split,
  *,
  batch_size: int,
  average: str,
  likelihood: Likelihood,
) -> np.ndarray:
  """Predicts a split by the mean over views.

  Args:
    predict: predicts all views.
    split: the N images.
    batch_size: as in `evaluate`.
    average: as in `evaluate`.
    likelihood: the meaning of the logits.

  Returns:
    float32 `[N, C]`, as `averaged` returns them.
  """
  parts = [
    averaged(logits, average, likelihood)
    for logits in _batches(predict, split, batch_size)
  ]
  return np.concatenate(parts).astype(np.float32)


def evaluate(
  predictors: Mapping[str, Predictor],
  split: data.Split,
  validation: data.Split | None,
  *,
  batch_size: int,
  average: str,
  likelihood: Likelihood,
  thresholds: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
  """Measures each named group of views, and all of them together.

  Args:
    predictors: one for each group of views.
    split: the images to measure on.
    validation: the images to fit the temperature on; None: it stays unknown.
    batch_size: the number of images that a predictor is given at a time.
    average: `logits` or `probabilities`, see `averaged`.
    likelihood: the meaning of the logits.
    thresholds: of a run with label sets, by class id, `[C]`; else None.

  Returns:
    For each name, and for their union where there are several: `views` (their
      number), the figures of `calibration.measures` and `class_accuracy` (the
      accuracy on each class, None for one without images), or with thresholds
      those of `set_views.measures`; `undefined` (the number of images whose
      logits are not finite), and `milliseconds` for an image.
  """
  logits, seconds, fitting = {}, {}, {}
  for name, predict in predictors.items():
    logits[name], seconds[name] = _logits(predict, split, batch_size)
    if split is validation:
      fitting[name] = logits[name]
    elif validation is not None:
      fitting[name], _ = _logits(predict, validation, batch_size)
  names = list(predictors)
  measured = {}
  for chosen in [[name] for name in names] + [names] * (len(names) > 1):
    of = lambda parts, chosen=chosen: averaged(
      np.concatenate([parts[name] for name in chosen]), average, likelihood
    )
    ours, truth = of(logits), split.labels
    fitted = None
    if validation is not None:
      fitted = of(fitting), validation.labels
    figures: dict[str, Any]
    if thresholds is None:
      figures = {
        **calibration.measures(ours, truth, likelihood, fitted),
        "class_accuracy": _by_class(ours, truth),
      }
    else:
      figures = set_views.measures(ours, truth, likelihood, thresholds)
    measured["+".join(chosen)] = {
      "views": sum(len(logits[name]) for name in chosen),
      **figures,
      "undefined": int(calibration.undefined(ours).sum()),
      "milliseconds": 1e3 * sum(seconds[n] for n in chosen) / len(truth),
    }
  return measured


def _by_class(logits: np.ndarray, labels: np.ndarray) -> list[float | None]:
  """Returns the accuracy on each class, None for one without images."""
  each = calibration.per_class_accuracy(logits, labels, logits.shape[-1])
  return [None if np.isnan(x) else float(x) for x in each]


def table(report: dict[str, Any]) -> str:
  """Returns the measures as aligned text.

  Args:
    report: what `evaluate` returned as `views`; `split` and the number of its
      `examples`; `average`; the names of the `loss`, the `probabilities` and
      the `classes`.
  """
  labels = {
    name: f"{name} ({row['views']})" for name, row in report["views"].items()
  }
  width = max(map(len, labels.values()))
  scaling = ", scaled: by a temperature fitted on validation" * any(
    row["temperature"] is not None for row in report["views"].values()
  )
  lines = [
    f"{report['split']}, {report['examples']:,} images; views averaged by "
    f"{report['average']}; loss: {report['loss']}; ECE: expected calibration "
    f"error of {report['probabilities']} probabilities{scaling}",
    f"{'views':{width}}{'top-1':>8}{'balanced':>10}{'top-5':>8}{'loss':>8}"
    f"{'ECE':>8}{'scaled':>8}{'ms/image':>10}",
  ]
  for name, row in report["views"].items():
    scaled = row["calibration_error_scaled"]
    lines.append(
      f"{labels[name]:{width}}{row['accuracy']:8.2%}"
      f"{row['balanced_accuracy']:10.2%}{row['top5_accuracy']:8.2%}"
      f"{row['loss']:8.3f}{row['calibration_error']:8.2%}"
      f"{'-' if scaled is None else f'{scaled:.2%}':>8}"
      f"{row['milliseconds']:10.2f}"
    )
    if row["undefined"]:
      lines.append(
        f"{labels[name]}: the logits of {row['undefined']:,} images are not "
        "numbers; they count as wrong"
      )
  *_, last = report["views"].items()
  lines.append(_lowest(last[1]["class_accuracy"], report["classes"], last[0]))
  return "\n".join(lines)


def _lowest(
  accuracies: Sequence[float | None], names: Sequence[str], views: str
) -> str:
  """Returns the classes of the lowest accuracy in words."""
  known = [
    (x, name)
    for x, name in zip(accuracies, readable(names), strict=True)
    if x is not None
  ]
  shown = ", ".join(
    f"{name} {x:.1%}" for x, name in sorted(known, key=lambda c: c[0])[:_LOWEST]
  )
  return (
    f"lowest of {len(known):,} classes, {views}: {shown}; balanced: the mean "
    "over the classes; --json has them all"
  )


def _logits(
  predict: Predictor, split: data.Split, size: int
) -> tuple[np.ndarray, float]:
  """Logits `[V, N, C]` of a split; seconds without the first compilation."""
  next(_batches(predict, split, size))
  begin = time.monotonic()
  logits = np.concatenate(list(_batches(predict, split, size)), axis=1)
  return logits, time.monotonic() - begin


def _batches(
  predict: Predictor, split: data.Split, size: int
) -> Iterator[np.ndarray]:
  """Yields the logits of consecutive examples, `[V, b, C]`."""
  size = min(size, len(split))
  for first in range(0, len(split), size):
    rows = np.arange(first, min(first + size, len(split)))
    # The last batch is filled up, because every new size compiles.
    yield predict(split.images(np.resize(rows, size)))[:, : len(rows)]
