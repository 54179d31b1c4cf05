"""Exact evaluation: every example once, whatever the batches and devices."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mixaug_jax import data
from mixaug_jax.training import parallel


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
    split, or None.

  Raises:
    Interrupted: `check()` raised it.
  """
  arrays = parallel.replicate(data.device_arrays(split))
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
    if with_logits:
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
  right, of_class = totals.pop("class_accuracy"), totals.pop("class_count")
  means = {name: float(value) / count for name, value in totals.items()}
  by_class = [
    float(x / n) if n else None for x, n in zip(right, of_class, strict=True)
  ]
  measured = {
    **means,
    "examples": int(count),
    "class_accuracy": by_class,
    "balanced_accuracy": float(np.mean([x for x in by_class if x is not None])),
  }
  return measured, logits
