"""Figures of a compiled train step: memory, work, bounds, costs by part."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jaxlib import _jax

from mixaug_jax.costs import hlo
from mixaug_jax.costs.program import Compiled
from mixaug_jax.costs.topologies import Topology
from mixaug_jax.training.step import SCOPES

OTHER = "other"
_OPERATIONS = 10
_WRAPPED = re.compile(
  r"^(?:transpose|jvp|vmap|jit|checkpoint|rematted)\((.*)\)$"
)


@dataclasses.dataclass(frozen=True)
class Transfer:
  """The collective instructions of one kind.

  Attributes:
    kind: such as `all-reduce`.
    count: how many there are.
    bytes: of their results on a device.
    largest: the largest array among them.
  """

  kind: str
  count: int
  bytes: int
  largest: str


@dataclasses.dataclass(frozen=True)
class Cost:
  """The cost of a part or of an operation.

  Attributes:
    name: such as `stage1 backward`.
    cost: cycles where the compiler estimates them, otherwise bytes of operands
      and results.
    share: of the whole step.
  """

  name: str
  cost: int
  share: float


@dataclasses.dataclass(frozen=True)
class Figures:
  """What the compiler reports of the train step of one device.

  Attributes:
    batch_size: examples of a step, over all devices.
    compile_seconds: the time to compile it.
    dtype: that of the computation.
    arguments: bytes of state, batch and stored data.
    temporaries: bytes of intermediate results.
    peak: bytes of arguments, temporaries, the program and those results that
      do not take the place of arguments.
    memory: bytes that the device has for it; None if that is not known.
    fits: whether `peak` is at most that, likewise.
    flops: arithmetic operations.
    bytes_accessed: bytes that instructions read and write.
    cycles: the compiler's estimate; None where it makes none.
    arithmetic_seconds: `flops` at the peak rate of the device, or None.
    memory_seconds: `bytes_accessed` at its bandwidth, or None.
    cycles_seconds: `cycles` at its clock, or None.
    bound_images_per_second: by the larger of the first two times.
    estimated_images_per_second: by `cycles_seconds`.
    collectives: transfers between devices.
    unit: that of the costs, `cycles` or `bytes`.
    parts: the costs by part of the step, the largest first.
    operations: the ten instructions that cost most.
    measured_seconds: the time of a step on a device; None without one.
    measured_images_per_second: by that time.
  """

  batch_size: int
  compile_seconds: float
  dtype: str
  arguments: int
  temporaries: int
  peak: int
  memory: float | None
  fits: bool | None
  flops: float
  bytes_accessed: float
  cycles: int | None
  arithmetic_seconds: float | None
  memory_seconds: float | None
  cycles_seconds: float | None
  bound_images_per_second: float | None
  estimated_images_per_second: float | None
  collectives: Sequence[Transfer]
  unit: str
  parts: Sequence[Cost]
  operations: Sequence[Cost]
  measured_seconds: float | None = None
  measured_images_per_second: float | None = None


def read(
  step: Compiled,
  topology: Topology,
  batch_size: int,
  stages: Sequence[str],
  dtype: str,
) -> Figures:
  """Reads the figures of a compiled step.

  Args:
    step: the compiled step.
    topology: what it was compiled for.
    batch_size: examples of a step, over all devices.
    stages: the names of the stages of the model.
    dtype: that of the computation.
  """
  chip = topology.chip
  memory: Any = step.compiled.memory_analysis()
  arguments = memory.argument_size_in_bytes
  temporaries = memory.temp_size_in_bytes
  peak = arguments + temporaries + memory.generated_code_size_in_bytes
  peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
  flops, accessed = _work(step)
  found = hlo.instructions(step.compiled.as_text() or "")
  cycles = sum(x.cycles or 0 for x in found) or None
  arithmetic = chip.flops and flops / chip.flops
  transfer = chip.bandwidth and accessed / chip.bandwidth
  estimate = cycles / chip.clock if cycles and chip.clock else None
  rate = lambda seconds: batch_size / seconds if seconds else None
  parts, operations = _costs(found, [*SCOPES, *stages], bool(cycles))
  return Figures(
    batch_size=batch_size,
    compile_seconds=step.seconds,
    dtype=dtype,
    arguments=arguments,
    temporaries=temporaries,
    peak=peak,
    memory=chip.memory,
    fits=None if chip.memory is None else peak <= chip.memory,
    flops=flops,
    bytes_accessed=accessed,
    cycles=cycles,
    arithmetic_seconds=arithmetic,
    memory_seconds=transfer,
    cycles_seconds=estimate,
    bound_images_per_second=rate(max(arithmetic or 0, transfer or 0)),
    estimated_images_per_second=rate(estimate),
    collectives=_transfers(found),
    unit="cycles" if cycles else "bytes",
    parts=parts,
    operations=operations,
  )


def _work(step: Compiled) -> tuple[float, float]:
  """Returns the operations and the bytes accessed of a program.

  XLA has no count for a GPU that is not there. Its general count then gives the
  bytes, and the operations before convolutions become calls of a library.
  """
  if cost := step.compiled.cost_analysis():
    return cost["flops"], cost["bytes accessed"]
  client = jax.devices("cpu")[0].client
  executable: Any = step.compiled.runtime_executable()
  (module,) = executable.hlo_modules()
  source: Any = step.lowered.compiler_ir("hlo")
  count = _jax.hlo_module_cost_analysis
  return (
    count(client, source.as_hlo_module())["flops"],
    count(client, module)["bytes accessed"],
  )


def _transfers(found: Iterable[hlo.Instruction]) -> list[Transfer]:
  kinds: dict[str, list[hlo.Instruction]] = collections.defaultdict(list)
  for instruction in found:
    if kind := instruction.collective:
      kinds[kind].append(instruction)
  return [
    Transfer(
      kind=kind,
      count=len(those),
      bytes=sum(x.received for x in those),
      largest=hlo.largest_array(" ".join(x.result for x in those)),
    )
    for kind, those in sorted(kinds.items())
  ]


def _costs(
  found: Sequence[hlo.Instruction], known: Sequence[str], in_cycles: bool
) -> tuple[list[Cost], list[Cost]]:
  """Returns the costs by part, and those of the costliest instructions."""
  of = lambda x: (x.cycles or 0) if in_cycles else x.bytes
  whole = sum(map(of, found)) or 1
  cost = lambda name, n: Cost(name, n, n / whole)
  parts: collections.Counter[str] = collections.Counter()
  for instruction in found:
    parts[part(instruction.path, known)] += of(instruction)
  largest = sorted(found, key=of, reverse=True)[:_OPERATIONS]
  return (
    [cost(*item) for item in parts.most_common() if item[1]],
    [cost(f"{place(x.path, known)}: {x.opcode}", of(x)) for x in largest],
  )


def place(path: str, known: Sequence[str]) -> str:
  """Returns the scopes of an instruction, and its direction in a model.

      >>> place("jit(f)/transpose(jvp(ResNet))/stage1/bn/mul", ["stage1"])
      'stage1/bn/mul backward'

  Args:
    path: as in `hlo.Instruction`.
    known: the names of parts.

  Returns:
    The path from the first name of a part on, or `OTHER`.
  """
  scopes = path.split("/")
  names = [_unwrapped(scope) for scope in scopes]
  first = next((n for n, name in enumerate(names) if name in known), None)
  if first is None:
    return OTHER
  inside = "/".join(names[first:])
  if "transpose(" in path:
    return f"{inside} backward"
  return f"{inside} forward" if "jvp(" in path else inside


def part(path: str, known: Sequence[str]) -> str:
  """Returns the part of a path, as `place`, without what it consists of."""
  inside, space, direction = place(path, known).partition(" ")
  return inside.partition("/")[0] + space + direction


def _unwrapped(scope: str) -> str:
  while match := _WRAPPED.match(scope):
    scope = match[1]
  return scope
