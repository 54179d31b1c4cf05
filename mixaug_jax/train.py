"""Training: a run from its config to its result.

A turn of the loop logs, evaluates and saves what is due, draws a batch,
dispatches a step, and reads the metrics of the step before it, so that the
device never waits for the host. `training/session.py` holds what a turn does.
"""

import contextlib
import pathlib

import jax
from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.training import (
  checkpoint,
  experiment,
  lock,
  preemption,
  provenance,
  records,
  writers,
)
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.result import Result
from mixaug_jax.training.session import Session
from mixaug_jax.training.state import TrainState


def train(config: ConfigDict, workdir: pathlib.Path) -> Result:
  """Trains, evaluates and writes a run directory; resumes an unfinished one.

  Args:
    config: resolved and checked.
    workdir: the run directory; it is created if it does not exist.

  Returns:
    The content of result.json.

  Raises:
    UserError: a config that cannot run here, or a directory of another run.
    Diverged: the loss or a parameter became NaN or infinite.
    Interrupted: SIGTERM came; the state is saved.
  """
  if finished := records.finished_result(config, workdir):
    return finished
  new = not checkpoint.saved_in(workdir)
  exp = experiment.build(config, fetch_weights=new)
  state, loaded = exp.initial_state(pretrained_weights=new)
  with contextlib.ExitStack() as stack:
    stack.enter_context(lock.claim(workdir, config_lib.to_json(config)))
    checkpoints = checkpoint.Checkpoints(workdir, config.checkpoint.keep)
    stack.enter_context(checkpoints)
    stopping = stack.enter_context(preemption.watch())
    state, loop = checkpoints.restore(state) or (state, LoopState())
    first = int(state.step)
    opened = stack.enter_context(
      writers.open_writers(
        workdir, config.log.writers, first, loop.metrics_bytes
      )
    )
    if jax.process_index() == 0:
      records.write_skipped(workdir, exp.datasets.skipped)
      print(provenance.describe(exp, loaded, first), flush=True)
    session = Session(exp, workdir, first, checkpoints, loop, opened, stopping)
    stack.enter_context(contextlib.closing(session))
    return session.finish(_train(exp, session, state, stopping))


def _train(
  exp: experiment.Experiment,
  session: Session,
  state: TrainState,
  stopping: preemption.Stopping,
) -> TrainState:
  """Runs the steps that are left, with all that falls on them."""
  first = int(state.step)
  batch = None
  with contextlib.closing(exp.train_batches(first)) as batches:
    for step in range(first, exp.steps + 1):  # `step` steps are done.
      if exp.log_at(step) and batch is not None:
        session.log(step, state, batch)
      if exp.evaluate_at(step):
        session.evaluate(step, state)
      stop = step > 0 and stopping.at(step)
      if session.saves(step) or stop:
        session.save(step, state)
      if stop:
        session.leave(step)
      if step == exp.steps:
        break
      batch = next(batches)
      state, metrics = session.step(state, batch)
      session.read_previous(step + 1, metrics)
  return state
