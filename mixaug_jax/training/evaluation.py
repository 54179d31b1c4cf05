"""Exact evaluation: every example once, whatever the batches and devices."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mixaug_jax import data
from mixaug_jax.errors import Interrupted
from mixaug_jax.training import parallel


def evaluate(
  step: Callable[..., Any],
  variables: Any,
  split: data.Split,
  *,
  batch_size: int,
  with_logits: bool = False,
  interrupted: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, float], np.ndarray | None]:
  """Runs `parallel.eval_step(make_eval_step(...))` over a whole split.

  Args:
    step: of `(variables, arrays, batch)`.
    variables: `params` and `batch_stats`.
    split: what to evaluate on.
    batch_size: global.
    with_logits: whether to collect them.
    interrupted: asked before every batch.

  Returns:
    `loss`, `accuracy`, `top5_accuracy` as means over the examples and
    `examples`, their number; and float32 logits `[N, C]` in the split's
    order, or None.

  Raises:
    Interrupted: `interrupted()` was true.
  """
  arrays = parallel.replicate(data.device_arrays(split))
  totals: dict[str, float] = {}
  logits = None
  batches = data.eval_batches(
    split,
    batch_size,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    place=parallel.shard,
  )
  pending = None

  def collect(sums: dict[str, Any], rows: dict[str, Any]) -> None:
    nonlocal logits
    for name, value in jax.device_get(sums).items():
      totals[name] = totals.get(name, 0.0) + float(value)
    if with_logits:
      rows = jax.device_get(rows)
      if logits is None:
        logits = np.zeros((len(split), rows["logits"].shape[-1]), np.float32)
      real = rows["mask"] > 0
      logits[rows["position"][real]] = rows["logits"][real]

  # A batch is read when the next one is under way.
  with contextlib.closing(batches):
    for batch in batches:
      if interrupted():
        raise Interrupted("stopped by SIGTERM while evaluating")
      dispatched = step(variables, arrays, batch)
      if pending is not None:
        collect(*pending)
      pending = dispatched
  collect(*pending)
  count = totals.pop("count")
  means = {name: value / count for name, value in totals.items()}
  return {**means, "examples": int(count)}, logits
