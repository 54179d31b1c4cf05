"""The training loop: a run from its config to its result.

A turn of the loop logs, evaluates and saves what is due, draws a batch,
dispatches a step, and reads the metrics of the step before it, so that the
device never waits for the host. `session.py` holds what a turn does.
"""

import contextlib
import pathlib
import sys
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from mixaug_jax import progress
from mixaug_jax.data.identity import Identity
from mixaug_jax.training import (
  experiment,
  lock,
  preemption,
  pretrained,
  processes,
  provenance,
  records,
)
from mixaug_jax.training.checkpoint import Checkpoints, check_path, saved_in
from mixaug_jax.training.experiment import Experiment
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.preemption import Stopping
from mixaug_jax.training.result import Result
from mixaug_jax.training.session import Session
from mixaug_jax.training.state import TrainState
from mixaug_jax.training.writers import open_writers


def train(
  config: ConfigDict,
  workdir: pathlib.Path,
  check_data: Callable[[Identity], None] = lambda identity: None,
) -> Result:
  """Trains, evaluates and writes a run directory; resumes an unfinished one.

  Args:
    config: resolved and checked.
    workdir: the run directory; it is created if it does not exist.
    check_data: is called with what the data are; may raise UserError.

  Returns:
    The content of result.json.

  Raises:
    UserError: a config that cannot run here, a directory of another run, data
      that changed since the run began, or a process of the run that differs.
    Diverged: the loss or a parameter became NaN or infinite.
    Interrupted: a signal to stop came; the state is saved.
  """
  config = pretrained.recalled(config, workdir)
  if records.differences(config, workdir):
    experiment.check(config)  # A mistake in a value is reported first.
  if finished := records.finished_result(config, workdir):
    return finished
  check_path(workdir, writing=True)
  new = not saved_in(workdir)
  stored = records.read_config(workdir)
  exp = experiment.build(config, fetch_weights=new)
  check_data(exp.datasets.identity)
  processes.check_equal(config, exp.datasets.identity)
  if not new:
    records.check_data(workdir, exp.datasets.identity)
  state, loaded = exp.initial_state(pretrained_weights=new)
  with (
    lock.claim(workdir, config),
    Checkpoints(workdir, config.checkpoint.keep) as checkpoints,
    preemption.watch() as stopping,
  ):
    state, loop = checkpoints.restore(state) or (state, LoopState())
    first = int(state.step)
    with open_writers(
      *(workdir, config.log.writers, first, loop.metrics_bytes),
      *(exp.steps, exp.steps_per_epoch),
    ) as writers:
      if jax.process_index() == 0:
        records.write_data(workdir, exp.datasets.identity)
        records.write_skipped(workdir, exp.datasets.skipped)
        text = provenance.describe(exp, loaded, first, stored)
        print(progress.folded(text, sys.stdout), flush=True)
      with Session(
        exp, workdir, first, checkpoints, loop, writers, stopping
      ) as session:
        state = _train(exp, session, state, stopping)
        return session.finish(state)


def _train(
  exp: Experiment, session: Session, state: TrainState, stopping: Stopping
) -> TrainState:
  """Runs the steps that are left, and the events that fall on them."""
  first = int(state.step)
  batch = None
  with contextlib.closing(exp.train_batches(first)) as batches:
    for step in range(first, exp.steps + 1):  # `step` steps are done.
      if exp.log_at(step) and batch is not None:
        session.log(step, state, batch)
      if exp.evaluate_at(step):
        session.evaluate(step, state)
      early = session.stops_early(step)
      stop = step > 0 and stopping.at(step)
      if session.saves(step) or early or stop:
        session.save(step, state)
      if stop:
        session.leave(step)
      if early or step == exp.steps:
        break
      batch = next(batches)
      state, metrics = session.step(state, batch)
      session.read_previous(step + 1, metrics)
  return state
