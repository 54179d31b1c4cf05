"""The actions of the training loop: step, log, evaluate, save, finish."""

import contextlib
import functools
import pathlib
from collections.abc import Iterator
from typing import Any, NoReturn, Self

import jax
import numpy as np

from mixaug_jax import data, progress
from mixaug_jax.data import label_sets
from mixaug_jax.errors import Diverged, Interrupted
from mixaug_jax.training import (
  evaluation,
  parallel,
  provenance,
  records,
  set_measured,
  set_metrics,
)
from mixaug_jax.training import thresholds as thresholds_lib
from mixaug_jax.training.bar import TrainingBar
from mixaug_jax.training.checkpoint import Checkpoints
from mixaug_jax.training.clock import Clock
from mixaug_jax.training.experiment import Experiment
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.preemption import Stopping
from mixaug_jax.training.result import Result
from mixaug_jax.training.state import TrainState
from mixaug_jax.training.step import (
  Batch,
  Metrics,
  make_eval_step,
  make_train_step,
)
from mixaug_jax.training.step_metrics import StepMetrics
from mixaug_jax.training.writers import METRICS_FILE, MetricWriter


class Session:
  """One process's part of a run, from its start or resumption to its end.

  Args:
    exp: the parts of the run.
    workdir: the run directory.
    first: the step that the session starts from, 0 for a new run.
    checkpoints: the checkpoints of the run.
    loop: the state of the loop at `first`.
    writer: where metrics go.
    stopping: whether the run was asked to stop.
  """

  def __init__(
    self,
    exp: Experiment,
    workdir: pathlib.Path,
    first: int,
    checkpoints: Checkpoints,
    loop: LoopState,
    writer: MetricWriter,
    stopping: Stopping,
  ):
    self._exp = exp
    self._workdir = workdir
    self._checkpoints = checkpoints
    self._loop = loop
    self._writer = writer
    self._stopping = stopping
    size, devices = exp.config.batch_size, parallel.devices()
    self._clock = Clock(
      loop.seconds, loop.compile_seconds, loop.evaluation_seconds
    )
    self._bar = TrainingBar(
      *(exp.steps, first, size, self._clock, exp.batches_to_evaluate),
      may_stop=exp.stopping.patience is not None,
    )
    self._metrics = StepMetrics(loop, self._clock, checkpoints, size)
    self._compiled = False
    self._train_step = parallel.train_step(make_train_step(exp.recipe, devices))
    self._eval_step = parallel.eval_step(make_eval_step(exp.recipe, devices))
    self._seed = parallel.replicate(np.uint32(exp.config.seed))
    self._hyperparameters = parallel.replicate(exp.recipe.hyperparameters())
    self._arrays = parallel.replicate(data.device_arrays(exp.datasets.train))
    self._evaluate = functools.partial(
      evaluation.evaluate,
      batch_size=parallel.eval_batch_size(exp.config.evaluate.batch_size),
      check=stopping.check,
    )
    self._evaluated: set[str] = set()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, _: Any, error: BaseException | None, *__: Any) -> None:
    """Removes the progress bar, and records that the run diverged."""
    self._bar.close()
    if isinstance(error, Diverged) and jax.process_index() == 0:
      records.write_diverged(self._workdir, error.step)

  def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Dispatches a training step; the first one compiles and is waited for."""
    run = lambda: self._train_step(
      state, self._seed, self._hyperparameters, self._arrays, batch
    )
    if self._compiled:
      return run()
    self._compiled = True
    if self._bar.disable and jax.process_index() == 0:
      progress.write(
        "compiling the train step; the first time takes seconds for a small "
        "network, and minutes for a large one"
      )
    with self._bar.phase("compiling"), self._clock.compiling():
      done = jax.block_until_ready(run())
    self._stopping.unsaved = True
    return done

  def read_previous(self, step: int, metrics: Metrics) -> None:
    """Reads the metrics of the step before `step`, and keeps those of `step`.

    Raises:
      Diverged: the loss or a parameter became NaN or infinite.
    """
    self._metrics.add(step, metrics)
    self._clock.tick()
    self._bar.update()

  def log(self, step: int, state: TrainState, batch: Batch) -> None:
    """Logs means over the steps since the last line of the log.

    `accuracy` is measured on the last batch as stored: neither augmented nor
    mixed. Label sets have none.
    """
    self._metrics.read()
    means = self._metrics.take(step)
    if label_sets.are_sets(self._exp.datasets.train.labels):
      self._write(step, "train", means)
      return
    with self._pause("measuring"):
      clean = parallel.clean_batch(batch)
      sums, _ = self._eval_step(state.variables, self._arrays, clean)
      sums = jax.device_get(sums)
    means["accuracy"] = float(sums["accuracy"] / sums["count"])
    self._write(step, "train", means)

  def evaluate(self, step: int, state: TrainState) -> None:
    """Evaluates on validation, unless the run had done so before it resumed.

    A signal cuts an evaluation short. The resumed run then makes up for it.
    """
    self._metrics.read()
    if self._loop.last and self._loop.last.step == step:
      return
    of_state = [state.variables, *([] if state.ema is None else [state.ema])]
    batches = len(of_state) * self._exp.eval_batches("validation")
    try:
      with self._evaluating(batches):
        measured, *others = [
          self._measure(variables, "validation")[0] for variables in of_state
        ]
        for each in (measured, *others):
          each.pop("class_accuracy", None)  # The result keeps that of test.
    except Interrupted:
      return
    average = others[0] if others else {}
    best_by = self._exp.config.evaluate.best_by
    if set_measured.of(measured):
      best_by = "mean_average_precision"
    self._loop.evaluated(step, measured, average, best_by)
    watched = (
      average if self._exp.config.evaluate.checkpoint == "ema" else measured
    )
    self._loop.progress.evaluated(
      step, watched[best_by], self._exp.stopping.min_delta
    )
    row = measured | {f"ema_{name}": x for name, x in average.items()}
    del row["examples"]
    row.pop("ema_examples", None)
    self._write(step, "validation", row)

  def stops_early(self, step: int) -> bool:
    """Returns whether the run ends with this step, before its planned length.

    All processes of a run get the same answer.
    """
    exp, loop = self._exp, self._loop
    if exp.stopping.patience is None or not exp.evaluate_at(step):
      return False
    # An evaluation that a signal cut short is made up for when the run resumes.
    evaluated = loop.last is not None and loop.last.step == step
    early = evaluated and step < exp.steps and loop.progress.ends(exp.stopping)
    return bool(parallel.from_first(lambda: "early" * early))

  def saves(self, step: int) -> bool:
    """Returns whether a checkpoint falls on this step."""
    return self._exp.save_at(step) or self._loop.best_step == step

  def save(self, step: int, state: TrainState) -> None:
    """Saves a checkpoint in the background."""
    self._metrics.read()
    with self._pause("saving"):
      # Rows first, because a resumed run does not write them again.
      self._writer.flush()
      rows = self._workdir / METRICS_FILE
      if rows.exists():
        self._loop.metrics_bytes = rows.stat().st_size
      self._checkpoints.save(step, state, self._loop)

  def leave(self, step: int) -> NoReturn:
    """Ends a session that was asked to stop, once its checkpoint is on disk."""
    self._checkpoints.wait()
    raise self._stopping.interrupted(
      f"at step {step}; saved, and the same command goes on from there"
    )

  def finish(self, state: TrainState) -> Result:
    """Evaluates the chosen weights on test, once, and writes the result.

    Raises:
      Interrupted: a signal to stop came meanwhile.
    """
    exp, thresholds, step = self._exp, None, int(state.step)
    test: dict[str, float] | None = None
    self._checkpoints.wait()
    variables = self._chosen(state, step)
    with self._evaluating(exp.eval_batches("validation", "test")):
      _, logits = self._predict(variables, "validation")
      validation = exp.datasets.validation
      if label_sets.are_sets(validation.labels):
        thresholds = thresholds_lib.choose(
          logits, validation.labels, list(exp.datasets.class_names)
        )
      if exp.datasets.test is not None:
        test, logits = self._predict(variables, "test")
        if thresholds:
          test |= set_metrics.at_thresholds(
            logits, exp.datasets.test.labels, thresholds.array()
          )
    if test:
      row = {k: x for k, x in test.items() if k != "class_accuracy"}
      self._write(step, "test", row)
    result = provenance.result(exp, self._loop, test, step, thresholds)
    # Before the result is written: a run that has one is not opened again.
    self._checkpoints.prune()
    self._writer.flush()
    if jax.process_index() == 0:
      records.write_result(self._workdir, result)
    return result

  def _chosen(self, state: TrainState, step: int) -> Any:
    """Returns the variables of `config.evaluate.checkpoint`.

    Args:
      state: after the last step.
      step: the number of that step.
    """
    chosen, best = self._exp.config.evaluate.checkpoint, self._loop.best_step
    if chosen == "ema":
      return state.ema
    if chosen == "best" and best != step:
      restored = self._checkpoints.restore(state, best)
      assert restored is not None  # Otherwise it raises for a given step.
      state, _ = restored
    return state.variables

  def _predict(
    self, variables: Any, name: str
  ) -> tuple[dict[str, Any], np.ndarray]:
    """Evaluates a split and writes predictions_<name>.npz.

    Returns:
      What `evaluation.evaluate` returns.
    """
    measured, logits = self._measure(variables, name, with_logits=True)
    split = getattr(self._exp.datasets, name)
    assert logits is not None  # A split has examples.
    if jax.process_index() == 0:
      records.write_predictions(
        self._workdir, name, logits, split.labels, split.ids
      )
    return measured, logits

  def _measure(
    self, variables: Any, name: str, with_logits: bool = False
  ) -> tuple[dict[str, Any], np.ndarray | None]:
    """Evaluates a split; its first batch compiles, which the clock leaves out.

    JAX returns from the call of a step when it is compiled, and computes later.
    """

    def step(*arguments: Any) -> Any:
      if name in self._evaluated:
        return self._eval_step(*arguments)
      self._evaluated.add(name)
      with self._clock.compiling_evaluation():
        return self._eval_step(*arguments)

    split = getattr(self._exp.datasets, name)
    return self._evaluate(step, variables, split, with_logits=with_logits)

  @contextlib.contextmanager
  def _evaluating(self, batches: int) -> Iterator[None]:
    """A phase of evaluation of some batches."""
    with self._bar.phase("evaluating"), self._clock.evaluating(batches):
      yield
    self._loop.evaluation_seconds = self._clock.evaluation_seconds

  def _write(self, step: int, split: str, metrics: dict[str, float]) -> None:
    scalars = {f"{split}/{name}": value for name, value in metrics.items()}
    self._writer.write_scalars(step, scalars)

  @contextlib.contextmanager
  def _pause(self, name: str) -> Iterator[None]:
    """A phase that the clock leaves out of training."""
    with self._bar.phase(name), self._clock.pause(name):
      yield
