"""Experiment trackers as writers of metrics: Weights & Biases and MLflow.

The run of a tracker has an id, which the run directory keeps, so that a resumed
run goes on in it. Which server, project and account it belongs to is set by the
environment variables of the tracker.
"""

import functools
import importlib
import json
import os
import pathlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import files, progress
from mixaug_jax.errors import UserError, first_line
from mixaug_jax.training import records
from mixaug_jax.training.scalar_writer import ScalarWriter

_PROJECT = "mixaug_jax"  # Where the environment names no other.
_MOST_PARAMETERS = 100  # That MLflow takes in one request.


class Tracker(Protocol):
  """A writer whose run takes a page as well; called like all writers."""

  def __call__(
    self, workdir: pathlib.Path, first_step: int
  ) -> ScalarWriter: ...

  def attach(self, workdir: pathlib.Path, page: pathlib.Path) -> None:
    """Adds a page to the tracker's run of a run directory."""
    ...


class WandbWriter(ScalarWriter):
  """Writes to Weights & Biases, to the project of WANDB_PROJECT.

  A step that a resumed run repeats is logged twice, with equal values.
  """

  def __init__(self, workdir: pathlib.Path, first_step: int):
    del first_step
    self._workdir, self._run = workdir, _wandb_run(workdir)
    self._run.define_metric("*", step_metric="step")

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    values = {name: float(value) for name, value in scalars.items()}
    self._run.log({"step": step, **values})

  def close(self) -> None:
    self._run.finish(exit_code=0 if _is_finished(self._workdir) else 1)

  @classmethod
  def attach(cls, workdir: pathlib.Path, page: pathlib.Path) -> None:
    run = _wandb_run(workdir)
    run.log({"report": _wandb().Html(str(page), inject=False)})
    run.finish()


# Extras, which need not be installed.
_wandb = functools.partial(importlib.import_module, "wandb")
_mlflow = functools.partial(importlib.import_module, "mlflow")


def _wandb_run(workdir: pathlib.Path) -> Any:
  wandb = _wandb()
  return wandb.init(
    id=_kept_id(workdir / "wandb.json", lambda: secrets.token_hex(4)),
    resume="allow",
    project=os.environ.get("WANDB_PROJECT", _PROJECT),
    name=workdir.name,
    config=_hyperparameters(workdir),
    allow_val_change=True,
    dir=workdir,
    settings=wandb.Settings(silent=True, console="off"),
  )


class MlflowWriter(ScalarWriter):
  """Writes to MLflow, to the experiment of MLFLOW_EXPERIMENT_NAME.

  MLflow answers every request. While it fails, training goes on, and a warning
  names the first failure.
  """

  def __init__(self, workdir: pathlib.Path, first_step: int):
    del first_step
    self._workdir, self._warned = workdir, False
    self._client, self._id = _mlflow_run(workdir)
    self._client.update_run(self._id, status="RUNNING")

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    now = int(1000 * time.time())
    metrics = [
      _mlflow().entities.Metric(name, float(value), now, step)
      for name, value in scalars.items()
    ]
    self._try(lambda: self._client.log_batch(self._id, metrics=metrics))

  def close(self) -> None:
    status = "FINISHED" if _is_finished(self._workdir) else "KILLED"
    if (self._workdir / records.DIVERGED_FILE).exists():
      status = "FAILED"
    self._try(lambda: self._client.set_terminated(self._id, status))

  def _try(self, request: Callable[[], None]) -> None:
    try:
      request()
    except _mlflow().exceptions.MlflowException as error:
      if not self._warned:
        progress.write(
          f"warning: MLflow does not take the metrics ({first_line(error)}); "
          "metrics.jsonl has them all"
        )
      self._warned = True

  @classmethod
  def attach(cls, workdir: pathlib.Path, page: pathlib.Path) -> None:
    client, run_id = _mlflow_run(workdir)
    client.log_artifact(run_id, str(page))


def _mlflow_run(workdir: pathlib.Path) -> tuple[Any, str]:
  client = _mlflow().MlflowClient()

  def create() -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
    there = client.get_experiment_by_name(name)
    experiment = (
      there.experiment_id if there else client.create_experiment(name)
    )
    return client.create_run(experiment, run_name=workdir.name).info.run_id

  path = workdir / "mlflow.json"
  new = not path.exists()
  run_id = _kept_id(path, create)
  if new:  # Parameters of MLflow never change.
    values = _hyperparameters(workdir).items()
    parameters = [
      _mlflow().entities.Param(name, str(value)) for name, value in values
    ]
    for first in range(0, len(parameters), _MOST_PARAMETERS):
      some = parameters[first : first + _MOST_PARAMETERS]
      client.log_batch(run_id, params=some)
  return client, run_id


# By the name of the package, which is that of the extra as well.
TRACKERS: dict[str, Tracker] = {"wandb": WandbWriter, "mlflow": MlflowWriter}


def attach(workdir: pathlib.Path, page: pathlib.Path, names: str) -> list[str]:
  """Adds a page to the trackers that a run wrote to.

  Args:
    workdir: the run directory.
    page: an HTML file.
    names: `config.log.writers`.

  Returns:
    A sentence for each tracker that failed.
  """
  failures = []
  for name in (name.strip() for name in names.split(",")):
    if name in TRACKERS and (workdir / f"{name}.json").exists():
      try:
        TRACKERS[name].attach(workdir, page)
      except Exception as error:  # Of the tracker, its network or its server.
        failures.append(f"{name} does not have the page: {first_line(error)}")
  return failures


def _kept_id(path: pathlib.Path, create: Callable[[], str]) -> str:
  """Returns the id that a file keeps, or a new one, which it then keeps."""
  try:
    kept = json.loads(files.read_text(path))["id"]
  except FileNotFoundError:
    kept = create()
    records.write_text(path, json.dumps({"id": kept}) + "\n")
  except (ValueError, KeyError, TypeError):
    kept = None
  if not isinstance(kept, str) or not re.fullmatch(r"\w+", kept):
    raise UserError(f"{path} is damaged; delete it to start a new run there")
  return kept


def _hyperparameters(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the config of a run by dotted keys."""
  config = records.read_config(workdir)
  return {} if config is None else config_lib.leaves(ConfigDict(config))


def _is_finished(workdir: pathlib.Path) -> bool:
  return (workdir / records.RESULT_FILE).exists()
