"""The training loop, to be read from top to bottom.

The order of a step: dispatch it, then read the numbers of the one before, so
that the device never waits for the host. Where the log, an evaluation or a
checkpoint wants the newest numbers, the step is waited for.
"""

import contextlib
import json
import pathlib
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import data
from mixaug_jax.errors import Diverged, Interrupted
from mixaug_jax.training import (
  evaluation,
  experiment,
  lock,
  parallel,
  preemption,
  provenance,
  records,
)
from mixaug_jax.training.checkpoint import CHECKPOINTS, Checkpoints
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.result import Result
from mixaug_jax.training.state import TrainState
from mixaug_jax.training.step import make_eval_step, make_train_step
from mixaug_jax.training.writers import (
  METRICS_FILE,
  Progress,
  metric_writers,
  open_writers,
)


def train(config: ConfigDict, workdir: pathlib.Path) -> Result:
  """Trains, evaluates and writes a run directory; resumes an unfinished one.

  Args:
    config: resolved and checked.
    workdir: the run directory; created when nothing stands against it.

  Returns:
    What result.json holds.

  Raises:
    UserError: a config that cannot run here, or a directory of another run.
    Diverged: the loss or a parameter became NaN or infinite.
    Interrupted: SIGTERM; the state is saved.
  """
  if finished := records.finished_result(config, workdir):
    return finished
  new = not any((workdir / CHECKPOINTS).glob("[0-9]*"))
  exp = experiment.build(config, fetch_weights=new)
  state, loaded = exp.initial_state(pretrained_weights=new)
  primary = jax.process_index() == 0
  with contextlib.ExitStack() as stack:
    stack.enter_context(lock.claim(workdir, config_lib.to_json(config)))
    loop = LoopState()
    checkpoints = Checkpoints(workdir, config.checkpoint.keep)
    stack.enter_context(checkpoints)
    stopping = stack.enter_context(preemption.watch())
    if restored := checkpoints.restore(parallel.to_global(state)):
      state, loop = parallel.to_local(restored[0]), LoopState(**restored[1])
    progress = Progress(exp.steps, config.batch_size)
    stack.callback(progress.clear)
    first = int(state.step)
    writer = stack.enter_context(
      open_writers(workdir, first, loop["metrics_bytes"], progress, primary)
    )
    if primary:
      records.write_skipped(workdir, exp.datasets.skipped)
      resuming = f"resuming from step {first}" if first else None
      told = filter(None, (provenance.describe(exp), loaded, resuming))
      print("\n".join(told), flush=True)
    run = _Run(exp, workdir, checkpoints, loop, writer, progress, stopping)
    return run.finish(run.steps(state))


class _Run:
  """The compiled steps and the bookkeeping around them."""

  def __init__(
    self,
    exp: experiment.Experiment,
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
    loop: LoopState,
    writer: metric_writers.MetricWriter,
    progress: Progress,
    stopping: preemption.Stopping,
  ):
    self._exp = exp
    self._workdir = workdir
    self._checkpoints = checkpoints
    self._loop = loop
    self._writer = writer
    self._progress = progress
    self._stopping = stopping
    devices = parallel.devices()
    self._train_step = parallel.train_step(make_train_step(exp.recipe, devices))
    self._eval_step = parallel.eval_step(make_eval_step(exp.recipe, devices))
    self._seed = parallel.replicate(np.uint32(exp.config.seed))
    self._earlier_seconds = loop["seconds"]
    self._since = (0, 0.0)
    config = exp.config
    self._evaluate_at = exp.due(config.evaluate.every_epochs)
    self._save_at = exp.due(
      config.checkpoint.every_epochs or config.evaluate.every_epochs
    )
    if every := config.checkpoint.every_steps:
      self._save_at = lambda step: step % every == 0 or step == exp.steps

  def steps(self, state: TrainState) -> TrainState:
    """Runs the steps that are left."""
    exp, config = self._exp, self._exp.config
    arrays = parallel.replicate(data.device_arrays(exp.datasets.train))
    first = int(state.step)
    batches = data.train_batches(
      exp.datasets.train,
      batch_size=config.batch_size,
      seed=config.seed,
      start_step=first,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      place=parallel.shard,
    )
    pending = None
    with contextlib.closing(batches):
      if first:
        self._settle(first, state, False)
      for step in range(first + 1, exp.steps + 1):
        batch = next(batches)
        if step == first + 1:
          state, measured = self._compile(state, arrays, batch)
        else:
          state, measured = self._train_step(state, self._seed, arrays, batch)
        if pending:
          self._read(*pending)
        pending = (step, measured)
        self._progress.update(step)
        logging = step % config.log.every_steps == 0
        stopping = self._stopping.at(step)
        marked = self._evaluate_at(step) or self._save_at(step)
        if logging or marked or stopping:
          self._read(*pending)
          pending = None
        if logging:
          self._log(step, state, arrays, batch)
        if marked or stopping:
          self._settle(step, state, stopping)
    return state

  def _settle(self, step: int, state: TrainState, stopping: bool) -> None:
    """Evaluates and saves what is due at a step; leaves if asked to stop.

    An evaluation that is cut short is made good when the run resumes.
    """
    last = self._loop["last"]
    if self._evaluate_at(step) and not (last and last["step"] == step):
      try:
        self._evaluate(step, state)
      except Interrupted:
        stopping = True
    if self._save_at(step) or stopping or self._loop.best_step == step:
      self._save(step, state)
    if stopping:
      self._checkpoints.wait()
      raise Interrupted(
        f"stopped by SIGTERM at step {step}; saved, and the same command goes "
        "on from there"
      )

  def finish(self, state: TrainState) -> Result:
    """Evaluates the chosen weights on test, once, and writes the result."""
    exp, loop, workdir = self._exp, self._loop, self._workdir
    primary = jax.process_index() == 0
    chosen = exp.config.evaluate.checkpoint
    self._checkpoints.wait()
    variables = state.variables
    if chosen == "ema":
      variables = state.ema
    elif chosen == "best" and loop.best_step != exp.steps:
      restored = self._checkpoints.restore(
        parallel.to_global(state), loop.best_step
      )
      variables = parallel.to_local(restored[0]).variables
    measured = {}
    with self._progress.pause("evaluating"):
      for name in ("validation", "test"):
        split = getattr(exp.datasets, name)
        if split is None:
          continue
        measured[name], logits = self._measure(variables, split, True)
        if primary:
          records.write_predictions(
            workdir, name, logits, split.labels, split.ids
          )
    test = measured.get("test")
    if test:
      self._write(exp.steps, "test", test)
    result = loop.result(exp, test)
    # Before the result: a run that has one is over, and nobody comes back.
    self._checkpoints.prune()
    if primary:
      records.write_text(
        workdir / records.RESULT_FILE,
        json.dumps(result.to_json(), indent=2) + "\n",
      )
    return result

  def _compile(self, state, arrays, batch):
    """The first step, whose time is compilation's and counts as such."""
    begin = time.monotonic()
    with self._progress.pause("compiling"):
      state, measured = self._train_step(state, self._seed, arrays, batch)
      jax.block_until_ready(measured)
    self._loop["compile_seconds"] += time.monotonic() - begin
    self._progress.begin()
    return state, measured

  def _read(self, step: int, measured: dict[str, jax.Array]) -> None:
    """Adds a step's numbers to the window of the log; stops at a NaN."""
    values = {name: float(x) for name, x in jax.device_get(measured).items()}
    if not values.pop("finite"):
      saved = self._checkpoints.steps()
      good = (
        f"the last good checkpoint is that of step {saved[-1]}"
        if saved
        else "there is no checkpoint yet"
      )
      raise Diverged(
        f"the loss is {values['loss']} at step {step} and training cannot go "
        f"on; {good}; try a lower config.optimizer.learning_rate"
      )
    self._loop.add(values)
    self._loop["seconds"] = self._earlier_seconds + self._progress.seconds()

  def _log(self, step, state, arrays, batch) -> None:
    """Writes the window, and the accuracy on this batch as it is stored."""
    means, seconds = self._loop.take_means(), self._progress.seconds()
    since, self._since = self._since, (step, seconds)
    if since[0]:
      images = (step - since[0]) * self._exp.config.batch_size
      means["images_per_second"] = images / max(seconds - since[1], 1e-9)
    with self._progress.pause("measuring"):
      clean = parallel.clean_batch(batch)
      sums = jax.device_get(self._eval_step(state.variables, arrays, clean)[0])
    means["accuracy"] = float(sums["accuracy"] / sums["count"])
    self._write(step, "train", means)

  def _evaluate(self, step: int, state: TrainState) -> None:
    split = self._exp.datasets.validation
    with self._progress.pause("evaluating"):
      measured, _ = self._measure(state.variables, split)
      average = None
      if state.ema is not None:
        average, _ = self._measure(state.ema, split)
    self._loop.evaluated(step, measured, average)
    if average:
      measured |= {f"ema_{name}": value for name, value in average.items()}
      del measured["ema_examples"]
    del measured["examples"]
    self._write(step, "validation", measured)

  def _measure(self, variables, split, with_logits=False):
    config = self._exp.config
    return evaluation.evaluate(
      self._eval_step,
      variables,
      split,
      batch_size=config.evaluate.batch_size,
      with_logits=with_logits,
      interrupted=self._stopping.now,
    )

  def _write(self, step: int, split: str, metrics: dict[str, float]) -> None:
    self._writer.write_scalars(
      step, {f"{split}/{name}": value for name, value in metrics.items()}
    )

  def _save(self, step: int, state: TrainState) -> None:
    """Rows first: what a checkpoint counts as done must be on disk."""
    with self._progress.pause("saving"):
      self._writer.flush()
      metrics = self._workdir / METRICS_FILE
      if metrics.exists():
        self._loop["metrics_bytes"] = metrics.stat().st_size
      self._checkpoints.save(
        step,
        parallel.to_global(state),
        dict(self._loop),
        self._loop.best_step,
      )
