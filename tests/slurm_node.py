"""A SLURM cluster of one node, this machine, as the current user."""

import contextlib
import getpass
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

_CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
ReturnToService=2
MailProg=/bin/true
NodeName=localhost CPUs={cpus}
PartitionName=main Nodes=ALL Default=YES
"""
# Debian keeps them where only root looks.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
INSTALLED = all(shutil.which(name, path=_PATH) for name in _PROGRAMS)


@contextlib.contextmanager
def running() -> Iterator[None]:
  """Runs the cluster, which SLURM's programs find by `SLURM_CONF`.

  Raises:
    RuntimeError: it does not start; the message ends with the logs.
  """
  # The name of a socket must be short.
  with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
    root = pathlib.Path(folder)
    root.chmod(0o755)  # Otherwise munged refuses it.
    for name in ("state", "spool"):
      (root / name).mkdir()
    config = root / "slurm.conf"
    config.write_text(
      _CONFIG.format(
        user=getpass.getuser(),
        root=root,
        ports=_free_ports(),
        cpus=os.cpu_count(),
      )
    )
    key = root / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(config)
    try:
      _start("munged", "--force", "--num-threads=1", *_munge(root))
      _start("slurmctld", "-c")
      _start("slurmd", "-c", "-N", "localhost")
      _wait_until_idle(root)
      yield
    finally:
      subprocess.run(["scancel", "--user", getpass.getuser()], check=False)
      _end(root)
      if before is None:
        del os.environ["SLURM_CONF"]
      else:
        os.environ["SLURM_CONF"] = before


def _munge(root: pathlib.Path) -> list[str]:
  names = {"socket": "socket", "key-file": "key", "pid-file": "pid"}
  names |= {"log-file": "log", "seed-file": "seed"}
  return [f"--{flag}={root}/munge.{end}" for flag, end in names.items()]


def _free_ports() -> list[int]:
  with socket.socket() as one, socket.socket() as other:
    for each in (one, other):
      each.bind(("localhost", 0))
    return [each.getsockname()[1] for each in (one, other)]


def _start(name: str, *flags: str) -> None:
  """Starts a daemon, which leaves its process id in a file."""
  program = shutil.which(name, path=_PATH)
  assert program
  subprocess.run([program, *flags], check=True)


def _wait_until_idle(root: pathlib.Path) -> None:
  end = time.monotonic() + 120
  while time.monotonic() < end:
    state = subprocess.run(
      ["sinfo", "--noheader", "--format=%T"],
      capture_output=True,
      text=True,
      check=False,
    )
    if state.stdout.strip() == "idle":
      return
    time.sleep(0.2)
  logs = "\n".join(path.read_text() for path in root.glob("*.log"))
  raise RuntimeError(f"SLURM does not start\n{logs}")


def _end(root: pathlib.Path) -> None:
  for name in ("slurmd", "slurmctld", "munge"):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
      number = int((root / f"{name}.pid").read_text())
      os.kill(number, signal.SIGTERM)
      for _ in range(100):
        os.kill(number, 0)
        time.sleep(0.1)
