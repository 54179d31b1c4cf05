"""Reads weight files in a process with limits on memory and time.

A hostile file may crash the process that reads it, or never end. Here that is
a failure of one test, which names the file.
"""

import json
import os
import pathlib
import subprocess
import sys

MEMORY = 512 * 2**20  # Bytes of address space, on top of that of the imports.
SECONDS = 60  # Processor time for a file, on a busy machine too.
WAIT = 300  # Seconds for a file; only one that blocks takes longer.


def read(paths):
  """Returns what became of each file.

  Args:
    paths: of the files.

  Returns:
    For each file the sentence that refuses it, or the shape, the dtype and the
    distinct bytes of each array by name. The bytes are None above 1 MB.
  """
  paths = [str(path) for path in paths]
  done = subprocess.run(
    [sys.executable, __file__],
    input="\n".join(paths),
    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    capture_output=True,
    text=True,
    check=False,
  )
  lines = [json.loads(line) for line in done.stdout.splitlines()]
  assert done.returncode == 0, (
    f"reading {paths[len(lines)]} ended with {done.returncode}: "
    f"{done.stderr[-2000:]}"
  )
  return lines


def _describe(array):
  shown = None
  if array.nbytes <= 10**6:
    shown = sorted(set(array.tobytes()))
  return [list(array.shape), str(array.dtype), shown]


def _main():
  import resource
  import signal

  import h5py  # noqa: F401
  import ml_dtypes
  import numpy as np

  from mixaug_jax.errors import UserError
  from mixaug_jax.weights import formats

  paths = sys.stdin.read().splitlines()
  if any(path.endswith(".safetensors") for path in paths):
    import jax
    import safetensors.flax  # noqa: F401

    jax.numpy.zeros(3)
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
  size = pages * resource.getpagesize() + MEMORY
  resource.setrlimit(resource.RLIMIT_AS, (size, size))
  known = str(np.dtype(ml_dtypes.bfloat16))
  for path in paths:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + SECONDS, hard))
    signal.alarm(WAIT)
    try:
      arrays = formats.read(pathlib.Path(path))
    except UserError as error:
      print(json.dumps(str(error)), flush=True)
    else:
      described = {name: _describe(x) for name, x in arrays.items()}
      print(json.dumps(described), flush=True)
    assert str(np.dtype(ml_dtypes.bfloat16)) == known
    assert np.dtype(ml_dtypes.bfloat16).itemsize == 2


if __name__ == "__main__":
  _main()
