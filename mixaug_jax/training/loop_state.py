"""What the training loop knows besides the train state."""

from typing import Any

from mixaug_jax.training import provenance, records
from mixaug_jax.training.experiment import Experiment
from mixaug_jax.training.result import Result


class LoopState(dict):
  """JSON, saved in every checkpoint.

  `best` and `last` are evaluations on validation, `ema` that of the average;
  `window` holds the sums of the log since its last line, `metrics_bytes` the
  size of metrics.jsonl.
  """

  def __init__(self, **values: Any):
    super().__init__(
      best=None,
      last=None,
      ema=None,
      window={},
      metrics_bytes=0,
      seconds=0.0,
      compile_seconds=0.0,
    )
    self.update(values)

  @property
  def best_step(self) -> int | None:
    return self["best"]["step"] if self["best"] else None

  def add(self, values: dict[str, float]) -> None:
    """Adds a step's numbers to the window."""
    window = self["window"]
    window["steps"] = window.get("steps", 0) + 1
    for name, value in values.items():
      if name == "learning_rate":
        window[name] = value
      else:
        window[name] = window.get(name, 0.0) + value

  def take_means(self) -> dict[str, float]:
    """Empties the window; its means, and the last learning rate."""
    window, self["window"] = self["window"], {}
    rate, steps = window.pop("learning_rate"), window.pop("steps")
    means = {name: total / steps for name, total in window.items()}
    return {**means, "learning_rate": rate}

  def evaluated(
    self,
    step: int,
    measured: dict[str, float],
    average: dict[str, float] | None,
  ) -> None:
    """Notes what validation gave at a step, the moving average's apart."""
    self["last"] = {"step": step, **measured}
    best = self["best"]
    if not best or measured["accuracy"] > best["accuracy"]:
      self["best"] = self["last"]
    if average:
      self["ema"] = {"step": step, **average}

  def result(self, exp: Experiment, test: dict[str, float] | None) -> Result:
    """The result of a finished run, given its figures on test."""
    chosen = exp.config.evaluate.checkpoint
    images = exp.steps * exp.config.batch_size
    return Result.from_json(
      {
        "test": test,
        "validation": {name: self[name] for name in ("last", "best", "ema")},
        "chosen": chosen,
        "chosen_step": self.best_step if chosen == "best" else exp.steps,
        "steps": exp.steps,
        "epochs": exp.steps / exp.steps_per_epoch,
        "seconds": self["seconds"],
        "compile_seconds": self["compile_seconds"],
        "images_per_second": images / max(self["seconds"], 1e-9),
        **provenance.of(exp),
        "config_crc32": records.checksum(exp.config.to_dict()),
      }
    )
