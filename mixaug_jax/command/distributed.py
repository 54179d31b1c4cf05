"""Runs over several processes: detecting them, and joining them.

`jax.distributed.initialize` reads the environment of SLURM, Open MPI, GKE and
TPU pods, but it fails where there is no such environment. So it is called only
where the environment names other processes.
"""

import argparse
import importlib.util
import os
import re
import sys
import threading

from mixaug_jax.errors import UserError, first_line

# Seconds of waiting for the others until a message names the reason.
_PATIENCE_SECONDS = 10.0


def add_flags(flags: argparse.ArgumentParser) -> None:
  """Adds the flags of a run over several processes."""
  group = flags.add_argument_group(
    "several processes",
    "SLURM, Open MPI, GKE and TPU pods need none of these flags",
  )
  group.add_argument("--coordinator_address", metavar="HOST:PORT")
  group.add_argument("--num_processes", type=int, help="of the run")
  group.add_argument("--process_id", type=int, help="from 0 on")


def join(flags: argparse.Namespace) -> None:
  """Joins the other processes of this run, if there are any.

  The flags of `add_flags` name the processes, or the environment does where
  there are no flags, or the address alone. `--num_processes=1` runs a process
  alone in any environment.

  Raises:
    UserError: flags that do not fit together, or no other process was found.
  """
  address, count, index = (
    flags.coordinator_address,
    flags.num_processes,
    flags.process_id,
  )
  _check(address, count, index)
  if count == 1 or (count is None and not several()):
    return
  if count is None and "OMPI_COMM_WORLD_SIZE" in os.environ:
    # JAX knows the variables of Open MPI before release 5 only.
    count = int(os.environ["OMPI_COMM_WORLD_SIZE"])
    index = int(os.environ["OMPI_COMM_WORLD_RANK"])
    if not address and "OMPI_MCA_orte_hnp_uri" not in os.environ:
      raise UserError(
        "this release of Open MPI does not give the address of process 0; add "
        "--coordinator_address=HOST:PORT, with any free port of its host"
      )
  import jax

  waiting = threading.Timer(_PATIENCE_SECONDS, _report_waiting, [address])
  waiting.daemon = True
  waiting.start()
  try:
    jax.distributed.initialize(
      *(address, count, index),
      local_device_ids=local_devices() if flags.process_id is None else [],
    )
  except (ValueError, RuntimeError, OSError) as error:
    raise UserError(
      "the processes of this run do not find each other: "
      f"{first_line(error)}; name them by --coordinator_address, "
      "--num_processes and --process_id, or run this one alone by "
      "--num_processes=1"
    ) from error
  finally:
    waiting.cancel()
  from mixaug_jax.training import parallel

  parallel.connect()


def _report_waiting(address: str | None) -> None:
  """Explains the wait on stderr; when JAX gives up, it prints a stack trace."""
  where = f" at {address}" if address else ""
  print(
    f"mixaug_jax: waiting for the other processes of this run{where}, for 5 "
    "minutes; start them, or check that they have the same address",
    file=sys.stderr,
    flush=True,
  )


def _check(address: str | None, count: int | None, index: int | None) -> None:
  """Raises UserError for flags that contradict each other."""
  if count == 1 and index in (None, 0):
    return
  if (count is None) != (index is None) or (count is not None and not address):
    raise UserError(
      "--coordinator_address, --num_processes and --process_id go together"
    )
  if address and not re.fullmatch(r".+:\d{1,5}", address):
    raise UserError(f"--coordinator_address must be HOST:PORT, got {address!r}")
  if count is not None and count < 1:
    raise UserError(f"--num_processes must be at least 1, got {count}")
  if count is not None and index is not None and not 0 <= index < count:
    raise UserError(
      f"--process_id must be from 0 to --num_processes - 1, {count - 1}, got "
      f"{index}"
    )
  if address and count is None and not several():
    raise UserError(
      "--coordinator_address needs --num_processes and --process_id here: the "
      "environment does not name several processes"
    )


def several() -> bool:
  """Returns whether the environment names several processes of one run."""
  env = os.environ
  # SLURM's variable of the step, not of the job: the commands of a batch
  # script outside `srun` run alone.
  for size in ("OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
    if size in env:
      return env[size] != "1"
  workers = env.get("TPU_PROCESS_ADDRESSES", env.get("TPU_WORKER_HOSTNAMES"))
  if workers is not None:
    return "," in workers or env.get("MEGASCALE_NUM_SLICES", "1") != "1"
  if _on_tpu_of_compute_engine():
    return True  # JAX asks the metadata server, which may name one host only.
  # Indexed jobs of Kubernetes; JAX reads them with its Python client.
  return (
    "JOB_COMPLETION_INDEX" in env
    and "KUBERNETES_SERVICE_HOST" in env
    and importlib.util.find_spec("kubernetes") is not None
  )


def _on_tpu_of_compute_engine() -> bool:
  """Returns whether there are TPU chips with a metadata server to ask."""
  import jax  # noqa: F401 (it looks for chips and sets both variables)

  env = os.environ
  return env.get("TPU_ML_PLATFORM") == "JAX" and "TPU_SKIP_MDS_QUERY" not in env


def local_devices() -> list[int] | None:
  """Returns the GPUs for a process that SLURM or Open MPI started.

  JAX's own choice is one GPU for each process, by its number on the host. That
  is wrong for a process that is alone on its host (jax-ml/jax#16788) and for
  one that sees a single GPU (#28194).

  Returns:
    None for JAX's choice; an empty list for all GPUs that the process sees.
  """
  env = os.environ
  if "JAX_LOCAL_DEVICE_IDS" in env:
    return None
  if "OMPI_COMM_WORLD_LOCAL_SIZE" in env:
    alone = env["OMPI_COMM_WORLD_LOCAL_SIZE"] == "1"
  else:
    tasks = env.get("SLURM_STEP_TASKS_PER_NODE", "")  # Such as 2(x3),1.
    alone = bool(re.fullmatch(r"1(\(x\d+\))?", tasks))
  sees_one = re.fullmatch(r"[^,]+", env.get("CUDA_VISIBLE_DEVICES", ""))
  return [] if alone or sees_one else None
