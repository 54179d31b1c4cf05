"""What commands set before JAX meets its devices."""

import os
import subprocess
import sys

import jaxlib.version
import pytest

from mixaug_jax import commandline

# Compiles a convolution and prints its program.
_PROGRAM = """
from mixaug_jax import commandline
commandline.prepare_jax()
import jax
import jax.numpy as jnp
from mixaug_jax.models.convolution import convolve
images, kernel = jnp.zeros((2, 16, 16, 32)), jnp.zeros((3, 3, 32, 32))
run = jax.jit(lambda x, kernel: convolve(x, kernel, 1))
print(run.lower(images, kernel).compile().as_text())
"""


@pytest.mark.skipif(
  jaxlib.version.__version_info__[:2] not in commandline._WITH_YNNPACK,
  reason="this jaxlib is left as it comes",
)
@pytest.mark.parametrize("chosen", [True, False])
def test_convolutions_stay_with_eigen_unless_the_user_chose(chosen, tmp_path):
  env = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
    "XLA_FLAGS": f"{commandline._YNNPACK_FLAG}=+{commandline._CONVOLUTIONS}"
    if chosen
    else "",
  }
  done = subprocess.run(
    [sys.executable, "-c", _PROGRAM],
    env=env,
    capture_output=True,
    text=True,
    check=True,
  )
  assert "convolution" in done.stdout
  assert ("ynn_fusion" in done.stdout) == chosen
