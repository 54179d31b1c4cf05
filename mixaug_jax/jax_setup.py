"""JAX's settings: XLA flags and the compilation cache."""

import os

# On a CPU these versions of jaxlib give convolutions to YNNPACK, which needs
# longer for a train step than Eigen. Other versions were not measured and keep
# their defaults, because XLA aborts at an unknown flag.
_WITH_YNNPACK = ((0, 10), (0, 11), (0, 12))
_YNNPACK_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_CONVOLUTIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


def prepare(deterministic: bool = False) -> list[str]:
  """Applies the settings that JAX needs before it initialises its devices.

  Every command starts with it. A program that uses JAX before it trains calls
  it first; then a run has the same bits as one of the command.

  Compiled programs are cached below the user's cache directory, or in
  JAX_COMPILATION_CACHE_DIR.

  Args:
    deterministic: whether GPUs must give the same bits in every run.

  Returns:
    The XLA flags for this backend that come too late, because JAX is in use
    already.
  """
  flags = ["--xla_gpu_deterministic_ops=true"] if deterministic else []
  import jax
  import jaxlib.version
  import platformdirs
  from jax._src import xla_bridge

  if jaxlib.version.__version_info__[:2] in _WITH_YNNPACK:
    flags.append(f"{_YNNPACK_FLAG}=-{_CONVOLUTIONS}")
  given = os.environ.get("XLA_FLAGS", "")
  flags = [flag for flag in flags if flag.partition("=")[0] not in given]
  late: list[str] = []
  if xla_bridge.backends_are_initialized():
    here = f"--xla_{jax.default_backend()}_"
    late = [flag for flag in flags if flag.startswith(here)]
  elif flags:
    os.environ["XLA_FLAGS"] = " ".join(filter(None, [given, *flags]))

  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = platformdirs.user_cache_path("mixaug_jax") / "compilation"
    jax.config.update("jax_compilation_cache_dir", str(cache))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  return late
