"""Exact evaluation: every example once, whatever the batches and devices."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mixaug_jax import data
from mixaug_jax.data import label_sets
from mixaug_jax.training import parallel, set_metrics


def evaluate(
  step: Callable[..., Any],
  variables: Any,
  split: data.Split,
  *,
  batch_size: int,
  with_logits: bool = False,
  check: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], np.ndarray | None]:
  """Evaluates variables on every example of a split.

  Args:
    step: `parallel.eval_step(make_eval_step(...))`, a function of
      `(variables, arrays, batch)`.
    variables: `params` and `batch_stats`.
    split: the N examples.
    batch_size: images per batch, over all devices.
    with_logits: whether to return logits.
    check: called before every batch; may raise Interrupted.

  Returns:
    The means `loss`, `accuracy` and `top5_accuracy` over the examples, and
    their number `examples`; `class_accuracy`, the accuracy on each class, a
    list with None for a class without examples, and `balanced_accuracy`, the
    mean over the others; and logits, float32 `[N, C]` in the order of the
    split, or None. Of label sets, `loss`, `examples` and the figures of
    `set_metrics.ranking` over all examples.

  Raises:
    Interrupted: `check()` raised it.
  """
  arrays = parallel.replicate(data.device_arrays(split))
  sets = label_sets.are_sets(split.labels)
  totals: dict[str, np.ndarray] = {}
  logits = None
  batches = data.eval_batches(
    split,
    batch_size,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    place=parallel.shard,
  )
  pending: tuple[dict[str, Any], dict[str, Any]] | None = None

  def collect(sums: dict[str, Any], rows: dict[str, Any]) -> None:
    nonlocal logits
    for name, value in jax.device_get(sums).items():
      totals[name] = totals.get(name, 0.0) + np.asarray(value, np.float64)
    if with_logits or sets:
      rows = jax.device_get(rows)
      if logits is None:
        logits = np.zeros((len(split), rows["logits"].shape[-1]), np.float32)
      real = rows["mask"] > 0
      logits[rows["position"][real]] = rows["logits"][real]

  # The sums of a batch are read while the device computes the next one.
  with contextlib.closing(batches):
    for batch in batches:
      check()
      dispatched = step(variables, arrays, batch)
      if pending is not None:
        collect(*pending)
      pending = dispatched
  if pending is not None:
    collect(*pending)
  count = float(totals.pop("count"))
  by_class = None if sets else _by_class(totals)
  measured: dict[str, Any] = {
    name: float(value) / count for name, value in totals.items()
  }
  measured["examples"] = int(count)
  if by_class is not None:
    measured["class_accuracy"] = by_class
    some = [x for x in by_class if x is not None]
    measured["balanced_accuracy"] = float(np.mean(some))
  elif logits is not None:
    measured |= set_metrics.ranking(logits, split.labels)
  return measured, logits if with_logits else None


def _by_class(totals: dict[str, np.ndarray]) -> list[float | None]:
  """Takes the sums of the classes; returns the accuracy on each class."""
  right, count = totals.pop("class_accuracy"), totals.pop("class_count")
  return [
    float(x / n) if n else None for x, n in zip(right, count, strict=True)
  ]
