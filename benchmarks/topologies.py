"""Accelerators to compile for that need not be there."""

import os

# The properties of an H100 that the compiler reads (XLA's GpuTargetConfig).
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  device_memory_size: 84942979072 clock_rate_ghz: 1.98
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
PLATFORMS = ("tpu", "cuda", "cpu")
_V5E = {4: "2x2", 8: "2x4", 64: "8x8", 256: "16x16"}


def prepare(platform: str, count: int = 1) -> None:
  """Sets what JAX reads once; to be called before JAX is imported."""
  os.environ["JAX_PLATFORMS"] = "cpu"
  flags = []
  if platform == "cpu":
    flags = [f"--xla_force_host_platform_device_count={count}"]
  elif platform == "cuda":  # There is no GPU to try kernels on.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    flags = ["--xla_gpu_autotune_level=0"]
  else:
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ["XLA_FLAGS"] = " ".join(flags)


def devices(platform: str, count: int):
  """Returns CPU devices, or those of an absent v5e slice or H100 machine.

  Args:
    platform: one of `PLATFORMS`.
    count: of devices; a v5e slice has 4, 8, 64 or 256.
  """
  import jax
  from jax.experimental import topologies

  if platform == "cpu":
    return jax.devices()[:count]
  if platform == "cuda":
    return topologies.get_topology_desc(
      platform="cuda", target_config=H100, topology=f"1x1x{count}"
    ).devices
  return topologies.get_topology_desc(
    platform="tpu",
    topology_name=f"v5e:{_V5E[count]}",
    chips_per_host_bounds=[2, 2, 1],
  ).devices
