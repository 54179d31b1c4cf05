"""Cells as tasks of a Ray cluster: a real one, on this machine."""

import concurrent.futures
import multiprocessing
import pathlib
import signal
import socket
import subprocess
import sys
import time
import types

import pytest

from mixaug_jax.comparison.executors import Ray
from mixaug_jax.errors import UserError

pytest.importorskip("ray")
_ROOT = pathlib.Path(__file__).parent.parent
_PROGRAM = """
import os, signal, sys, time
if "--only=b" in sys.argv and "wait" not in sys.argv: sys.exit(3)
def save(*_):
  time.sleep(1)
  print("saved", flush=True)
  os._exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600 if "wait" in sys.argv else 0)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
  """The address of a cluster that ends with the tests."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  ray = [sys.executable, "-m", "ray.scripts.scripts"]
  flags = ["--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
  flags += ["--num-cpus=2", "--num-gpus=0", "--include-dashboard=false"]
  flags += ["--object-store-memory=80000000", "--disable-usage-stats"]
  log = tmp_path_factory.mktemp("ray") / "log"
  with pytest.MonkeyPatch.context() as patch, open(log, "w") as output:
    patch.setenv("PYTHONPATH", str(_ROOT))  # Of the workers, as on a cluster.
    patch.setenv("RAY_worker_niceness", "0")  # 15 starves on a busy machine.
    head = subprocess.Popen(
      [*ray, "start", "--head", *flags],
      stdout=output,
      stderr=subprocess.STDOUT,
    )
    try:
      end = time.monotonic() + 300
      while "Ray runtime started" not in log.read_text():
        assert head.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
      yield f"127.0.0.1:{port}"
    finally:
      head.terminate()
      head.wait(60)


@pytest.fixture(scope="module")
def process(address):
  """A process to use Ray in, because Ray ends one that misses its cluster."""
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    run = lambda *call: pool.submit(*call).result()
    yield run
    run(_disconnect)


@pytest.fixture
def cells(tmp_path):
  return [
    types.SimpleNamespace(name=name, log=tmp_path / f"{name}.log")
    for name in ("a", "b", "c")
  ]


class _Seen(dict):
  """The exit codes by the names of the cells."""

  def started(self, cell):
    self[cell.name] = None

  def ended(self, cell, code):
    self[cell.name] = code


def _train(address, cells, tmp_path):
  executor = Ray(gpus=0, jobs=1, ray_address=address)
  assert executor.at_once(9) == 1
  assert Ray(gpus=0, ray_address=address).at_once(9) == 2
  with pytest.raises(UserError, match="has 0 GPUs and a run needs 1"):
    Ray(ray_address=address).at_once(9)
  executor.train(tmp_path, cells, ["-c", _PROGRAM], seen := _Seen())
  assert seen == {"a": 0, "b": 3, "c": 0}
  assert cells[0].log.read_text() == "ready\n"


def test_cells_are_trained_by_a_cluster(process, address, cells, tmp_path):
  process(_train, address, cells, tmp_path)


def _cancel(address, cells, tmp_path, looks):
  executor, seen = Ray(gpus=0, ray_address=address), _Seen()
  look, end = executor.states, time.monotonic() + 300
  cells[2].log.write_text("of an earlier try\n")

  def printed():
    return [x.log.read_text() if x.log.exists() else "" for x in cells]

  def states(jobs):
    found = look(jobs)
    if executor.over:
      return found
    assert time.monotonic() < end, "it hangs"
    if printed().count("ready\n") == 2 and len(seen) == 2 * looks:
      signal.raise_signal(signal.SIGINT)
    return found if looks else [None] * len(jobs)

  executor.states = states
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    command = ["-c", _PROGRAM, "wait"]
    with pytest.raises(KeyboardInterrupt):
      executor.train(tmp_path, cells, command, seen)
    executor.stop()
  finally:
    signal.signal(signal.SIGINT, before)
  # The cluster has room for two; the other one waited and is not reported.
  assert list(seen.values()) == [128 + signal.SIGTERM] * 2, seen
  for cell, text in zip(cells, printed(), strict=True):
    assert text == ("ready\nsaved\n" if cell.name in seen else "")


@pytest.mark.parametrize("looks", [True, False])
def test_cells_that_are_cancelled_save(
  process, address, cells, tmp_path, looks
):
  process(_cancel, address, cells, tmp_path, looks)


def _disconnect():
  import ray

  ray.shutdown()


def _connect_to_none():
  _disconnect()
  executor = Ray(gpus=0, ray_address="127.0.0.1:1")
  with pytest.raises(UserError, match="is no running Ray cluster"):
    executor.at_once(1)


def test_a_cluster_that_is_not_there_is_a_mistake(process):
  process(_connect_to_none)
