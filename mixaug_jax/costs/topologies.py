"""Accelerators to compile for, which need not be there.

XLA compiles for a TPU slice by its name and for a GPU by a description of it
(XLA's GpuTargetConfig), on a machine that has neither.
"""

import dataclasses
import importlib.util
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from mixaug_jax import hints
from mixaug_jax.errors import UserError

# The share of a GPU's memory that JAX allocates by default.
_GPU_SHARE = 0.75

# The properties that XLA reads, as in its own files
# xla/backends/gpu/target_config/specs/h100_sxm.txtpb and a100_sxm_80.txtpb.
_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: {shared}
  shared_memory_per_block_optin: {shared_optin}
  core_count: {cores} fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} l2_cache_size: {l2}
  device_memory_size: {memory} clock_rate_ghz: {clock}
  cuda_compute_capability {{ major: {major} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
"""
_H100: dict[str, Any] = {
  **{"shared": 233472, "shared_optin": 232448, "cores": 132, "fpus": 128},
  **{"bandwidth": 3352320000000, "l2": 52428800, "memory": 84942979072},
  **{"clock": 1.98, "major": 9, "name": "NVIDIA H100 80GB HBM3"},
}
_A100: dict[str, Any] = {
  **{"shared": 167936, "shared_optin": 166912, "cores": 108, "fpus": 64},
  **{"bandwidth": 2039040000000, "l2": 41943040, "memory": 85100068864},
  **{"clock": 1.41, "major": 8, "name": "NVIDIA A100-SXM4-80GB"},
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """A kind of device.

  Attributes:
    platform: `cuda`, `tpu` or `cpu`.
    kind: the name by which JAX knows the device.
    flops: peak bfloat16 operations in a second, without sparsity; None if it is
      not known.
    bandwidth: bytes of its memory in a second, likewise.
    memory: bytes that a program may use, likewise.
    clock: cycles of the compiler's estimate in a second, likewise.
    target: its GpuTargetConfig.
    slices: the shapes in which a TPU is offered; empty for any three sides.
  """

  platform: str
  kind: str = ""
  flops: float | None = None
  bandwidth: float | None = None
  memory: float | None = None
  clock: float | None = None
  target: str = ""
  slices: tuple[str, ...] = ()


# Of the TPU v5e and v6e, by the same pages as the rates below.
_SLICES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")

# Peak rates: NVIDIA's data sheets of the H100 SXM and the A100 80GB SXM; Google
# Cloud's pages "TPU v5e", "TPU v5p" and "TPU v6e". The v5e's clock is 1.5 GHz:
# 197 TFLOP/s are 4 matrix units of 128 x 128 times 2 operations a cycle.
CHIPS = {
  "h100": Chip(
    *("cuda", "NVIDIA H100 80GB HBM3", 989e12, 3.35e12),
    memory=_GPU_SHARE * _H100["memory"],
    target=_GPU.format(**_H100),
  ),
  "a100": Chip(
    *("cuda", "NVIDIA A100-SXM4-80GB", 312e12, 2.04e12),
    memory=_GPU_SHARE * _A100["memory"],
    target=_GPU.format(**_A100),
  ),
  "v5e": Chip(
    *("tpu", "TPU v5 lite", 197e12, 819e9, 16e9),
    clock=1.5e9,
    slices=_SLICES,
  ),
  "v5p": Chip("tpu", "TPU v5", 459e12, 2.765e12, 95e9),
  "v6e": Chip("tpu", "TPU v6 lite", 918e12, 1.64e12, 32e9, slices=_SLICES),
  "cpu": Chip("cpu"),
}
_PACKAGES = {
  "cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax[cuda12]"),
  "tpu": ("libtpu", "jax[tpu]"),
}
NAMES = "h100, h100:8, a100, a100:8, v5e:2x4, v5p:2x2x1, v6e:2x4, cpu"


@dataclasses.dataclass(frozen=True)
class Topology:
  """Equal devices that are connected.

  Attributes:
    name: such as `v5e:2x4`, see `parse`.
    chip: their kind.
    count: the number of devices.
    present: whether this machine has them.
  """

  name: str
  chip: Chip
  count: int
  present: bool = False


def parse(name: str) -> Topology:
  """Reads the name of a topology.

  Args:
    name: a key of `CHIPS`, with a number of GPUs or CPU devices (`h100:8`; by
      default 1), or with the sides of a TPU slice (`v5e:2x4`).

  Raises:
    UserError: an unknown name, or a shape that is not offered.
  """
  chip, colon, shape = name.partition(":")
  if chip not in CHIPS:
    near = hints.near(chip, CHIPS)
    raise UserError(
      f"--topology={name}: there is no {chip!r}; "
      + (f"did you mean {near}{colon}{shape}?" if near else f"name {NAMES}")
    )
  kind = CHIPS[chip]
  if slices := kind.slices:
    right = shape in slices
    what = f"one of the slices {', '.join(slices)}"
  elif kind.platform == "tpu":
    right = bool(re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2}", shape))
    what = f"the three sides of a slice, as in {chip}:2x2x1"
  else:
    right = bool(re.fullmatch(r"[1-9]\d{0,3}", shape or "1"))
    what = f"a number of devices, as in {chip}:8"
  if not right:
    raise UserError(f"--topology={name}: {chip} takes {what}")
  sides = [int(side) for side in (shape or "1").split("x")]
  return Topology(name, CHIPS[chip], math.prod(sides))


def prepare(topology: Topology) -> Topology:
  """Sets what JAX reads once; to be called before JAX has devices.

  Returns:
    The topology, with `present` set if it is that of this machine.

  Raises:
    UserError: the plugin of JAX that compiles for it is not installed.
  """
  platform = topology.chip.platform
  flags = []
  if platform == "cpu":
    if topology.count > 1:
      count = f"--xla_force_host_platform_device_count={topology.count}"
      flags.append(count)
  else:
    *modules, package = _PACKAGES[platform]
    if not any(map(importlib.util.find_spec, modules)):
      raise UserError(
        f"--topology={topology.name} needs JAX's compiler for it: "
        f"pip install '{package}'"
      )
    if _is_here(topology):
      return dataclasses.replace(topology, present=True)
    # Only the compiler is used, by any number of processes.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # Any type will do: without one, libtpu prints a warning.
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    if platform == "cuda":  # There is no GPU to try kernels on.
      os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
      flags.append("--xla_gpu_autotune_level=0")
  os.environ["JAX_PLATFORMS"] = "cpu"
  given = os.environ.get("XLA_FLAGS", "")
  os.environ["XLA_FLAGS"] = " ".join(filter(None, [given, *flags]))
  if "jax" in sys.modules:  # It has read the variable.
    import jax

    jax.config.update("jax_platforms", "cpu")
  return dataclasses.replace(topology, present=platform == "cpu")


def _is_here(topology: Topology) -> bool:
  """Returns whether JAX's default devices are of this kind and suffice."""
  # Another process looks, because this one must not start JAX on them.
  asked = subprocess.run(
    [
      *(sys.executable, "-c"),
      "import jax; print(len(jax.devices()), jax.devices()[0].device_kind)",
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  count, _, kind = asked.stdout.strip().partition(" ")
  return kind == topology.chip.kind and topology.count <= int(count)


def devices(topology: Topology) -> Sequence[Any]:
  """Returns the devices of a topology that `prepare` returned.

  Raises:
    UserError: XLA knows no such slice.
  """
  import jax
  from jax.experimental import topologies

  if topology.present:
    return jax.devices()[: topology.count]
  if topology.chip.platform == "cuda":
    return topologies.get_topology_desc(
      platform="cuda",
      target_config=topology.chip.target,
      topology=f"1x1x{topology.count}",
    ).devices
  hosts = [2, 2, 1] if topology.count >= 4 else [1, 1, 1]
  try:
    return topologies.get_topology_desc(
      platform="tpu",
      topology_name=topology.name,
      chips_per_host_bounds=hosts,
    ).devices
  except jax.errors.JaxRuntimeError as error:
    raise UserError(
      f"--topology={topology.name}: XLA has no such slice; hosts have 2x2 "
      f"chips, as in v5p:2x4x4 ({str(error).partition(': ')[2] or error})"
    ) from error
