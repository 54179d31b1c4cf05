"""Gives the tests four CPU devices and a cache directory of their own."""

import os
import tempfile

# Set before JAX is imported, because JAX reads each of them only once.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
_caches = tempfile.TemporaryDirectory(prefix="mixaug_jax-test-caches-")
os.environ["XDG_CACHE_HOME"] = _caches.name

import hypothesis  # noqa: E402

# The first example compiles, so a deadline would measure the machine.
hypothesis.settings.register_profile(
  "tests", deadline=None, max_examples=25, derandomize=True
)
hypothesis.settings.load_profile("tests")
