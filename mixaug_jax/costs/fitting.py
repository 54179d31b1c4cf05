"""The figures of a recipe by batch size, and the largest batch that fits."""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence

from mixaug_jax import config as config_lib
from mixaug_jax.costs import figures, program
from mixaug_jax.costs.figures import Figures
from mixaug_jax.costs.program import DataSize, Program
from mixaug_jax.costs.topologies import Topology

_COMPILES = 3  # To verify the largest batch.
_LESS = 0.9  # The share of the memory to try for after a failure.


@dataclasses.dataclass(frozen=True)
class TooLarge:
  """A step that the compiler could not fit into the memory.

  Attributes:
    batch_size: examples of a step, over all devices.
    reason: the compiler's sentence.
  """

  batch_size: int
  reason: str


@dataclasses.dataclass(frozen=True)
class Largest:
  """The largest batch size that fits.

  Attributes:
    batch_size: the estimate, or the largest size that was compiled and fits.
    verified: whether it was compiled.
    compiled: the sizes that were compiled; between and beyond them, memory is
      taken as linear in the batch size.
  """

  batch_size: int
  verified: bool
  compiled: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Report:
  """What a recipe costs on some devices.

  Attributes:
    recipe: its name.
    model: the name of its model.
    image_size: pixels a side.
    topology: the name of the devices.
    devices: their number.
    data: the size of the data.
    steps: the figures by batch size.
    largest: the largest batch that fits, if it is known.
  """

  recipe: str
  model: str
  image_size: int
  topology: str
  devices: int
  data: DataSize
  steps: Sequence[Figures | TooLarge]
  largest: Largest | None


def report(
  recipe: str,
  overrides: Mapping[str, str],
  sizes: Sequence[int],
  topology: Topology,
  *,
  classes: int | None = None,
  verify: bool = False,
) -> Report:
  """Compiles the train step of a recipe for some batch sizes.

  Args:
    recipe: as for `config.load`.
    overrides: likewise.
    sizes: the batch sizes, over all devices; empty for that of the recipe.
    topology: the devices; `topologies.prepare` returned it.
    classes: as in `program.data_size`.
    verify: whether to compile the largest batch that fits.

  Raises:
    UserError: a mistake in the recipe or a size, before anything compiles.
  """
  config = config_lib.load(recipe, overrides)
  data = program.data_size(config, classes)

  def build(size: int) -> Program:
    values = {**overrides, "batch_size": str(size)}
    return program.build(config_lib.load(recipe, values), topology, data)

  def compiled(size: int) -> Figures | TooLarge:
    print(f"compiling batch {size:,} for {topology.name}", file=sys.stderr)
    return evaluate(build(size), topology, size)

  sizes = sizes or [config.batch_size]
  for size in sizes:
    build(size)
  steps = [compiled(size) for size in sizes]
  most = None
  if memory := topology.chip.memory:
    parts = topology.count * config.optimizer.accumulate
    multiple = math.lcm(parts, config.mix.group_size or 1)
    most = largest(steps, memory, multiple, compiled if verify else None)
  return Report(
    recipe=recipe,
    model=config.model.name,
    image_size=config.data.image_size,
    topology=topology.name,
    devices=topology.count,
    data=data,
    steps=steps,
    largest=most,
  )


def evaluate(
  step: Program, topology: Topology, batch_size: int
) -> Figures | TooLarge:
  """Compiles a step, reads its figures, and measures it if it can run here."""
  compiled = program.compile_step(step, topology)
  if isinstance(compiled, str):
    return TooLarge(batch_size, compiled)
  found = figures.read(compiled, topology, batch_size, step.stages, step.dtype)
  if not topology.present:
    return found
  seconds = program.measure(step, topology)
  return dataclasses.replace(
    found,
    measured_seconds=seconds,
    measured_images_per_second=batch_size / seconds,
  )


def estimate(
  found: Sequence[Figures], memory: float, multiple: int
) -> int | None:
  """Estimates the largest batch size, a multiple of `multiple`, that fits.

  Memory is taken as linear in the batch size: from the smallest to the largest
  size of `found`, or from the arguments alone to the only one.

  Returns:
    The size, or None if not even `multiple` fits.
  """
  low = min(found, key=lambda x: x.batch_size)
  high = max(found, key=lambda x: x.batch_size)
  if low.batch_size == high.batch_size:
    each = (high.peak - high.arguments) / high.batch_size
  else:
    each = (high.peak - low.peak) / (high.batch_size - low.batch_size)
  if each <= 0:
    return None
  size = high.batch_size + (memory - high.peak) / each
  return int(size // multiple) * multiple or None


def largest(
  found: Sequence[Figures | TooLarge],
  memory: float,
  multiple: int,
  compile_size: Callable[[int], Figures | TooLarge] | None = None,
) -> Largest | None:
  """Finds the largest batch size that fits.

  Args:
    found: what was compiled.
    memory: bytes of a device.
    multiple: what the batch size must be a multiple of.
    compile_size: compiles a step of a batch size, to verify the estimate, at
      most 3 times; None to leave it at the estimate.

  Returns:
    The size, or None if none is known to fit.
  """
  tried = [x.batch_size for x in found]
  fitted = [x for x in found if isinstance(x, Figures)]
  size = estimate(fitted, memory, multiple) if fitted else None
  if compile_size is None or size is None:
    return Largest(size, size in tried, tried) if size else None
  for _ in range(_COMPILES):
    if size is None or size in tried:
      break
    tried.append(size)
    result = compile_size(size)
    if isinstance(result, Figures):
      fitted.append(result)
    else:
      memory *= _LESS
    size = estimate(fitted, memory, multiple)
  sizes = [x.batch_size for x in fitted if x.peak <= memory]
  return Largest(max(sizes), True, tried) if sizes else None
