"""Four CPU devices, and caches of this test session's own."""

import os
import tempfile

# Before JAX is imported: both are read once.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
_caches = tempfile.TemporaryDirectory(prefix="mixaug_jax-test-caches-")
os.environ["XDG_CACHE_HOME"] = _caches.name

import hypothesis  # noqa: E402

# The first example compiles; a deadline would measure the machine.
hypothesis.settings.register_profile(
  "tests", deadline=None, max_examples=25, derandomize=True
)
hypothesis.settings.load_profile("tests")
