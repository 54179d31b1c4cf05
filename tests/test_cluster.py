"""Detecting the processes of a run, and what JAX is given then.

The variables are those of the launchers: SLURM 22.05 and Open MPI 4.1 and 5.0
as observed, GKE and TPU pods as `jax._src.clusters` reads them.
"""

import argparse
import threading

import jax
import pytest

from mixaug_jax.command import distributed
from mixaug_jax.errors import UserError

SRUN = {
  "SLURM_JOB_ID": "12",
  "SLURM_STEP_NODELIST": "node[1-2]",
  "SLURM_NTASKS": "2",
  "SLURM_STEP_NUM_TASKS": "2",
  "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
  "SLURM_PROCID": "1",
  "SLURM_LOCALID": "0",
}
OPEN_MPI = {
  "OMPI_COMM_WORLD_SIZE": "2",
  "OMPI_COMM_WORLD_RANK": "1",
  "OMPI_COMM_WORLD_LOCAL_RANK": "1",
  "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
OPEN_MPI_4 = {**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://1.2.3.4"}
TPU_VM = {"TPU_ML_PLATFORM": "JAX"}


@pytest.fixture
def join(monkeypatch):
  """Joins in an environment; returns what `initialize` was called with."""
  for name in {*SRUN, *OPEN_MPI_4, "CUDA_VISIBLE_DEVICES"}:
    monkeypatch.delenv(name, raising=False)
  # JAX sets it where it found no TPU chips.
  monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
  calls = []

  def initialize(*args, **options):
    calls.append((args, options["local_device_ids"]))

  monkeypatch.setattr(jax.distributed, "initialize", initialize)

  def join(environment=None, *argv):
    for name, value in (environment or {}).items():
      monkeypatch.setenv(name, value)
    flags = argparse.ArgumentParser()
    distributed.add_flags(flags)
    distributed.join(flags.parse_args(argv))
    return calls[0] if calls else None

  return join


@pytest.mark.parametrize(
  "environment",
  [
    {},
    {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},  # srun --pty bash
    {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # sbatch
    {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"},
    {**TPU_VM, "TPU_WORKER_HOSTNAMES": "localhost"},
    {**TPU_VM, "TPU_PROCESS_ADDRESSES": "local"},  # Kaggle
    {**TPU_VM, "TPU_SKIP_MDS_QUERY": "1"},
    {"TPU_SKIP_MDS_QUERY": "1"},  # No chips.
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},  # A pod without an index.
  ],
)
def test_one_process_joins_nothing(join, environment):
  assert join(environment) is None


@pytest.mark.parametrize(
  "environment",
  [
    {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8(x4)"},
    {"TPU_WORKER_HOSTNAMES": "t1k-0,t1k-1"},
    {"TPU_PROCESS_ADDRESSES": "localhost:8476,localhost:8477"},
    {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"},
    TPU_VM,  # Its metadata server knows of the others.
  ],
)
def test_jax_decides_where_there_may_be_several(join, environment):
  assert join(environment) == ((None, None, None), None)


def test_an_indexed_pod_is_one_of_several_with_the_client_of_kubernetes(
  join, monkeypatch
):
  pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
  assert join(pod) is None
  monkeypatch.setattr(
    distributed.importlib.util, "find_spec", lambda name: name == "kubernetes"
  )
  assert join(pod) == ((None, None, None), None)


@pytest.mark.parametrize(
  ("environment", "devices"),
  [
    (SRUN, []),  # Alone on its host: all GPUs.
    ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, None),  # One each.
    ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "2,1"}, None),
    (
      {  # srun --gpus-per-task=1
        **SRUN,
        "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
        "CUDA_VISIBLE_DEVICES": "0",
      },
      [],
    ),
    ({**SRUN, "JAX_LOCAL_DEVICE_IDS": "0,1"}, None),  # JAX reads it.
  ],
)
def test_which_gpus_a_process_takes(join, environment, devices):
  assert join(environment)[1] == devices


def test_open_mpi_before_version_5_names_all_processes(join):
  assert join(OPEN_MPI_4) == ((None, 2, 1), None)


def test_open_mpi_5_does_not_give_the_address_of_process_0(join):
  with pytest.raises(UserError, match="add --coordinator_address"):
    join(OPEN_MPI)
  actual = join({}, "--coordinator_address=node1:1234")
  assert actual == (("node1:1234", 2, 1), None)


def test_the_launcher_that_started_the_process_counts(join):
  """mpirun starts a daemon on each host by srun, which starts processes."""
  assert join({**SRUN, **OPEN_MPI_4})[1] is None


def test_flags_replace_the_environment(join):
  argv = ("--coordinator_address=h:1", "--num_processes=2", "--process_id=1")
  assert join(SRUN, *argv) == (("h:1", 2, 1), [])


def test_one_process_by_flag_in_any_environment(join):
  assert join(SRUN, "--num_processes=1") is None


@pytest.mark.parametrize(
  ("argv", "sentence"),
  [
    (["--num_processes=2"], "go together"),
    (["--process_id=1"], "go together"),
    (["--num_processes=2", "--process_id=1"], "go together"),
    (["--coordinator_address=h:1", "--num_processes=2"], "go together"),
    (["--coordinator_address=h:1"], "does not name several processes"),
    (
      ["--coordinator_address=h", "--num_processes=2", "--process_id=1"],
      "HOST:PORT",
    ),
    (
      ["--coordinator_address=h:1", "--num_processes=2", "--process_id=2"],
      "from 0 to --num_processes - 1, 1, got 2",
    ),
    (
      ["--coordinator_address=h:1", "--num_processes=0", "--process_id=0"],
      "--num_processes must be at least 1",
    ),
  ],
)
def test_contradicting_flags_are_refused(join, argv, sentence):
  with pytest.raises(UserError, match=sentence):
    join({}, *argv)


def test_an_error_of_jax_becomes_one_sentence(join, monkeypatch):
  def initialize(*_, **__):
    raise ValueError("coordinator_address should be defined.\nmore")

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  with pytest.raises(UserError, match="do not find each other") as caught:
    join(SRUN)
  assert "more\n" not in str(caught.value)


def test_a_long_wait_is_explained(join, monkeypatch, capsys):
  monkeypatch.setattr(distributed, "_PATIENCE_SECONDS", 0.01)
  explain, explained = distributed._report_waiting, threading.Event()
  monkeypatch.setattr(
    *(distributed, "_report_waiting"),
    lambda address: (explain(address), explained.set()),
  )
  initialize = lambda *_, **__: explained.wait(600)
  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  argv = ("--coordinator_address=h:1", "--num_processes=2", "--process_id=1")
  join({}, *argv)
  assert "waiting for the other processes" in capsys.readouterr().err
