"""JAX's settings: XLA flags, the compilation cache, several processes."""

import argparse
import os

from mixaug_jax.command import distributed

# On a CPU these versions of jaxlib give convolutions to YNNPACK, which needs
# longer for a train step than Eigen. Other versions were not measured and keep
# their defaults, because XLA aborts at an unknown flag.
_WITH_YNNPACK = ((0, 10), (0, 11), (0, 12))
_YNNPACK_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_CONVOLUTIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


def prepare(
  deterministic: bool = False, flags: argparse.Namespace | None = None
) -> None:
  """Applies the settings that JAX needs before it initialises its devices.

  Compiled programs are cached below the user's cache directory, or in
  JAX_COMPILATION_CACHE_DIR.

  Args:
    deterministic: whether GPUs must give the same bits in every run.
    flags: the flags of `distributed.add_flags`, with which this process joins
      the other processes of its run; None: a process that runs alone.

  Raises:
    UserError: see `distributed.join`.
  """
  if deterministic:
    _add_xla_flag("--xla_gpu_deterministic_ops=true")
  import jax
  import jaxlib.version
  import platformdirs

  chosen = _YNNPACK_FLAG in os.environ.get("XLA_FLAGS", "")
  if jaxlib.version.__version_info__[:2] in _WITH_YNNPACK and not chosen:
    _add_xla_flag(f"{_YNNPACK_FLAG}=-{_CONVOLUTIONS}")

  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = platformdirs.user_cache_path("mixaug_jax") / "compilation"
    jax.config.update("jax_compilation_cache_dir", str(cache))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  if flags is not None:
    distributed.join(flags)


def _add_xla_flag(flag: str) -> None:
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
