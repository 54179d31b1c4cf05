"""Gives the tests four CPU devices and caches of their own."""

import ctypes
import gc
import os
import pathlib
import sys
import tempfile

# Set before JAX is imported, because JAX reads each of them only once.
os.environ["JAX_PLATFORMS"] = "cpu"
# Most programs run once, so they are compiled quickly, by one thread each.
# Tests of whole runs set other flags, so that commands compile as users' do.
os.environ["XLA_FLAGS"] = (
  "--xla_force_host_platform_device_count=4"
  " --xla_backend_optimization_level=0"
  " --xla_cpu_parallel_codegen_split_count=1"
)
_caches = tempfile.TemporaryDirectory(prefix="mixaug_jax-test-caches-")
os.environ["XDG_CACHE_HOME"] = _caches.name
# The workers, the commands that they start and later runs share compiled
# programs: a second run takes half the time. `rm -r .pytest_cache` drops them.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
  pathlib.Path(__file__).parent.parent / ".pytest_cache" / "programs"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# The first example compiles, so a deadline would measure the machine.
hypothesis.settings.register_profile(
  "tests", deadline=None, max_examples=25, derandomize=True
)
hypothesis.settings.load_profile("tests")


_MOST_BYTES = 2 * 10**9  # Of a worker, before it frees compiled programs.


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
  """Frees compiled programs after a test, once they take much memory."""
  if sys.platform != "linux":
    return
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  if pages * os.sysconf("SC_PAGE_SIZE") > _MOST_BYTES:
    jax.clear_caches()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what compilation freed.


# Long files start first, so that the workers end at about the same time.
_LONG = ("test_processes", "test_faults", "test_resnet", "test_compare")
_LONG += ("test_stanford_dogs", "test_tfds", "test_commands", "test_parallel")
_LONG += ("test_mixing", "test_train", "test_policies", "test_photometric")
_LONG += ("test_run_weights", "test_vit", "test_geometric")


def pytest_collection_modifyitems(items):
  place = {name: number for number, name in enumerate(_LONG)}
  items.sort(key=lambda item: place.get(item.path.stem, len(_LONG)))
